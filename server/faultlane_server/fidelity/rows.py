"""From a row of measurements to the scenario that was measured.

The rows are those of a harness that runs as init in a small guest: fault threads touch cold
pages of a file in a closed loop (S1, S2), the same one of them all at once and round after
round (S3), pages of anonymous memory that are in swap (S4) or that they write (S6), or random
pages of a file that does not fit a memory cgroup, for a time (S5); and writers change the address
space and sleep. A row's columns are all that is read here; costs come from the machine profile,
and so does how late timers strike: a null block device completes a request from one. It also
tells how long interrupts wait while all CPUs work.

No other part of the program looks at which set a row belongs to, or at its scenario or variant.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from reprlib import Repr
from typing import NamedTuple

from faultlane_server.codes import Access, Advice, Protection, RecordingKind
from faultlane_server.machines import MACHINES, Lateness
from faultlane_server.scenario import (
    AnonymousMapping,
    Barrier,
    ByteRange,
    Compute,
    Device,
    Duration,
    Explicit,
    File,
    FileMapping,
    Fixed,
    Kernel,
    Loop,
    Machine,
    Measure,
    Memcg,
    Mmap,
    Mprotect,
    Munmap,
    Process,
    Quantile,
    Quantiles,
    Recording,
    Scenario,
    Sleep,
    Step,
    Swap,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    check,
)
from faultlane_server.scenario.limits import PAGES_MAX, THREADS_MAX, VMAS_MAX

Row = Mapping[str, str]

_SHORT = Repr()  # of a cell, which may be a whole file

PARAMETERS = (
    "set",
    "scenario",
    "threads",
    "vmas",
    "faults_per_thread",
    "device_latency_ns",
    "device",
    "readahead",
    "writers",
    "writer_op",
    "writer_think_us",
    "reader_think_us",
    "memcg_limit_kib",
    "file_pages",
    "write_fault",
    "variant",
)

PAGE_BYTES = 4096
TAIL_PAGES = 1024  # never touched, behind the touched pages of each VMA
TAIL_WRITTEN_FROM = 64  # where writers strike in the first VMA's tail
STRIDE_PAGES = 16  # at most one touched page in each window of so many
# Where the file is mapped: at no multiple of 64 KiB, as 15 of 16 places for a mapping are none. So
# fault-around looks at pages of two windows, and what is mapped there counts as hits of the file.
FILE_AT = (0x7F00_0000 << 16) + 4 * PAGE_BYTES
FILE_GAP = 1 << 21  # at least, between its pieces
LOOP_NS = 70  # assumed: what the harness's loop does between two touches
HORIZON_NS = 60 * 10**9
CHANNELS = 1024  # of the null block device: as good as unlimited
WORD = (1 << 64) - 1
THRASH_NS = 2 * 10**9  # for how long S5 goes on
THRASH_NS_BY_INSTRUCTIONS = 10**9  # the same in the set that counts instructions
READER_SEED = 88172645463325252  # of the harness's random pages; each thread adds its number times
READER_SEED_STEP = 7919
READER_WORDS_SKIPPED = 8

# What a memory cgroup is charged for besides the pages of the file, per page: a buffer head
# (104 bytes) and its share of a page table; and per 64 pages that have a node of the xarray,
# which for random pages are all: 576 bytes.
BUFFER_HEAD_BYTES = 104
XARRAY_NODE_BYTES = 576
XARRAY_NODE_PAGES = 64
TABLE_PAGES = 512

# What the two mprotects of a pair ask for.
UNRELATED = ((Protection.READ,), (Protection.READ, Protection.WRITE))
SAME_VMA = ((Protection.READ, Protection.EXEC), (Protection.READ,))
SAME_VMA_OF_SWAP = ((Protection.READ, Protection.EXEC), (Protection.READ, Protection.WRITE))

POLICY_OF = {
    "base": "mainline",
    "pristine": "mainline",
    "rfc": "rfc",
    "rfcx": "rfc_all_reads",
    "rfcu": "rfc_uptodate",
    "hold": "hold",
    "mmaponly": "mmap_lock_only",
}
READ_WRITE = (Protection.READ, Protection.WRITE)
EXPLICIT_MAX = 1 << 18  # pages that a scenario may list
READAHEAD_BYTES = {"advise_random": 131072, "readahead_1page": 4096, "readahead_128k": 131072}
CHOICES = {
    "scenario": ("S1", "S2", "S3", "S4", "S5", "S6"),
    "variant": tuple(POLICY_OF),
    "readahead": ("", *READAHEAD_BYTES),
    "writer_op": ("", "mmap_munmap_unrelated", "mprotect_unrelated", "mprotect_same_vma"),
    "write_fault": ("", "0", "1"),
}


class Whole(NamedTuple):
    """The whole numbers that a column may have."""

    least: int
    most: int
    is_optional: bool = True  # whether the column may be blank


NUMBERS = {
    "threads": Whole(1, THREADS_MAX, is_optional=False),
    "vmas": Whole(1, VMAS_MAX, is_optional=False),
    "faults_per_thread": Whole(1, 10**6, is_optional=False),
    "device_latency_ns": Whole(0, 10**11),
    "writers": Whole(0, THREADS_MAX),
    "writer_think_us": Whole(0, 10**8),
    "reader_think_us": Whole(0, 10**8),
    "memcg_limit_kib": Whole(0, PAGES_MAX * 4),
    "file_pages": Whole(0, PAGES_MAX),
}
DIGITS_MAX = 18


class Guest(NamedTuple):
    """A machine that rows were measured on."""

    profile: str
    cpus: int
    cpus_per_cache: int = 1  # derived: who wakes up there waits, though the other CPU is idle


BY_INSTRUCTIONS = Guest("icount-guest", 1)
IN_PARALLEL = Guest("parallel-guest", 2)

# The disks of the host's emulator: how many requests a second at most is part of their names; and
# how much longer than its nominal latency one takes.
VIRTIO_IOPS = re.compile(r"virtio_null_\d+ms(?:_(?P<iops>\d+)iops)?")
VIRTIO_LATE = Lateness(
    0,
    (
        (0, 700_000),
        (100_000, 860_000),
        (500_000, 998_000),
        (900_000, 1_141_000),
        (990_000, 1_414_000),
        (1_000_000, 2_000_000),
    ),
    "measured: odirect_read4k_virtio, 4998 us where 4000 are nominal",
)


def guest_of(row: Row) -> Guest:
    """Return which machine a row was measured on."""
    return BY_INSTRUCTIONS if row["set"] == "icount" else IN_PARALLEL


def set_of(row: Row) -> str:
    """Return which set of runs a row belongs to."""
    return row["set"]


def design_of(row: Row) -> str:
    """Return the retry design that a row was measured under."""
    return row["variant"]


def same_but_for_design(row: Row) -> tuple[str, ...]:
    """Return what rows that differ in nothing but their design have in common."""
    return tuple(row[name] for name in PARAMETERS if name != "variant")


def family_of(row: Row) -> str:
    """Return which kind of rows a row is one of."""
    return row["scenario"]


def is_fitted(row: Row) -> bool:
    """Whether the costs of the row's machine were fitted to rows like it.

    The others are only tested on. Of both guests it is cold faults of a file without writers (S1)
    and writes of anonymous memory (S6); of the one that counts instructions also what 4 threads do
    short of memory (S5), whose CPU time tells what reclaim costs; of the parallel one also what two
    of its sets have of faults with writers (S2), from swap (S4) and short of memory (S5).
    """
    if row["scenario"] in ("S1", "S6"):
        return True
    if guest_of(row) == BY_INSTRUCTIONS:
        return row["scenario"] == "S5" and row["threads"] == "4"
    return row["set"] in ("tcg2a", "tcg2c") and row["scenario"] in ("S2", "S4", "S5")


def problems_of(row: Row) -> list[str]:
    """Return everything for which a row cannot be simulated: column, what is wanted, what came."""
    problems = [f"{name}: the column is missing" for name in PARAMETERS if row.get(name) is None]
    if problems:
        return problems
    for name, choices in CHOICES.items():
        if row[name] not in choices:
            wanted = ", ".join(choice or "nothing" for choice in choices)
            problems.append(f"{name}: want one of {wanted}; got {_SHORT.repr(row[name])}")
    for name, whole in NUMBERS.items():
        if not _is_one_of(whole, row[name]):
            or_nothing = " or nothing" if whole.is_optional else ""
            problems.append(
                f"{name}: want a whole number, {whole.least} to {whole.most}{or_nothing},"
                f" got {_SHORT.repr(row[name])}"
            )
    problems = problems or _misfits(row)
    if problems:
        return problems
    try:
        scenario_of(row)
    except ValueError as error:
        problems.append(str(error))
    return problems


def _is_one_of(numbers: Whole, text: str) -> bool:
    if text == "":
        return numbers.is_optional
    is_whole = text.isdecimal() and len(text) <= DIGITS_MAX
    return is_whole and numbers.least <= int(text) <= numbers.most


def _misfits(row: Row) -> list[str]:
    """Return where columns do not fit together, each of which could be by itself."""
    scenario = row["scenario"]
    problems = [
        f"{name}: want 1 or more in {scenario}, got {row[name]!r}"
        for name in ("memcg_limit_kib", "file_pages")
        if scenario == "S5" and int(row[name] or 0) == 0
    ]
    if scenario != "S6" and row["device_latency_ns"] == "":
        problems.append(f"device_latency_ns: want a number in {scenario}, got nothing")
    if int(row["writers"] or 0) > 0 and row["writer_op"] == "":
        problems.append(f"writer_op: want what the {row['writers']} writers do, got nothing")
    if scenario == "S3" and int(row["vmas"]) != 1:
        problems.append(f"vmas: want 1 in S3, where all touch the same page, got {row['vmas']!r}")
    listed = int(row["faults_per_thread"]) * (1 if scenario == "S3" else int(row["threads"]))
    if listed > EXPLICIT_MAX and (scenario != "S5" or int(row["vmas"]) > 1):
        problems.append(
            f"faults_per_thread: want at most {EXPLICIT_MAX} touches of all threads, got {listed}"
        )
    return problems


def scenario_of(row: Row, *, seed: int = 0) -> Scenario:
    """Return the scenario that a row without problems measured.

    Raises
    ------
    ValueError
        If that is beyond a limit of scenarios.
    """
    harness = _Harness(row, seed)
    groups = (*harness.readers(), *harness.writers())
    return check(
        Scenario(
            workload=Workload(
                files=harness.files(),
                processes=(harness.process(groups),),
                memcgs=harness.memcgs(),
            ),
            machine=Machine(
                arch="x86",
                cpus=harness.guest.cpus,
                cpus_per_cache=harness.guest.cpus_per_cache,
                profile=harness.guest.profile,
                devices=harness.devices(),
                swap=harness.swap(),
            ),
            kernel=Kernel(policy=POLICY_OF[row["variant"]], hz=250, page_cluster=0),
            horizon_ns=harness.horizon_ns(),
            seed=seed,
            recording=Recording(RecordingKind.SUMMARY_ONLY),
        )
    )


class _Harness:
    """The measuring program, as far as a row describes it."""

    def __init__(self, row: Row, repetition: int) -> None:
        self.row = row
        self.guest = guest_of(row)
        self.late = MACHINES[self.guest.profile].timers
        self.is_anonymous = row["scenario"] in ("S4", "S6")
        self.is_swapped = row["scenario"] == "S4"
        self.is_limited = row["scenario"] == "S5"
        self.all_at_once = row["scenario"] == "S3"
        self.access = Access.WRITE if row.get("write_fault") == "1" else Access.READ
        stride_pages = 1 if self.is_anonymous else STRIDE_PAGES
        self.threads = int(row["threads"])
        self.touches = int(row["faults_per_thread"])
        self.vma_count = int(row["vmas"])
        self.advice = Advice.RANDOM if row["readahead"] == "advise_random" else Advice.NORMAL
        self.think_us = int(row["reader_think_us"] or 0)
        self.writer_count = int(row["writers"] or 0)
        self.writer_op = row["writer_op"]
        self.writer_think_us = int(row["writer_think_us"] or 0)
        touched = self.touches * (1 if self.all_at_once else self.threads) * stride_pages
        if self.is_limited:
            touched = int(row["file_pages"])
        self.used_pages = -(-touched // self.vma_count)  # of each VMA
        self.vma_bytes = (self.used_pages + TAIL_PAGES) * PAGE_BYTES
        if self.is_limited:
            self.pages = self._random_pages(self.used_pages * self.vma_count)
        else:
            windows = self.used_pages * self.vma_count // stride_pages
            self.pages = _shuffled_pages(windows, stride_pages, repetition)

    def _random_pages(self, among: int) -> list[int]:
        """Return what each thread touches, one thread after the other, as the harness draws it.

        What is too much to list is left to the simulator's own chance.
        """
        pages: list[int] = []
        if self.threads * self.touches > EXPLICIT_MAX:
            return pages
        for thread in range(self.threads):
            words = _xorshift(READER_SEED + thread * READER_SEED_STEP)
            drawn = islice(words, READER_WORDS_SKIPPED, READER_WORDS_SKIPPED + self.touches)
            pages += [word % among for word in drawn]
        return pages

    def horizon_ns(self) -> int:
        if not self.is_limited:
            return HORIZON_NS
        return THRASH_NS_BY_INSTRUCTIONS if self.row["set"] == "icount" else THRASH_NS

    def process(self, groups: tuple[ThreadGroup, ...]) -> Process:
        memcg = "limited" if self.is_limited else ""
        vmas = (*self.vmas(), *self.areas())
        return Process("harness", vmas, groups, memcg, oom_unkillable=self.is_limited)

    def memcgs(self) -> tuple[Memcg, ...]:
        """Return the memory cgroup, with what the kernel charges to it besides the pages."""
        if not self.is_limited:
            return ()
        max_bytes = int(self.row["memcg_limit_kib"]) * 1024
        nodes = min(self.used_pages // XARRAY_NODE_PAGES, max_bytes // PAGE_BYTES)
        buffer_heads = max_bytes // PAGE_BYTES * BUFFER_HEAD_BYTES
        tables = -(-self.used_pages // TABLE_PAGES) * PAGE_BYTES
        others = (nodes * XARRAY_NODE_BYTES + buffer_heads + tables) // PAGE_BYTES
        return (Memcg("limited", max_bytes=max_bytes, other_bytes=others * PAGE_BYTES),)

    def swap(self) -> Swap | None:
        return Swap("nullb", self.vma_bytes * self.vma_count) if self.is_swapped else None

    def files(self) -> tuple[File, ...]:
        """Return the file that is mapped, which is the device itself."""
        if self.is_anonymous:
            return ()
        return (File("file", self.vma_bytes * self.vma_count, "nullb"),)

    def devices(self) -> tuple[Device, ...]:
        if self.is_anonymous and not self.is_swapped:
            return ()
        virtio = VIRTIO_IOPS.fullmatch(self.row["device"])
        late = VIRTIO_LATE if virtio else self.late
        disk = Device(
            "nullb",
            _delayed(int(self.row["device_latency_ns"]), late),
            CHANNELS,
            readahead_bytes=READAHEAD_BYTES.get(self.row["readahead"], 0),
            iops_max=int(virtio["iops"] or 0) if virtio else 0,
        )
        return (disk,)

    def vmas(self) -> Iterator[Vma]:
        """Map the file piece by piece, or memory that has an anon_vma: a page was written."""
        for number in range(self.vma_count):
            name = f"vma{number}"
            if self.is_swapped:
                swapped = (ByteRange(0, self.used_pages * PAGE_BYTES),)
                memory = AnonymousMapping()
                yield Vma(name, self.vma_bytes, memory, 0, READ_WRITE, swapped=swapped)
            elif self.is_anonymous:
                written = (ByteRange(self.used_pages * PAGE_BYTES, PAGE_BYTES),)
                memory = AnonymousMapping()
                yield Vma(name, self.vma_bytes, memory, 0, READ_WRITE, mapped=written)
            else:
                mapping = FileMapping("file", offset_bytes=number * self.vma_bytes)
                address = FILE_AT + number * (self.vma_bytes // FILE_GAP + 2) * FILE_GAP
                yield Vma(name, self.vma_bytes, mapping, address, advice=self.advice)

    def areas(self) -> Iterator[Vma]:
        """Give each writer its own memory, if it changes some that nobody else uses."""
        if self.writer_op == "mprotect_unrelated":
            for number in range(self.writer_count):
                yield Vma(
                    f"area{number}", 62 * PAGE_BYTES, AnonymousMapping(), protection=READ_WRITE
                )

    def readers(self) -> Iterator[ThreadGroup]:
        """Let each fault thread touch its part of the shuffled pages."""
        if self.vma_count == 1:
            share = 0 if self.all_at_once else self.touches
            if self.pages:
                touch = Touch("vma0", self._explicit(self.pages, share), self.access, count=1)
            else:
                used_bytes = self.used_pages * PAGE_BYTES
                touch = Touch("vma0", Uniform(), self.access, count=1, length_bytes=used_bytes)
            start = (Barrier("round"),) if self.all_at_once else ()
            loop = Loop(self.touches, (*start, touch, *self._between()))
            yield ThreadGroup("readers", self.threads, (loop,))
            return
        for thread in range(self.threads):
            pages = self.pages[thread * self.touches : (thread + 1) * self.touches]
            yield ThreadGroup(f"reader{thread}", 1, tuple(self._touches(pages)))

    def _touches(self, pages: list[int]) -> Iterator[Step]:
        for page in pages:
            vma, within = divmod(page, self.used_pages)
            yield Touch(f"vma{vma}", self._explicit([within], 0), self.access, count=1)
            yield from self._between()

    def _explicit(self, pages: list[int], slice_: int) -> Explicit:
        deltas = (after - before for before, after in zip([0, *pages[:-1]], pages, strict=True))
        return Explicit(tuple(deltas), slice=slice_)

    def _between(self) -> tuple[Step, ...]:
        loop = Compute(Fixed(LOOP_NS))
        return (loop, self._sleep(self.think_us)) if self.think_us else (loop,)

    def _sleep(self, us: int) -> Sleep:
        return Sleep(_delayed(us * 1000, self.late))

    def writers(self) -> Iterator[ThreadGroup]:
        """Let the writers repeat their pair of operations until the readers are done."""
        if self.writer_count == 0:
            return
        if self.writer_op == "mprotect_unrelated":
            for number in range(self.writer_count):
                pair = self._pair(f"area{number}", 15, 1, UNRELATED)
                yield self._writer(f"writer{number}", 1, pair)
            return
        if self.writer_op == "mmap_munmap_unrelated":
            pair = (Mmap("area", 32 * PAGE_BYTES), Munmap("area"))
        else:
            at = self.used_pages + TAIL_WRITTEN_FROM
            protections = SAME_VMA_OF_SWAP if self.is_swapped else SAME_VMA
            pair = self._pair("vma0", at, 2, protections, thread_pages=4)
        yield self._writer("writers", self.writer_count, pair)

    def _writer(self, name: str, threads: int, pair: tuple[Step, ...]) -> ThreadGroup:
        measured = Measure("writer", pair)
        think = (self._sleep(self.writer_think_us),) if self.writer_think_us else ()
        return ThreadGroup(name, threads, (Loop(0, (measured, *think)),), daemon=True)

    def _pair(
        self,
        vma: str,
        page: int,
        pages: int,
        protections: tuple[tuple[Protection, ...], ...],
        thread_pages: int = 0,
    ) -> tuple[Step, ...]:
        """Split a VMA by its protection, and merge it again."""
        return tuple(
            Mprotect(
                vma,
                offset_bytes=page * PAGE_BYTES,
                length_bytes=pages * PAGE_BYTES,
                protection=protection,
                thread_offset_bytes=thread_pages * PAGE_BYTES,
            )
            for protection in protections
        )


def _delayed(ns: int, late: Lateness | None) -> Duration:
    """Return how long a timer takes that is set to `ns`; one of 0 strikes at once."""
    if late is None or ns == 0:
        return Fixed(ns)
    asked_ns = ns + ns * late.drift_ppm // 1_000_000
    return Quantiles(tuple(Quantile(ppm, asked_ns + more) for ppm, more in late.quantiles))


def _xorshift(seed: int) -> Iterator[int]:
    while True:
        seed ^= (seed << 13) & WORD
        seed ^= seed >> 7
        seed ^= (seed << 17) & WORD
        yield seed


def _shuffled_pages(windows: int, stride_pages: int, repetition: int) -> list[int]:
    """Return one page of each window in the harness's order: shuffled by its own generator."""
    words = _xorshift((0x9E3779B97F4A7C15 + repetition) & WORD)
    pages = list(range(windows))
    if stride_pages > 1:
        pages = [
            window * stride_pages + word % stride_pages
            for window, word in enumerate(islice(words, windows))
        ]
    for last in range(windows - 1, 0, -1):
        other = next(words) % (last + 1)
        pages[last], pages[other] = pages[other], pages[last]
    return pages
