"""Means that are the same agree, others do not, and nor do those of too few faults."""

from random import Random

from tests.bench.peers.agreement import BATCHES_MIN, Comparison, compare
from tests.bench.peers.load import Batch

SPREAD = 0.02  # of a batch, as a part of the mean


def some_batches(seed: int, drain_ns: float = 1e6, spread: float = SPREAD) -> list[Batch]:
    """Make batches of a thousand faults and as many writes whose sums are a million, or nearly."""
    draw = Random(seed)

    def around(mean: float) -> int:
        return round(draw.gauss(mean, spread * mean))

    return [
        Batch(
            cpu_s=1.0,
            simulated_ns=around(1e6),
            faults=1000,
            fault_ns=around(1e6),
            device_ns=around(1e6),
            mmap_wait_ns=around(1e6),
            mmap_reads=around(1e6),
            vma_failures=around(1e6),
            writes=1000,
            write_wait_ns=around(1e6),
            drain_ns=around(drain_ns),
        )
        for _ in range(BATCHES_MIN)
    ]


def disagreeing(comparisons: list[Comparison]) -> list[str]:
    return [comparison.figure for comparison in comparisons if not comparison.agrees]


def test_batches_of_one_law_agree():
    assert disagreeing(compare(100, some_batches(1), "twin", some_batches(2))) == []


def test_a_mean_that_is_four_standard_deviations_of_a_batch_off_does_not_agree():
    off = some_batches(2, drain_ns=1e6 * (1 + 4 * SPREAD))

    assert disagreeing(compare(100, some_batches(1), "twin", off)) == ["ns of drain, a write"]


def test_batches_that_tell_too_little_do_not_agree():
    vague = compare(100, some_batches(1, spread=0.3), "twin", some_batches(2, spread=0.3))

    assert len(disagreeing(vague)) == len(vague)
