"""Scenarios made by dice: small, valid, and with everything that can be asked for.

A seed makes a scenario, always the same one. Few pages and few CPUs are shared by all
threads, and costs go from nothing to milliseconds, so that what takes time overlaps with
everything else.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import (
    Access,
    Advice,
    DropForIo,
    FaultClass,
    FileKind,
    ForkSkips,
    Madvice,
    PageState,
    Protection,
    RelockAndMap,
    RetryReason,
    SignalKind,
    UptodateDirect,
)
from faultlane_server.kernels import KERNELS
from faultlane_server.machines import COSTS
from faultlane_server.policy import POLICIES
from faultlane_server.scenario import (
    AnonymousMapping,
    Barrier,
    Brk,
    ByteRange,
    ClearRefs,
    Compute,
    Device,
    Duration,
    Exec,
    Explicit,
    Exponential,
    FadviseDontneed,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Fork,
    Ftruncate,
    Kernel,
    Khugepaged,
    Kill,
    LogNormal,
    Loop,
    Machine,
    Madvise,
    Mbind,
    Measure,
    Migrate,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munlock,
    Munmap,
    NumaScan,
    Pattern,
    Prctl,
    Process,
    PunchHole,
    Quantile,
    Quantiles,
    ReadMaps,
    ReadSmaps,
    RetryPolicy,
    RetryRule,
    Scenario,
    Sequential,
    Sleep,
    Step,
    Stride,
    SyncFileRange,
    ThreadGroup,
    Touch,
    Uniform,
    UserfaultfdClose,
    UserfaultfdCopy,
    UserfaultfdModes,
    UserfaultfdRegister,
    UserfaultfdWriteprotect,
    Vma,
    Workload,
    Zipf,
    check,
)
from tests.engine.random_hugetlb import with_huge_pages
from tests.engine.random_memory import short_of_memory
from tests.engine.random_scheduling import scheduled_oddly

FILE_PAGES_MAX = 40
ADDRESS = 1 << 32  # where VMAs begin that are neighbours
NEVER_FREE = ("touch", "trap", "handle", "retry", "switch")  # so that every loop takes time
CACHED = (PageState.CACHED, PageState.CACHED_READAHEAD, PageState.DIRTY)

Choice = TypeVar("Choice")


def a_random_scenario(seed: int) -> Scenario:
    """Make the scenario of a seed: some have huge pages, little memory, or an odd scheduler."""
    scenario = with_huge_pages(check(_Maker(seed).scenario()), seed)
    if seed % 2:
        scenario = short_of_memory(scenario, seed)
    return scheduled_oddly(scenario, seed) if seed % 5 < 2 else scenario


class _Dice:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def one_in(self, n: int) -> bool:
        return self._random.randrange(n) == 0

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return self._random.choice(choices)

    def some(self, choices: Sequence[Choice]) -> tuple[Choice, ...]:
        return tuple(choice for choice in choices if self.one_in(2))

    def of_any_size(self, most: int) -> int:
        """Return 0, or a number up to `most` of which each power of ten is as likely."""
        return 0 if self.one_in(8) else int(10 ** self._random.uniform(0, len(str(most)) - 1))


class _Maker:
    """Makes one scenario."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = _Dice(seed)
        self.is_calm = self.dice.one_in(2)  # nothing goes away for good, and no read fails
        self.has_userfaultfd = self.dice.one_in(3)
        self.arch = self.dice.pick(tuple(ARCHITECTURES.values()))
        self.page_bytes = self.dice.pick(self.arch.page_sizes)
        self.devices = tuple(self._device(f"d{n}") for n in range(self.dice.between(1, 2)))
        self.files = tuple(self._file(f"f{n}") for n in range(self.dice.between(1, 3)))
        self.crowds = self._crowds()

    def scenario(self) -> Scenario:
        dice = self.dice
        return Scenario(
            workload=Workload(tuple(self._process(name) for name in self.crowds), self.files),
            machine=Machine(
                self.arch.name,
                dice.pick((1, 1, 2, 2, 3, 4, 8)),
                self.page_bytes,
                costs_ns=self._costs(),
                devices=self.devices,
            ),
            kernel=self._kernel(),
            horizon_ns=dice.pick((10**7, 10**8, 10**10)),
            seed=self.seed,
            warmup_ns=dice.pick((0, 0, 0, 100_000)),
            attempts_max=dice.pick((64, 1000)),
        )

    # The machine and the kernel.

    def _device(self, name: str) -> Device:
        dice = self.dice
        return Device(
            name,
            self._duration(10**7),
            channels=dice.pick((1, 1, 2, 16)),
            bandwidth_bytes_per_s=dice.pick((0, 0, 10**9)),
            readahead_bytes=dice.pick((0, 1, 2, 4, 8, 32)) * self.page_bytes,
            write_latency=dice.pick((None, self._duration(10**7))),
            error_ppm=0 if self.is_calm else dice.pick((0, 0, 100_000, 500_000, 1_000_000)),
            stable_writes=dice.one_in(2),
        )

    def _duration(self, most_ns: int) -> Duration:
        dice = self.dice
        ns = dice.pick((dice.of_any_size(most_ns), dice.between(most_ns // 1000, most_ns // 10)))
        laws: tuple[Duration, ...] = (
            Fixed(ns),
            Fixed(ns),
            Exponential(ns + 1),
            LogNormal(ns + 1, 700_000),
            Quantiles((Quantile(0, ns), Quantile(500_000, 2 * ns), Quantile(10**6, 20 * ns))),
        )
        return dice.pick(laws)

    def _costs(self) -> dict[str, int]:
        dice = self.dice
        how = dice.pick(("as they are", "some are huge", "all are odd", "few are not nothing"))
        costs_ns: dict[str, int] = {}
        if how == "some are huge":
            costs_ns = {name: dice.of_any_size(10**7) for name in COSTS if dice.one_in(12)}
        elif how == "all are odd":
            costs_ns = {name: dice.of_any_size(10**6) for name in COSTS}
        elif how == "few are not nothing":
            costs_ns = {name: dice.of_any_size(10**5) * dice.one_in(4) for name in COSTS}
        return {name: max(ns, int(name in NEVER_FREE)) for name, ns in costs_ns.items()}

    def _kernel(self) -> Kernel:
        dice = self.dice
        generation = dice.pick((*KERNELS, "6.12", "6.18"))
        has_vma_lock = KERNELS[generation].release >= self.arch.vma_lock_since
        dirty = dice.pick((0, 0, 2, 4, 9, 30))
        return Kernel(
            generation,
            self._policy() if has_vma_lock else dice.pick(("mainline", "mmap_lock_only")),
            hz=dice.pick((100, 250, 1000)),
            fault_around_bytes=dice.pick((0, 1, 4, 16)) * self.page_bytes,
            dirty_bytes=dirty * self.page_bytes,
            dirty_background_bytes=dice.between(0, dirty) * self.page_bytes,
            madvise_vma_lock=dice.one_in(3),
            fork_skips=dice.pick((ForkSkips.NOTHING, ForkSkips.NOTHING, *ForkSkips)),
        )

    def _policy(self) -> str | RetryPolicy:
        dice = self.dice
        if not dice.one_in(3):
            return dice.pick(tuple(POLICIES))
        rules = [self._rule() for _ in FaultClass]
        return RetryPolicy(False, *rules)

    def _rule(self) -> RetryRule:
        dice = self.dice
        vma_lock_on = dice.some(tuple(RetryReason))
        direct = dice.pick(tuple(UptodateDirect))
        return RetryRule(
            vma_lock_on,
            vma_retries_max=dice.pick((0, 1, 3)) if vma_lock_on else 0,
            vma_retry_sets_tried=bool(vma_lock_on) and dice.one_in(3),
            drop_for_io=dice.pick(tuple(DropForIo)),
            uptodate_direct=direct,
            uptodate_killable=direct != UptodateDirect.NO and dice.one_in(2),
            relock_and_map=dice.pick((RelockAndMap.NO, RelockAndMap.NO, *RelockAndMap)),
        )

    # Files, processes and VMAs.

    def _file(self, name: str) -> File:
        dice = self.dice
        pages = dice.pick((1, 2, dice.between(3, 8), dice.between(9, FILE_PAGES_MAX)))
        size_bytes = pages * self.page_bytes - dice.pick((0, 0, 1, self.page_bytes - 1))
        regular = FileKind.REGULAR
        kind = dice.pick((regular, regular, regular, FileKind.TMPFS, FileKind.SPECIAL))
        if kind == FileKind.SPECIAL:
            return File(name, size_bytes, kind=kind)
        if kind == FileKind.TMPFS:
            in_memory = self._initial(pages, (PageState.ABSENT, PageState.CACHED))
            return File(name, size_bytes, "", in_memory, kind)
        states = tuple(state for state in PageState if state != PageState.SWAPPED)
        initial = self._initial(pages, states)
        bad = () if self.is_calm or dice.one_in(2) else self._byte_ranges(pages)
        device, copies = dice.pick(self.devices).name, dice.pick((1, 1, 8))
        return File(name, size_bytes, device, initial, kind, bad, copies)

    def _initial(self, pages: int, states: Sequence[PageState]) -> tuple[FileRange, ...]:
        dice = self.dice
        return tuple(
            FileRange(
                dice.pick(states), part.offset_bytes, part.length_bytes, dice.pick((1, 1, 2, 3))
            )
            for _ in range(dice.pick((0, 0, 1, 3)))
            for part in self._byte_ranges(pages)
        )

    def _byte_ranges(self, pages: int) -> tuple[ByteRange, ...]:
        return (ByteRange(*self._range(pages)),)

    def _range(self, pages: int) -> tuple[int, int]:
        """Return the offset and the length of some pages, mostly of all of them."""
        dice = self.dice
        if dice.one_in(3):
            return 0, 0
        first = dice.between(0, pages - 1)
        length = dice.between(1, pages - first)
        return first * self.page_bytes, length * self.page_bytes

    def _pages_of(self, file: File) -> int:
        return -(-file.size_bytes // self.page_bytes)

    def _crowds(self) -> dict[str, dict[str, int]]:
        """Return how many threads the groups of the processes have."""
        dice = self.dice
        threads = dice.pick((1, dice.between(2, 8), dice.between(5, 8)))
        crowds: dict[str, dict[str, int]] = {}
        while threads > 0:
            process = crowds.setdefault(f"p{dice.between(0, 2)}", {})
            crowd = dice.between(1, threads)
            process[f"g{len(process)}"] = crowd
            threads -= crowd
        return crowds

    def _process(self, name: str) -> Process:
        dice = self.dice
        vmas = self._vmas()
        barriers = dice.pick((0, 0, 0, 0, 1, 2))
        groups = []
        for group, threads in self.crowds[name].items():
            visits = dice.between(0, barriers) if dice.one_in(8) else barriers
            program = _Writer(self, name, vmas, threads).program(visits)
            groups.append(ThreadGroup(group, threads, program, daemon=dice.one_in(8)))
        if dice.one_in(2):
            churn = _Writer(self, name, vmas, threads=2).churn()
            groups.append(ThreadGroup("churn", dice.between(1, 2), churn, daemon=True))
        if self.has_userfaultfd and any(vma.name == "anonymous" for vma in vmas):
            groups += self._handlers()
        if not self.is_calm and len(groups) == 1 and groups[0].threads == 1 and dice.one_in(3):
            (only,) = groups
            at = dice.between(0, len(only.program))
            groups = [replace(only, program=(*only.program[:at], Exec(), *only.program[at:]))]
        return Process(name, vmas, tuple(groups))

    def _handlers(self) -> list[ThreadGroup]:
        """Make threads that resolve what a userfaultfd is told of, or only some of it."""
        copy = UserfaultfdCopy("anonymous")
        allow = UserfaultfdWriteprotect("anonymous", resolve=True)
        return [
            ThreadGroup(name, 1, (Loop(0, (step, Compute(Fixed(1)))),), daemon=True)
            for name, step in (("copier", copy), ("allower", allow))
            if not self.dice.one_in(8)
        ]

    def _vmas(self) -> tuple[Vma, ...]:
        """Map files, some of them more than once, next to each other or not."""
        dice = self.dice
        vmas: list[Vma] = []
        address = ADDRESS
        for number in range(dice.between(1, 3)):
            file = self.files[0] if dice.one_in(2) else dice.pick(self.files)
            pages = self._pages_of(file)
            first = dice.between(0, pages - 1) if dice.one_in(3) else 0
            length = dice.between(1, pages - first) if dice.one_in(3) else pages - first
            mapping = FileMapping(
                file.name, first * self.page_bytes, dice.pick(("", "other")), dice.one_in(3)
            )
            vma = Vma(
                f"v{number}",
                length * self.page_bytes,
                mapping,
                address,
                self._protection(),
                dice.pick((Advice.NORMAL, *Advice)),
            )
            vmas += self._in_parts(replace(vma, mapped=self._mapped(file, first, length)))
            address += (length + dice.pick((0, 1, 700))) * self.page_bytes
        if dice.one_in(2):
            heap = self._anonymous()
            is_large = self.page_bytes == 4096 and dice.one_in(5)  # enough for huge pages
            if is_large and not heap.grows_down_bytes:
                heap = replace(heap, length_bytes=1100 * self.page_bytes)
            room_bytes = dice.pick((0, dice.between(1, 9))) * self.page_bytes
            vmas.append(replace(heap, room_bytes=0 if heap.grows_down_bytes else room_bytes))
        return tuple(vmas)

    def _anonymous(self) -> Vma:
        """Make anonymous memory, with pages that are with a device, or that are handed over."""
        dice = self.dice
        pages = dice.between(1, 20)
        length_bytes, protection = pages * self.page_bytes, self._protection()
        plain = Vma("anonymous", length_bytes, AnonymousMapping(), 0, protection)
        if dice.one_in(2):
            return plain
        some = [self._byte_ranges(pages) if dice.one_in(3) else () for _ in range(4)]
        modes = UserfaultfdModes(dice.one_in(4), dice.one_in(4))
        special = replace(
            plain,
            mapped=some[0],
            device_private=some[1],
            device_exclusive=some[2],
            numa_hinted=some[3],
            userfaultfd=modes if self.has_userfaultfd else UserfaultfdModes(),
        )
        if dice.one_in(2):
            return special
        return replace(special, grows_down_bytes=dice.between(1, 9) * self.page_bytes, room="below")

    def _in_parts(self, vma: Vma) -> tuple[Vma, ...]:
        """Return a VMA as it is, or as two that could become one."""
        assert isinstance(vma.backing, FileMapping)
        pages = vma.length_bytes // self.page_bytes
        if pages < 2 or not self.dice.one_in(4):
            return (vma,)
        first_bytes = self.dice.between(1, pages - 1) * self.page_bytes
        offset_bytes = vma.backing.offset_bytes + first_bytes
        right = replace(
            vma,
            name=f"{vma.name}b",
            length_bytes=vma.length_bytes - first_bytes,
            backing=replace(vma.backing, offset_bytes=offset_bytes),
            address=vma.address + first_bytes,
            protection=self._protection(),
            mapped=(),
        )
        return replace(vma, length_bytes=first_bytes, mapped=()), right

    def _protection(self) -> tuple[Protection, ...]:
        both = (Protection.READ, Protection.WRITE)
        some = self.dice.some(tuple(Protection)) or both
        if self.is_calm:
            some = (Protection.READ,)
        return self.dice.pick((both, both, both, both, both, (Protection.READ,), some))

    def _mapped(self, file: File, first: int, length: int) -> tuple[ByteRange, ...]:
        """Choose pages that are mapped from the start, of those that are in the page cache."""
        if self.dice.one_in(2):
            return ()
        cached = self._cached(file)
        return tuple(
            ByteRange(page * self.page_bytes, self.page_bytes)
            for page in range(length)
            if cached[first + page] and self.dice.one_in(2)
        )

    def _cached(self, file: File) -> list[bool]:
        pages = self._pages_of(file)
        cached = [file.kind == FileKind.SPECIAL] * pages
        for part in file.initial:
            first = part.offset_bytes // self.page_bytes
            end = first + part.length_bytes // self.page_bytes if part.length_bytes else pages
            for page in range(first, end, part.every_pages):
                cached[page] = part.state in CACHED
        return cached

    def is_special(self, vma: Vma) -> bool:
        """Whether a VMA maps a file whose pages cannot be moved."""
        mapping = vma.backing
        return isinstance(mapping, FileMapping) and any(
            file.name == mapping.file and file.kind == FileKind.SPECIAL for file in self.files
        )

    def protection_now(self) -> tuple[Protection, ...]:
        """Return what an mprotect asks for: nothing at all as well."""
        none = self.dice.one_in(8) and not self.is_calm
        return () if none else self._protection()


class _Writer:
    """Writes the program of one group."""

    def __init__(self, maker: _Maker, process: str, vmas: tuple[Vma, ...], threads: int) -> None:
        self.maker = maker
        self.dice = maker.dice
        self.page_bytes = maker.page_bytes
        self.process = process
        self.vmas = vmas
        self.threads = threads
        self.areas = 0

    def program(self, barriers: int) -> tuple[Step, ...]:
        """Write steps, with so many visits of the barrier of all groups among them."""
        program = list(self._theme())
        for _ in range(barriers):
            program.insert(self.dice.between(0, len(program)), Barrier("all"))
        return tuple(program)

    def churn(self) -> tuple[Step, ...]:
        """Take pages away and change VMAs without end, so that others go on faulting."""
        steps = (*self._on_a_file(), *self._on_a_file(), self._on_a_vma())
        return (Loop(0, (*steps, Sleep(self.maker._duration(10**6)), Compute(Fixed(100)))),)

    def _theme(self) -> tuple[Step, ...]:
        """Do a bit of everything, or little but often."""
        dice = self.dice
        kind = dice.between(0, 9)
        if kind < 4:
            return self._steps(depth=0)
        if kind < 7:
            return (self._often(self._touch(), self._touch()),)
        if kind == 7:
            return (self._often(*self._on_a_file(), *self._on_a_file()),)
        if kind == 8:
            return (self._often(self._on_a_vma(), *self._some_step(2)),)
        pause = Sleep(self.maker._duration(10**6))
        return (pause, self._kill(), self._often(pause, self._kill()))

    def _often(self, *steps: Step) -> Loop:
        """Do some steps over and over, with or without a pause."""
        pause = Fixed(1) if self.dice.one_in(2) else self.maker._duration(10**5)
        return Loop(self.dice.between(2, 60), (*steps, Compute(pause)))

    def _steps(self, depth: int) -> tuple[Step, ...]:
        return tuple(
            step for _ in range(self.dice.between(1, 6)) for step in self._some_step(depth)
        )

    def _some_step(self, depth: int) -> tuple[Step, ...]:
        dice = self.dice
        kind = dice.between(0, 19)
        if kind < 8:
            return (self._touch(),)
        if kind < 10:
            law = self.maker._duration(10**6)
            return (Compute(law) if dice.one_in(2) else Sleep(law),)
        if kind < 12:
            fork = Fork(self.maker._duration(10**6))
            return (fork if dice.one_in(4) else self._on_a_vma(),)
        if kind < 16:
            return self._on_a_file()
        if kind == 16:
            return self._area(depth)
        if kind == 17 and dice.one_in(3):
            return (self._kill() if dice.one_in(2) else self._on_a_process(),)
        if depth < 2:
            inner = self._steps(depth + 1)
            return (Measure(f"m{depth}", inner) if dice.one_in(4) else self._loop(inner),)
        return (self._touch(),)

    def _loop(self, steps: tuple[Step, ...]) -> Loop:
        return Loop(self.dice.pick((1, 2, 3, 5, 12)), (*steps, Compute(Fixed(1))))

    def _area(self, depth: int) -> tuple[Step, ...]:
        """Map memory or a file, do something else, and unmap it."""
        dice = self.dice
        self.areas += 1
        name = f"a{self.areas}"
        area, pages = self._mapping(name)
        between = list(self._steps(depth + 1) if dice.one_in(3) else ())
        between += [self._touch_of(name, pages) for _ in range(dice.between(0, 2))]
        if dice.one_in(3):
            length = dice.between(1, pages)
            between += [Mremap(name, length * self.page_bytes, dice.one_in(2))]
            between += [self._touch_of(name, length)]
        return (area, *between, Munmap(name))

    def _mapping(self, name: str) -> tuple[Mmap, int]:
        """Return how to map something, and how many pages it has."""
        dice = self.dice
        populate = dice.one_in(4)
        if dice.one_in(2):
            pages = dice.between(1, 9)
            length_bytes = pages * self.page_bytes
            return Mmap(name, length_bytes, dice.one_in(2), populate=populate), pages
        file = dice.pick(self.maker.files)
        first = dice.between(0, self.maker._pages_of(file) - 1)
        pages = dice.between(1, self.maker._pages_of(file) - first)
        opened = dice.pick(("", "", "other"))
        mapping = FileMapping(file.name, first * self.page_bytes, opened, dice.one_in(3))
        own = file.copies >= self.threads and dice.one_in(2)
        protection = self.maker._protection()
        length_bytes = pages * self.page_bytes
        area = Mmap(name, length_bytes, False, mapping, own, protection, populate=populate)
        return area, pages

    def _over(self, vma: Vma) -> Mmap:
        """Map something over a part of a VMA."""
        area, pages = self._mapping("")
        room = vma.length_bytes // self.page_bytes
        pages = min(pages, room)
        first = self.dice.between(0, room - pages) * self.page_bytes
        length_bytes = pages * self.page_bytes
        return replace(
            area, length_bytes=length_bytes, merge=False, over=vma.name, over_offset_bytes=first
        )

    def _change(self, vma: Vma) -> Step:
        """Move a VMA, or change its length."""
        most = (vma.length_bytes + vma.room_bytes) // self.page_bytes
        length_bytes = self.dice.between(1, most) * self.page_bytes
        if vma.room_bytes and isinstance(vma.backing, AnonymousMapping) and self.dice.one_in(2):
            return Brk(vma.name, length_bytes)
        return Mremap(vma.name, self.dice.pick((0, length_bytes)), self.dice.one_in(2))

    def _kill(self) -> Kill:
        process = self.dice.pick((self.process, self.dice.pick(tuple(self.maker.crowds))))
        if self.dice.one_in(2) and not self.maker.is_calm:
            return Kill(SignalKind.FATAL, process)
        return Kill(SignalKind.HANDLED, process, self.dice.pick(tuple(self.maker.crowds[process])))

    def _on_a_vma(self) -> Step:
        dice = self.dice
        vma = dice.pick(self.vmas)
        pages = vma.length_bytes // self.page_bytes
        if dice.one_in(5):
            return self._on_a_special_vma(vma, pages)
        if dice.one_in(8) and not self.maker.is_calm:
            return Munmap(vma.name, *self.maker._range(pages))
        if dice.one_in(4) and not self.maker.is_calm:
            return self._over(vma) if dice.one_in(2) else self._change(vma)
        part, shift_bytes = self.maker._range(pages), 0
        if pages >= self.threads and dice.one_in(3):
            part, shift_bytes = (0, self.page_bytes), self.page_bytes
        return self._on_a_range(vma.name, *part, shift_bytes)

    def _on_a_range(self, name: str, offset: int, length: int, shift: int) -> Step:
        """Change the flags of a range, or do something with its pages."""
        dice = self.dice
        kind = dice.between(0, 11)
        where = (name, offset, length, shift)
        if kind < 4:
            return Madvise(name, dice.pick(tuple(Madvice)), offset, length, shift)
        if kind == 4:
            return Mlock(*where) if dice.one_in(2) else Munlock(*where)
        if kind == 5:
            return Mbind(*where, dice.between(0, 2), dice.one_in(2))
        if kind == 6:
            return Prctl(*where, dice.pick(("", "arena")))
        if kind == 7:
            return Khugepaged(*where) if dice.one_in(2) else NumaScan(*where)
        return Mprotect(name, offset, length, self.maker.protection_now(), shift)

    def _on_a_process(self) -> Step:
        """Look at all VMAs of a process."""
        process = self.dice.pick(tuple(self.maker.crowds))
        looks: tuple[Step, ...] = (ReadSmaps(process), ReadMaps(process), ClearRefs(process))
        return self.dice.pick(looks)

    def _on_a_special_vma(self, vma: Vma, pages: int) -> Step:
        """Move pages, or let a userfaultfd be told of something."""
        dice = self.dice
        part = self.maker._range(pages)
        is_anonymous = isinstance(vma.backing, AnonymousMapping)
        if self.maker.has_userfaultfd and is_anonymous:
            modes = dice.pick((UserfaultfdModes(True), UserfaultfdModes(False, True)))
            register = UserfaultfdRegister(vma.name, modes, *part)
            protect = UserfaultfdWriteprotect(vma.name, *part)
            steps: tuple[Step, ...] = (register, protect, protect, UserfaultfdClose())
            return dice.pick(steps)
        if self.maker.is_special(vma):
            return Madvise(vma.name, Madvice.DONTNEED, *part)
        return Migrate(vma.name, *part)

    def _on_a_file(self) -> tuple[Step, ...]:
        dice = self.dice
        files = [file for file in self.maker.files if file.kind != FileKind.SPECIAL]
        if not files:
            return (self._touch(),)
        file = dice.pick(files)
        part = self.maker._range(self.maker._pages_of(file))
        kind = dice.between(0, 5)
        if kind == 0:
            shorter = Ftruncate(file.name, dice.between(0, file.size_bytes))
            longer = Ftruncate(file.name, file.size_bytes)
            return (shorter, longer) if self.maker.is_calm or dice.one_in(2) else (shorter,)
        if kind == 1:
            return (PunchHole(file.name, *part),)
        if kind < 4:
            return (SyncFileRange(file.name, *part, dice.one_in(2)),)
        return (FadviseDontneed(file.name, *part),)

    def _touch(self) -> Touch:
        vma = self.dice.pick(self.vmas)
        if vma.room and self.dice.one_in(2):
            return self._touch_of(vma.room, vma.grows_down_bytes // self.page_bytes)
        return self._touch_of(vma.name, vma.length_bytes // self.page_bytes)

    def _touch_of(self, name: str, pages: int) -> Touch:
        dice = self.dice
        access = dice.pick((Access.READ, Access.WRITE))
        if dice.one_in(10):
            access = Access.EXEC
        kernel_mode = access != Access.EXEC and dice.one_in(5)
        count = dice.pick((1, dice.between(1, 12), dice.between(1, 50)))
        if dice.one_in(4):
            listed = self._list(pages)
            return Touch(name, listed, access, dice.between(0, count), 0, 0, kernel_mode)
        part = self.maker._range(pages)
        touched = part[1] // self.page_bytes or pages
        return Touch(name, self._pattern(touched), access, count, *part, kernel_mode)

    def _list(self, pages: int) -> Explicit:
        dice = self.dice
        listed = [dice.between(0, pages - 1) for _ in range(dice.between(1, 12))]
        deltas = tuple(page - before for before, page in zip([0, *listed], listed, strict=False))
        share = len(listed) // self.threads
        return Explicit(deltas, share if dice.one_in(2) else 0)

    def _pattern(self, pages: int) -> Pattern:
        dice = self.dice
        stride = Stride(dice.between(1, 5) * self.page_bytes, dice.between(0, 3) * self.page_bytes)
        divided = pages >= self.threads and dice.one_in(2)
        patterns: tuple[Pattern, ...] = (
            Uniform(),
            Uniform(),
            Sequential(divided),
            Zipf(900_000),
            stride,
        )
        return dice.pick(patterns)
