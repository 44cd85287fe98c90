"""Small stories of a few threads and one file, and what became of them.

The process `app` maps the file `data` as the VMA `data`. Whoever is `elsewhere` is in a process
of its own, named like the group, that does the same. Every thread has a CPU of its own, so what
somebody waits for is somebody else and never a CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from faultlane_server.codes import (
    NOBODY,
    Access,
    Advice,
    DeviceKind,
    FaultLock,
    FileKind,
    ForkSkips,
    LruKind,
    PageState,
    Protection,
    RetryReason,
    SignalKind,
    StopReason,
    VmFault,
)
from faultlane_server.engine import Simulator
from faultlane_server.policy import RetryPolicy
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    Device,
    Explicit,
    File,
    FileMapping,
    FileRange,
    Fixed,
    HugePages,
    Kernel,
    Kill,
    Machine,
    Memcg,
    Process,
    Scenario,
    Sleep,
    Step,
    Swap,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)

PAGE = 4096
READ_NS = 1_000_000  # of the device, always
MS = 1_000_000
US = 1_000

DISK = Device("disk", Fixed(READ_NS), channels=64)
READ_WRITE = (Protection.READ, Protection.WRITE)
CACHED = (FileRange(PageState.CACHED),)
DIRTY = (FileRange(PageState.DIRTY),)

Row = dict[str, int]


class Memory(NamedTuple):
    """How much memory there is, in pages, and where its pages go to.

    `high` and `most` are the limits of a memcg for all processes, 0 is none. The swap device is
    one of its own, for any number of requests.
    """

    most: int = 0
    high: int = 0
    of_the_machine: int = 0
    swap: DeviceKind | None = None
    swap_pages: int = 1024
    swap_ns: int = READ_NS
    swap_error_ppm: int = 0
    zswap_pages: int = 0
    unkillable: bool = False
    lru: LruKind = LruKind.CLASSIC
    page_cluster: int = 3
    swappiness: int = 60


PLENTY = Memory()


def one(name: str, *steps: Step) -> ThreadGroup:
    """Return a thread of the story."""
    return ThreadGroup(name, 1, steps)


def touch(
    *pages: int, vma: str = "data", access: Access = Access.READ, kernel_mode: bool = False
) -> Touch:
    deltas = [page - before for before, page in zip((0, *pages), pages, strict=False)]
    return Touch(vma, Explicit(tuple(deltas)), access, kernel_mode=kernel_mode)


def write(*pages: int, vma: str = "data") -> Touch:
    return touch(*pages, vma=vma, access=Access.WRITE)


def heap(page_count: int = 64, swapped: tuple[ByteRange, ...] = (), **more: Any) -> Vma:
    """Return the VMA `heap`: anonymous memory, some of it in swap."""
    length_bytes = page_count * PAGE
    return Vma("heap", length_bytes, AnonymousMapping(), 0, READ_WRITE, swapped=swapped, **more)


def after(ns: int) -> Step:
    return Sleep(Fixed(ns))


def kill(process: str = "app") -> Step:
    return Kill(SignalKind.FATAL, process)


def pages(state: PageState, first: int, count: int = 1) -> FileRange:
    return FileRange(state, first * PAGE, count * PAGE)


def page_range(first: int, count: int = 1) -> ByteRange:
    return ByteRange(first * PAGE, count * PAGE)


def a_story(
    *cast: ThreadGroup,
    elsewhere: Sequence[ThreadGroup] = (),
    data: Sequence[FileRange] = (),
    data_pages: int = 64,
    copies: int = 1,
    bad: Sequence[ByteRange] = (),
    kind: FileKind = FileKind.REGULAR,
    vmas: Sequence[Vma] = (),
    private: bool = False,
    mapped: Sequence[ByteRange] = (),
    advice: Advice = Advice.NORMAL,
    policy: str | RetryPolicy = "mainline",
    arch: str = "x86",
    generation: str = "6.12",
    disk: Device = DISK,
    fault_around: bool = True,
    dirty_bytes: int = 0,
    dirty_background_bytes: int = 0,
    fork_skips: ForkSkips = ForkSkips.NOTHING,
    madvise_vma_lock: bool = False,
    memory: Memory = PLENTY,
    huge_pages: HugePages | None = None,
    files: Sequence[File] = (),
    costs_ns: Mapping[str, int] | None = None,
    attempts_max: int = 0,
    horizon_ns: int = 10**9,
) -> Scenario:
    """Make a story; `vmas` stands for other VMAs of the process `app` than `data` alone.

    What is `mapped` from the start is so in `app`, and nowhere else. `files` are more than `data`.
    """
    length_bytes = data_pages * PAGE
    mapping = FileMapping("data", map_private=private)
    vma = Vma("data", length_bytes, mapping, 0, READ_WRITE, advice, tuple(mapped))
    device = disk.name if kind == FileKind.REGULAR else ""
    name = "limited" if memory.most or memory.high else ""
    memcg = Memcg(name, memory.high * PAGE, memory.most * PAGE)
    app = Process("app", tuple(vmas) or (vma,), cast, name, memory.unkillable)
    unmapped = replace(vma, mapped=())
    processes = [app]
    processes += [replace(app, name=g.name, vmas=(unmapped,), groups=(g,)) for g in elsewhere]
    threads = sum(group.threads for process in processes for group in process.groups)
    scenario = Scenario(
        workload=Workload(
            tuple(processes),
            (File("data", length_bytes, device, tuple(data), kind, tuple(bad), copies), *files),
            (memcg,) if name else (),
        ),
        machine=Machine(
            arch,
            threads,
            costs_ns=dict(costs_ns or {}),
            devices=(disk, *_swap_devices(memory)),
            memory_bytes=memory.of_the_machine * PAGE,
            swap=_swap(memory),
            huge_pages=huge_pages,
        ),
        kernel=Kernel(
            generation,
            policy,
            fault_around_bytes=65536 if fault_around else PAGE,
            dirty_bytes=dirty_bytes,
            dirty_background_bytes=dirty_background_bytes,
            fork_skips=fork_skips,
            madvise_vma_lock=madvise_vma_lock,
            lru=memory.lru,
            page_cluster=memory.page_cluster,
            swappiness=memory.swappiness,
        ),
        horizon_ns=horizon_ns,
        attempts_max=attempts_max,
    )
    return check(scenario)


def _swap_devices(memory: Memory) -> tuple[Device, ...]:
    if memory.swap is None:
        return ()
    latency = Fixed(memory.swap_ns)
    error_ppm = memory.swap_error_ppm
    return (Device("swap", latency, channels=64, kind=memory.swap, error_ppm=error_ppm),)


def _swap(memory: Memory) -> Swap | None:
    if memory.swap is None:
        return None
    return Swap("swap", memory.swap_pages * PAGE, memory.zswap_pages * PAGE)


class Played:
    """A story that has been played to its end."""

    def __init__(self, scenario: Scenario, traced: str = "") -> None:
        self.names = _first_threads(scenario)
        self.simulator = Simulator(scenario)
        self.world = self.simulator.world
        self.world.traced = self.names.get(traced, NOBODY)
        self.faults: list[Row] = []
        self.operations: list[Row] = []
        while not self.simulator.advance():
            self._take()
        self._take()
        self.summary = self.simulator.summary()
        self.stop = self.summary.stop

    def _take(self) -> None:
        faults, operations = self.simulator.take_rows()
        self.faults += _rows(faults)
        self.operations += _rows(operations)

    def __getitem__(self, metric: str) -> int:
        return int(self.summary.metrics[metric])

    @property
    def ended(self) -> bool:
        return self.stop is StopReason.FINISHED

    def faults_of(self, name: str) -> list[Row]:
        """Return the faults of a group's first thread, as they ended."""
        return [row for row in self.faults if row["thread"] == self.names[name]]

    def fault_of(self, name: str) -> Row:
        """Return the only fault of a group's first thread."""
        (row,) = self.faults_of(name)
        return row

    def rows_of(self, name: str) -> list[Row]:
        """Return the faults and the operations of a group's first thread."""
        number = self.names[name]
        return [row for row in self.faults + self.operations if row["thread"] == number]

    def operation_of(self, name: str) -> Row:
        """Return the only operation of a group's first thread."""
        (row,) = (row for row in self.operations if row["thread"] == self.names[name])
        return row

    def attempts(self) -> list[str]:
        """Return the attempts of the traced thread, as `V(TRIED)→RETRY+MAJOR`."""
        rows = self.world.traces[: int(self.world.trace_rows)]
        return [_attempt(row) for row in rows]


def result(row: Row) -> set[VmFault]:
    return {bit for bit in VmFault if row["result"] & bit}


def reasons(row: Row) -> set[RetryReason]:
    return {reason for reason in RetryReason if row["retry_reasons"] >> reason & 1}


def end_ns(row: Row) -> int:
    return row["start_ns"] + row["duration_ns"]


def _attempt(row: Any) -> str:
    bits = int(row.result)
    names = "+".join(bit.name.removeprefix("RETRY_") for bit in VmFault if bits & bit)
    return f"{FaultLock(row.lock).name[0]}{'(TRIED)' if row.tried else ''}→{names or 0}"


def _rows(columns: Mapping[str, Any]) -> list[Row]:
    lists = {name: values.tolist() for name, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _first_threads(scenario: Scenario) -> dict[str, int]:
    numbers: dict[str, int] = {}
    number = 0
    for process in scenario.workload.processes:
        for group in process.groups:
            numbers[group.name] = number
            number += group.threads
    return numbers
