"""Small runs that bring one situation about, and what became of the faults in them.

A story has a few named threads in one process, and perhaps some in another. A process has
two VMAs, each of a file of its own: `data`, which most stories are about, and `other`, whose
pages are cached. What the table of the kernel model says of a fault stands here as it stands
there: `V` and `M` are attempts under the VMA lock and under mmap_lock, S, R and A the counters
vma_lock_success, retry and abort, PM is PGMAJFAULT, and mm are the acquisitions of mmap_lock
for read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from faultlane_server.codes import NOBODY, Advice, FaultLock, PageState, Protection, VmFault
from faultlane_server.engine import Simulator
from faultlane_server.scenario import (
    Device,
    Explicit,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Kernel,
    Machine,
    Mprotect,
    Munmap,
    Process,
    Scenario,
    Sleep,
    Step,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)
from tests.engine.lock_stories import RwsemStory

PAGE = 4096
DATA_PAGES = 1024
OTHER_PAGES = 64
READ_NS = 1_000_000  # of the device, always

FIRST_WITH_VMA_LOCK = {"loongarch": "6.18"}  # whatever generation a story asks for

CACHED = FileRange(PageState.CACHED)

ATTEMPT = re.compile(r"([VM])(?:\((!?TRIED)\))?→(\S+)")
NUMBER = re.compile(r"(S|R|A|PM|mm)(\d+)")
BITS = {
    "RETRY": VmFault.RETRY,
    "LOCKED": VmFault.LOCKED,
    "NOPAGE": VmFault.NOPAGE,
    "MAJOR": VmFault.MAJOR,
    "VMA": VmFault.RETRY_VMA,
}


def one(name: str, *steps: Step) -> ThreadGroup:
    """Return a thread of the story."""
    return ThreadGroup(name, 1, steps)


def touch(page: int, vma: str = "data") -> Step:
    return Touch(vma, Explicit((page,)))


def touch_each(pages: range) -> Step:
    """Let every thread of a group touch a page of its own."""
    deltas = (pages.start, *([pages.step] * (len(pages) - 1)))
    return Touch("data", Explicit(deltas, slice=1))


def after(ns: int) -> Step:
    return Sleep(Fixed(ns))


def mprotect(vma: str) -> Step:
    """Allow writing to all of a VMA: one change, and nothing to split."""
    return Mprotect(vma, protection=(Protection.READ, Protection.WRITE))


def munmap_page(page: int, vma: str = "data") -> Step:
    return Munmap(vma, page * PAGE, PAGE)


def marked(page: int) -> FileRange:
    """Let a cached page carry the readahead marker."""
    return FileRange(PageState.CACHED_READAHEAD, page * PAGE, PAGE)


def cached(pages: range) -> FileRange:
    return FileRange(PageState.CACHED, pages.start * PAGE, len(pages) * PAGE)


def a_story(
    *cast: ThreadGroup,
    elsewhere: Sequence[ThreadGroup] = (),
    data: Sequence[FileRange] = (),
    data_pages: int = DATA_PAGES,
    advice: Advice = Advice.NORMAL,
    policy: str = "mainline",
    arch: str = "x86",
    generation: str = "6.12",
    cpus: int = 0,
    read_ns: int = READ_NS,
    costs_ns: Mapping[str, int] | None = None,
) -> Scenario:
    """Make a story, with a CPU for every thread unless `cpus` says otherwise.

    Threads `elsewhere` are in a process of their own, which maps the same files.
    """
    length_bytes, other_bytes = data_pages * PAGE, OTHER_PAGES * PAGE
    vmas = (
        Vma("data", length_bytes, FileMapping("data"), advice=advice),
        Vma("other", other_bytes, FileMapping("other")),
    )
    files = (
        File("data", length_bytes, "disk", tuple(data)),
        File("other", other_bytes, "disk", (CACHED,)),
    )
    threads = sum(group.threads for group in (*cast, *elsewhere))
    processes = [Process("app", vmas, cast)]
    if elsewhere:
        processes.append(Process("elsewhere", vmas, tuple(elsewhere)))
    scenario = Scenario(
        workload=Workload(tuple(processes), files),
        machine=Machine(
            arch,
            cpus or threads,
            costs_ns=dict(costs_ns or {}),
            devices=(Device("disk", Fixed(read_ns), channels=max(threads, 2)),),
        ),
        kernel=Kernel(FIRST_WITH_VMA_LOCK.get(arch, generation), policy),
        horizon_ns=10**9,
    )
    return check(scenario)


class Fault(NamedTuple):
    """What the table says of one fault."""

    attempts: tuple[str, ...]
    account: str
    mmap_reads: int


class Counters(NamedTuple):
    """What the table says of a run, summed over its faults."""

    success: int
    retry: int
    abort: int
    pgmajfault: int
    major: int
    minor: int
    mmap_reads: int
    pgfault: int
    page_faults: int


class Account(NamedTuple):
    """What became of the faults of a story: by thread, and counted."""

    faults: dict[str, Fault]
    counters: Counters


def written(cells: Mapping[str, str | list[str]]) -> Account:
    """Read cells of the table: one for each thread that faults, or a list for a group of them."""
    each = {name: [cell] if isinstance(cell, str) else cell for name, cell in cells.items()}
    faults = {name: _fault_in(group[0]) for name, group in each.items()}
    counted = [_counters_in(cell) for group in each.values() for cell in group]
    return Account(faults, Counters(*map(sum, zip(*counted, strict=True))))


def _fault_in(cell: str) -> Fault:
    attempts = [
        f"{lock}{'(TRIED)' if tried == 'TRIED' else ''}→{result}"
        for lock, tried, result in ATTEMPT.findall(cell.replace(";", " "))
    ]
    return Fault(tuple(attempts), "maj" if "maj" in cell else "min", _counters_in(cell).mmap_reads)


def _counters_in(cell: str) -> Counters:
    numbers = {name: int(number) for name, number in NUMBER.findall(cell)}
    is_major = "maj" in cell
    return Counters(
        success=numbers.get("S", 0),
        retry=numbers.get("R", 0),
        abort=numbers.get("A", 0),
        pgmajfault=numbers["PM"],
        major=int(is_major),
        minor=int(not is_major),
        mmap_reads=numbers["mm"],
        pgfault=1,
        page_faults=1,
    )


class Run:
    """A story that has been played, with the attempts of one thread traced."""

    def __init__(self, scenario: Scenario, traced: int = NOBODY) -> None:
        self.simulator = Simulator(scenario)
        self.simulator.world.traced = traced
        while not self.simulator.advance():
            pass
        faults, operations = self.simulator.take_rows()
        self.faults = _by_thread(faults, scenario)
        self.operations = _by_thread(operations, scenario)
        self.metrics = self.simulator.summary().metrics

    def attempts(self) -> tuple[str, ...]:
        """Return the attempts of the traced thread as the table writes them."""
        world = self.simulator.world
        return tuple(_attempt(row) for row in world.traces[: int(world.trace_rows)])

    def counters(self) -> Counters:
        names = (
            "vmstat.vma_lock_success",
            "vmstat.vma_lock_retry",
            "vmstat.vma_lock_abort",
            "vmstat.pgmajfault",
            "perf.major_faults",
            "perf.minor_faults",
            "mmap_lock.read.acquired",
            "vmstat.pgfault",
            "perf.page_faults",
        )
        return Counters(*(int(self.metrics[name]) for name in names))


def told(scenario: Scenario) -> Account:
    """Play a story, and tell what became of its faults.

    Of a group of threads the first one is told. One thread is traced at a time, so the
    story is played as often as threads fault.
    """
    numbers = _first_threads(scenario)
    played = Run(scenario)
    faults = {
        name: _fault(Run(scenario, numbers[name]), name)
        for name in numbers
        if name in played.faults
    }
    return Account(faults, played.counters())


def _fault(run: Run, name: str) -> Fault:
    """Return the one fault of the traced thread, of which the log tells the same as the trace."""
    attempts, logged = run.attempts(), run.faults[name]
    retries = sum(attempt.endswith("+VMA") for attempt in attempts)
    assert (logged["attempts"], logged["vma_retries"]) == (len(attempts), retries)
    assert FaultLock(logged["lock"]).name[0] == attempts[-1][0]
    return Fault(attempts, "maj" if logged["major"] else "min", logged["mmap_reads"])


def _attempt(row: Any) -> str:
    result = int(row.result)
    assert result == result & sum(BITS.values()), "a result of which the table does not tell"
    names = "+".join(name for name, bit in BITS.items() if result & bit)
    return f"{FaultLock(row.lock).name[0]}{'(TRIED)' if row.tried else ''}→{names or 0}"


def _first_threads(scenario: Scenario) -> dict[str, int]:
    numbers: dict[str, int] = {}
    number = 0
    for process in scenario.workload.processes:
        for group in process.groups:
            numbers[group.name] = number
            number += group.threads
    return numbers


def _by_thread(rows: Mapping[str, Any], scenario: Scenario) -> dict[str, dict[str, int]]:
    """Return the row of each group's first thread, which has at most one."""
    threads = rows["thread"].tolist()
    found = {}
    for name, number in _first_threads(scenario).items():
        assert threads.count(number) <= 1, f"{name} has one fault, or one operation"
        if number in threads:
            at = threads.index(number)
            found[name] = {column: int(values[at]) for column, values in rows.items()}
    return found


class Moment(NamedTuple):
    """What mmap_lock was like from some time on."""

    since_ns: int
    readers: int
    flags: str
    queue: list[int]


def moments(scenario: Scenario, since_ns: int = 0) -> Iterator[Moment]:
    """Play a story event by event, and tell whenever mmap_lock has become another one.

    What happens before `since_ns` is not looked at.
    """
    simulator = Simulator(scenario)
    lock = RwsemStory()
    lock.lock, lock.threads = simulator.world.mms[0].mmap_lock, simulator.world.threads
    state = lock.state
    while not simulator.advance(events=1):
        if simulator.now_ns >= since_ns and lock.state != state:
            state = lock.state
            yield Moment(simulator.now_ns, *state)
