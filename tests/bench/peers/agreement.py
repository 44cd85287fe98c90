"""Whether two simulators mean the same, as far as their runs can tell.

Every figure is a mean over batches of faults. The batches are far longer than what the device
remembers (its line forgets within some 700 faults), so they count as independent, and two means
may differ by Student's t times the standard error of their difference (Welch). No more is
granted: where a rule of the engine is left out of the twins, its effect has to be below that.
That is narrow enough to tell a twin in C++ whose spinning writers keep readers out of mmap_lock,
whose readers get a released lock before writers do, or whose VMAs are not drained (tried: it is
off by 12, 17 and 100 % in what shows it most, and may be by 4 to 6). All runs are decided by their
seeds, so a verdict changes only with the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import mean, variance

from tests.bench.peers.load import Batch

# Two-sided 99.99 % for 23 degrees of freedom; Welch's are never fewer than the smaller sample has,
# and no sample has fewer than 24 batches. One of 8 figures of 3 twins at 3 sizes is further off by
# chance with one set of seeds in a hundred.
STUDENT_T = 4.69
BATCHES_MIN = 24
MARGIN_MAX = 0.2  # of the mean: a wider net tells nothing

FIGURES: dict[str, Callable[[Batch], float]] = {
    "ns between faults": lambda batch: batch.simulated_ns / batch.faults,
    "ns a fault": lambda batch: batch.fault_ns / batch.faults,
    "ns at the device, a fault": lambda batch: batch.device_ns / batch.faults,
    "ns for mmap_lock, a fault": lambda batch: batch.mmap_wait_ns / batch.faults,
    "mmap_lock reads a fault": lambda batch: batch.mmap_reads / batch.faults,
    "VMA lock failures a fault": lambda batch: batch.vma_failures / batch.faults,
    "ns for mmap_lock, a write": lambda batch: batch.write_wait_ns / batch.writes,
    "ns of drain, a write": lambda batch: batch.drain_ns / batch.writes,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of ours beside the same of a twin."""

    threads: int
    figure: str
    twin: str
    ours: float
    theirs: float
    margin: float  # by which they may differ

    @property
    def agrees(self) -> bool:
        return abs(self.theirs - self.ours) <= self.margin <= MARGIN_MAX * self.ours


def compare(threads: int, ours: list[Batch], twin: str, theirs: list[Batch]) -> list[Comparison]:
    """Compare all figures of two simulators."""
    assert min(len(ours), len(theirs)) >= BATCHES_MIN, "Student's t was taken for more batches"
    comparisons = []
    for name, figure in FIGURES.items():
        left, right = [figure(batch) for batch in ours], [figure(batch) for batch in theirs]
        margin = STUDENT_T * sqrt(variance(left) / len(left) + variance(right) / len(right))
        comparisons.append(Comparison(threads, name, twin, mean(left), mean(right), margin))
    return comparisons
