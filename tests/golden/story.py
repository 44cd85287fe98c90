"""Small runs that bring one situation about, and what became of the faults in them.

A story has a few named threads in one process, and perhaps some in another. A process has
two VMAs, each of a file of its own: `data`, which most stories are about, and `other`, whose
pages are cached. Places are counted in pages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from faultlane_server.codes import (
    NOBODY,
    Access,
    Advice,
    DeviceKind,
    FileKind,
    PageState,
    Protection,
    SignalKind,
)
from faultlane_server.engine import Simulator
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    Device,
    Explicit,
    FadviseDontneed,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Kernel,
    Kill,
    Machine,
    Memcg,
    Mprotect,
    Munmap,
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
from tests.engine.lock_stories import RwsemStory
from tests.engine.recount_blame import assert_blame_adds_up

PAGE = 4096  # bytes, unless a story has larger pages
DATA_PAGES = 1024
OTHER_PAGES = 64
STACK_PAGES = 16
READ_NS = 1_000_000  # of the device, unless a story says otherwise
READ_AND_WRITE = (Protection.READ, Protection.WRITE)

FIRST_WITH_VMA_LOCK = {"loongarch": "6.18"}  # whatever generation a story asks for


class Pages(NamedTuple):
    """The state of some pages of `data` when a story begins: without a length, to its end."""

    state: PageState
    first: int = 0
    length: int = 0


CACHED = Pages(PageState.CACHED)


def one(name: str, *steps: Step) -> ThreadGroup:
    """Return a thread of the story."""
    return ThreadGroup(name, 1, steps)


def touch(
    page: int, vma: str = "data", access: Access = Access.READ, kernel_mode: bool = False
) -> Step:
    return Touch(vma, Explicit((page,)), access, kernel_mode=kernel_mode)


def write(page: int, kernel_mode: bool = False) -> Step:
    return touch(page, "data", Access.WRITE, kernel_mode)


def touch_each(pages: range) -> Step:
    """Let every thread of a group touch a page of its own."""
    deltas = (pages.start, *([pages.step] * (len(pages) - 1)))
    return Touch("data", Explicit(deltas, slice=1))


def after(ns: int) -> Step:
    return Sleep(Fixed(ns))


def mprotect(vma: str) -> Step:
    """Allow writing to all of a VMA: one change, and nothing to split."""
    return Mprotect(vma, protection=READ_AND_WRITE)


def munmap_page(page: int, vma: str = "data", page_bytes: int = PAGE) -> Step:
    return Munmap(vma, page * page_bytes, page_bytes)


def drop_clean_pages() -> Step:
    """Take from the page cache what nobody uses, and write back what is dirty: POSIX_FADV_DONTNEED.

    The pages that it has written back carry PG_reclaim until they are written.
    """
    return FadviseDontneed("data")


def send(signal: SignalKind, to: str) -> Step:
    """Send a signal to a thread of the process `app`; a fatal one is for all of them."""
    return Kill(signal, "app", to if signal == SignalKind.HANDLED else "")


def marked(page: int) -> Pages:
    """Let a cached page carry the readahead marker."""
    return Pages(PageState.CACHED_READAHEAD, page, 1)


def dirty(page: int) -> Pages:
    return Pages(PageState.DIRTY, page, 1)


def not_uptodate(page: int) -> Pages:
    """Let a cached page be one whose last read has failed."""
    return Pages(PageState.NOT_UPTODATE, page, 1)


def swapped(page: int) -> Pages:
    """Let a page of tmpfs be in swap."""
    return Pages(PageState.SWAPPED, page, 1)


def cached(pages: range) -> Pages:
    return Pages(PageState.CACHED, pages.start, len(pages))


def a_story(
    *cast: ThreadGroup,
    elsewhere: Sequence[ThreadGroup] = (),
    data: Sequence[Pages] = (),
    data_pages: int = DATA_PAGES,
    kind: FileKind = FileKind.REGULAR,
    bad: Sequence[int] = (),
    advice: Advice = Advice.NORMAL,
    writable: bool = False,
    private: bool = False,
    stack: bool = False,
    anonymous: bool = False,
    swap: DeviceKind | None = None,
    swapped_pages: range = range(0),
    charged_pages_max: int = 0,
    policy: str = "mainline",
    arch: str = "x86",
    page_bytes: int = PAGE,
    generation: str = "6.12",
    cpus: int = 0,
    read_ns: int = READ_NS,
    write_ns: int | None = None,
    costs_ns: Mapping[str, int] | None = None,
    horizon_ns: int = 10**9,
    attempts_max: int = 0,
) -> Scenario:
    """Make a story, with a CPU for every thread unless `cpus` says otherwise.

    With a `stack`, the process has anonymous memory of that name, of STACK_PAGES pages, that grows
    down into `below`, as many pages again. Threads `elsewhere` are in a process of their own, which
    maps the same files. The device cannot read the `bad` pages. A write to it takes as long as a
    read unless `write_ns` is given.

    If `data` is `anonymous` no file is behind it, and `swapped_pages` of it are in swap: on a
    device of its own, of some kind, that is as fast as the other one. With `charged_pages_max`
    the process `app` is in a memcg that can have so many pages.
    """
    length_bytes, other_bytes = data_pages * page_bytes, OTHER_PAGES * page_bytes
    protection = READ_AND_WRITE if writable else (Protection.READ,)
    mapping = AnonymousMapping() if anonymous else FileMapping("data", map_private=private)
    in_swap = ByteRange(swapped_pages.start * page_bytes, len(swapped_pages) * page_bytes)
    vmas: tuple[Vma, ...] = (
        Vma(
            "data",
            length_bytes,
            mapping,
            protection=protection,
            advice=advice,
            swapped=(in_swap,) if swapped_pages else (),
        ),
        Vma("other", other_bytes, FileMapping("other")),
    )
    if stack:
        vmas += (_stack(page_bytes),)
    files = (
        File(
            "data",
            length_bytes,
            "disk" if kind == FileKind.REGULAR else "",
            tuple(_in_bytes(pages, page_bytes) for pages in data),
            kind,
            tuple(ByteRange(page * page_bytes, page_bytes) for page in bad),
        ),
        File("other", other_bytes, "disk", (_in_bytes(CACHED, page_bytes),)),
    )
    threads = sum(group.threads for group in (*cast, *elsewhere))
    memcg = "limited" if charged_pages_max else ""
    processes = [Process("app", vmas, cast, memcg)]
    if elsewhere:
        processes.append(Process("elsewhere", vmas, tuple(elsewhere)))
    write_latency = None if write_ns is None else Fixed(write_ns)
    disk = Device("disk", Fixed(read_ns), max(threads, 2), write_latency=write_latency)
    swap_disk = replace(disk, name="swap", kind=swap or DeviceKind.BLOCK)
    scenario = Scenario(
        workload=Workload(
            tuple(processes),
            files,
            (Memcg(memcg, max_bytes=charged_pages_max * page_bytes),) if memcg else (),
        ),
        machine=Machine(
            arch,
            cpus or threads,
            page_bytes,
            costs_ns=dict(costs_ns or {}),
            devices=(disk, swap_disk) if swap else (disk,),
            swap=Swap("swap", length_bytes) if swap else None,
        ),
        kernel=Kernel(FIRST_WITH_VMA_LOCK.get(arch, generation), policy),
        horizon_ns=horizon_ns,
        attempts_max=attempts_max,
    )
    return check(scenario)


def _stack(page_bytes: int) -> Vma:
    bytes_each = STACK_PAGES * page_bytes
    anonymous = AnonymousMapping()
    return Vma(
        "stack",
        bytes_each,
        anonymous,
        protection=READ_AND_WRITE,
        grows_down_bytes=bytes_each,
        room="below",
    )


def _in_bytes(pages: Pages, page_bytes: int) -> FileRange:
    return FileRange(pages.state, pages.first * page_bytes, pages.length * page_bytes)


Row = dict[str, int]


class Run:
    """A story that has been played, with the attempts of one thread traced.

    `faults` and `operations` have the first row of each group's first thread.

    Of every story it holds that the causes and CPU time of each event add up to its duration, and
    that for each wait somebody or something is to blame.
    """

    def __init__(self, scenario: Scenario, traced: str = "") -> None:
        self.names = _names(scenario)
        self.simulator = Simulator(scenario)
        self.simulator.world.traced = self.names.index(traced) if traced else NOBODY
        while not self.simulator.advance():
            pass
        logs = self.simulator.take_rows()
        assert_blame_adds_up(self.simulator.world, *logs)
        faults, operations = map(_rows, logs)
        assert all(adds_up(row) for row in (*faults, *operations)), "each event adds up"
        self.log = sorted(faults, key=lambda row: (row["thread"], row["start_ns"]))
        self.faults = self._first(self.log)
        self.operations = self._first(operations)

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        return self.simulator.summary().metrics

    def _first(self, rows: Sequence[Row]) -> dict[str, Row]:
        firsts = {}
        for name in dict.fromkeys(self.names):
            of_thread = [row for row in rows if row["thread"] == self.names.index(name)]
            if of_thread:
                firsts[name] = of_thread[0]
        return firsts


def adds_up(row: Row) -> bool:
    """Whether the causes and CPU time of an event add up to its duration."""
    waits_ns = sum(value for name, value in row.items() if name.startswith("wait_"))
    return waits_ns + row["cpu_ns"] == row["duration_ns"]


def _names(scenario: Scenario) -> list[str]:
    """Return the name of every thread: that of its group."""
    groups = [group for process in scenario.workload.processes for group in process.groups]
    return [group.name for group in groups for _ in range(group.threads)]


def _rows(columns: Mapping[str, Any]) -> list[Row]:
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


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
