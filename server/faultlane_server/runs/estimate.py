"""What a scenario will need, as far as it can be told without running it."""

from collections.abc import Sequence
from dataclasses import dataclass

from faultlane_server.columns import FAULT_COLUMNS
from faultlane_server.runs.errors import Excess, TooLarge
from faultlane_server.runs.limits import RunLimits
from faultlane_server.scenario import (
    Backing,
    Explicit,
    HugetlbMapping,
    Loop,
    Machine,
    Measure,
    Mmap,
    Process,
    Scenario,
    Step,
    ThreadGroup,
    Touch,
    Workload,
    Zipf,
    content_page_bytes,
    mapping_page_bytes,
    reach_bytes,
)
from faultlane_server.store import row_bytes

# What the record of a run takes in memory. Its columns say so; tests compare. The least is for
# what is there in every run: rows, tallies, who is to blame, and 2 MiB for each column that is
# touched at all, since the system gives memory in huge pages.
MEMORY_BYTES_LEAST = 64 << 20
PAGE_BYTES = 66
THREAD_BYTES = 2024  # with its attempts and its place in a run queue
VMA_BYTES = 272  # with its region
FILE_BYTES = 312  # with those who have it open
STEP_BYTES = 4 * 360  # one step may be several instructions
ENTRY_BYTES = 8  # of a list of pages, of a table of weights, of the places of walking touches


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will need. Fields as in the proto."""

    threads: int
    vmas: int
    pages: int
    touches: int | None  # None: they go on until the horizon
    programs_bytes: int = 0  # memory for what is in programs, and for files

    @property
    def memory_bytes(self) -> int:
        """At most: what it will be has been less in every run that was looked at."""
        records = self.pages * PAGE_BYTES + self.threads * THREAD_BYTES + self.vmas * VMA_BYTES
        return MEMORY_BYTES_LEAST + records + self.programs_bytes

    @property
    def fault_log_bytes_max(self) -> int | None:
        """If every touch faults."""
        return None if self.touches is None else self.touches * row_bytes(FAULT_COLUMNS)


def estimate_of(scenario: Scenario) -> Estimate:
    """Return what a checked scenario will need."""
    workload, machine = scenario.workload, scenario.machine
    groups = [group for process in workload.processes for group in process.groups]
    vmas = [vma for process in workload.processes for vma in process.vmas]
    mapped = [
        (group.threads, _pages_behind(step.hugetlb, step.length_bytes, machine))
        for group in groups
        for step in _mmaps(group.program)
    ]
    pages = sum(
        _pages(file.size_bytes, content_page_bytes(file, machine)) * file.copies
        for file in workload.files
    )
    pages += sum(
        _pages_behind(vma.backing, reach_bytes(vma) + vma.grows_down_bytes, machine) for vma in vmas
    )
    pages += sum(threads * count for threads, count in mapped)
    files = sum(file.copies for file in workload.files)
    touches = [_times(group.threads, _touches(group.program)) for group in groups]
    return Estimate(
        threads=sum(group.threads for group in groups),
        vmas=len(vmas) + sum(threads for threads, _ in mapped),
        pages=pages,
        touches=_total(touches),
        programs_bytes=files * FILE_BYTES
        + sum(_program_bytes(process, group, machine) for process, group in _groups(workload)),
    )


def require_small_enough(scenario: Scenario, limits: RunLimits) -> None:
    """Raise if a run would need more than it may have."""
    estimate = estimate_of(scenario)
    needs = (
        Excess("threads", limits.threads_max, estimate.threads),
        Excess("VMAs", limits.vmas_max, estimate.vmas),
        Excess("pages", limits.pages_max, estimate.pages),
        Excess("bytes of memory", limits.memory_bytes_max, estimate.memory_bytes),
    )
    if excesses := [need for need in needs if need.got > need.most]:
        raise TooLarge(excesses)


def _groups(workload: Workload) -> list[tuple[Process, ThreadGroup]]:
    return [(process, group) for process in workload.processes for group in process.groups]


def _program_bytes(process: Process, group: ThreadGroup, machine: Machine) -> int:
    """Return what the program of a group takes, besides what it maps."""
    steps = _all_steps(group.program)
    lengths = {vma.name: reach_bytes(vma) for vma in process.vmas}
    lengths |= {step.name: step.length_bytes for step in steps if isinstance(step, Mmap)}
    entries = 0
    for step in steps:
        if isinstance(step, Touch) and isinstance(step.pattern, Explicit):
            entries += len(step.pattern.page_deltas)
        elif isinstance(step, Touch) and isinstance(step.pattern, Zipf):
            entries += _pages(lengths[step.vma], machine.page_size_bytes)
        elif isinstance(step, Touch):
            entries += group.threads  # where each of them is
    return len(steps) * STEP_BYTES + entries * ENTRY_BYTES


def _all_steps(steps: Sequence[Step]) -> list[Step]:
    """Return the steps and those within them."""
    found = list(steps)
    for step in steps:
        if isinstance(step, Loop | Measure):
            found += _all_steps(step.steps)
    return found


def _mmaps(steps: Sequence[Step]) -> list[Mmap]:
    return [step for step in _all_steps(steps) if isinstance(step, Mmap)]


def _touches(steps: Sequence[Step]) -> int | None:
    """Return how often the steps touch memory; None: without end."""
    return _total([_touches_of(step) for step in steps])


def _touches_of(step: Step) -> int | None:
    if isinstance(step, Touch):
        return step.count
    if isinstance(step, Measure):
        return _touches(step.steps)
    if isinstance(step, Loop):
        inner = _touches(step.steps)
        return _times(step.count, inner) if step.count or inner == 0 else None
    return 0


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _times(times: int, count: int | None) -> int | None:
    return None if count is None else times * count


def _pages_behind(backing: Backing | None, length_bytes: int, machine: Machine) -> int:
    """Return how many pages are kept for what is mapped; huge ones without a file count twice."""
    times = 2 if isinstance(backing, HugetlbMapping) and not backing.file else 1
    return times * _pages(length_bytes, mapping_page_bytes(backing, machine))


def _pages(length_bytes: int, page_bytes: int) -> int:
    return -(-length_bytes // page_bytes)
