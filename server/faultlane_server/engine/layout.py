"""Programs laid flat: steps become instructions, loops and measures become jumps.

All threads of a group share their instructions; what differs between them is reckoned
from the thread's number in its group.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from faultlane_server.codes import NOBODY, Madvice
from faultlane_server.engine.draw import zipf_table
from faultlane_server.engine.scheduling import lay_scheduling
from faultlane_server.engine.world import (
    UFFD_MISSING,
    UFFD_WP,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_MERGEABLE,
    VM_NAME,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_POLICY,
    VM_WIPEONFORK,
    Op,
    Pattern,
    Populates,
)
from faultlane_server.scenario import (
    Barrier,
    Brk,
    ClearRefs,
    Compute,
    Exec,
    Explicit,
    FadviseDontneed,
    FileMapping,
    FileStep,
    Fork,
    Ftruncate,
    HugetlbMapping,
    Khugepaged,
    Kill,
    Loop,
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
    Prctl,
    Process,
    ProcessStep,
    PunchHole,
    RangeStep,
    ReadMaps,
    ReadSmaps,
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
    UserfaultfdStep,
    UserfaultfdWriteprotect,
    Vma,
    Zipf,
    is_private,
    reach_bytes,
)

if TYPE_CHECKING:
    from faultlane_server.engine.compile import Compiler


FILE_OP_OF: dict[type, Op] = {
    Ftruncate: Op.FTRUNCATE,
    PunchHole: Op.PUNCH_HOLE,
    SyncFileRange: Op.SYNC_FILE_RANGE,
    FadviseDontneed: Op.FADVISE_DONTNEED,
}


SPECIAL_OP_OF: dict[type, Op] = {
    UserfaultfdRegister: Op.USERFAULTFD_REGISTER,
    UserfaultfdCopy: Op.USERFAULTFD_COPY,
    UserfaultfdWriteprotect: Op.USERFAULTFD_WRITEPROTECT,
    UserfaultfdClose: Op.USERFAULTFD_CLOSE,
    Migrate: Op.MIGRATE,
}


def uffd_bits(modes: UserfaultfdModes) -> int:
    """Return what a userfaultfd is told of as the engine has it."""
    return UFFD_MISSING * modes.missing + UFFD_WP * modes.write_protect


RANGE_OP_OF: dict[type, Op] = {
    Mprotect: Op.MPROTECT,
    Madvise: Op.MADVISE,
    Mlock: Op.MLOCK,
    Munlock: Op.MUNLOCK,
    Mbind: Op.MBIND,
    Prctl: Op.PRCTL,
    Khugepaged: Op.KHUGEPAGED,
    NumaScan: Op.NUMA_SCAN,
}

PROCESS_OP_OF: dict[type, Op] = {
    ReadSmaps: Op.READ_SMAPS,
    ReadMaps: Op.READ_MAPS,
    ClearRefs: Op.CLEAR_REFS,
}

# Which bits of `Vma.traits` are set, and which go.
TRAITS_OF: dict[type, tuple[int, int]] = {Mlock: (VM_LOCKED, 0), Munlock: (0, VM_LOCKED)}
TRAITS_OF_ADVICE = {
    Madvice.HUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
    Madvice.NOHUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
    Madvice.DONTFORK: (VM_DONTCOPY, 0),
    Madvice.DOFORK: (0, VM_DONTCOPY),
    Madvice.WIPEONFORK: (VM_WIPEONFORK, 0),
    Madvice.KEEPONFORK: (0, VM_WIPEONFORK),
    Madvice.DONTDUMP: (VM_DONTDUMP, 0),
    Madvice.DODUMP: (0, VM_DONTDUMP),
    Madvice.MERGEABLE: (VM_MERGEABLE, 0),
    Madvice.UNMERGEABLE: (0, VM_MERGEABLE),
}

POPULATES_OF_ADVICE = {
    Madvice.POPULATE_READ: Populates.AS_BY_READS,
    Madvice.POPULATE_WRITE: Populates.AS_BY_WRITES,
}


class Region(NamedTuple):
    """A part of an address space: a VMA of the scenario, or the places of an mmap step."""

    start: int  # page number; for an mmap step that of the group's first thread
    pages: int
    pte: int
    thread_pages: int  # distance to the place of the group's next thread
    page_bytes: int  # of the pages that it has
    number: int = 0  # of the record that knows where it is now, that of the group's first thread
    offset: int = 0  # in the file behind the huge pages that have none of their own


class Space:
    """What the programs of a process refer to, by name."""

    def __init__(self, mm: int, compiler: "Compiler", next_page: int) -> None:
        self.mm = mm
        self.compiler = compiler
        self.next_page = next_page
        self.regions: dict[str, Region] = {}
        self.barriers: dict[str, int] = {}

    def name(self, vma: Vma, start: int, pte: int, changing: set[str]) -> None:
        """Let programs refer to a VMA, by a record of its own if it is `changing`."""
        page_bytes = self.compiler.bytes_of_page(vma.backing)
        pages = vma.length_bytes // page_bytes
        room = reach_bytes(vma) // page_bytes
        number = self.new_region(start, room, 1, pages) if vma.name in changing else 0
        self.regions[vma.name] = Region(start, pages, pte, 0, page_bytes, number)
        below = vma.grows_down_bytes // page_bytes
        if below:
            self.regions[vma.room] = Region(start - below, below, pte - below, 0, page_bytes)

    def new_region(self, start: int, room: int, threads: int, pages: int = 0) -> int:
        """Return the first record of some names that can move or change their length."""
        world = self.compiler.world
        first = int(world.regions_used)
        world.regions_used += threads
        rows = world.regions[first : first + threads]
        rows["away"] = self.compiler.place(self, (room + 1) * threads) - start
        rows["pages"] = pages
        rows["room"] = room
        return first


class _Need(NamedTuple):
    """What the mappings of a name need, all of them together."""

    pages: int = 0
    merges: bool = False
    is_shared: bool = True  # they are all shared mappings of files
    changes: bool = False  # they move, or change their length
    hugetlb: "HugetlbMapping | None" = None  # one of them, if they are mappings of huge pages

    def __or__(self, other: "_Need") -> "_Need":
        return _Need(
            max(self.pages, other.pages),
            self.merges or other.merges,
            self.is_shared and other.is_shared,
            self.changes or other.changes,
            self.hugetlb or other.hugetlb,
        )


def steps_of(process: Process) -> list[Step]:
    """Return all steps of a process, those inside others as well."""
    return [step for group in process.groups for step in _flat(group.program)]


def _flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Go through steps in their order, and into those that have steps inside."""
    left = list(reversed(steps))
    while left:
        step = left.pop()
        yield step
        if isinstance(step, Loop | Measure):
            left += reversed(step.steps)


def changing(steps: list[Step]) -> set[str]:
    """Return the names of what moves, or changes its length."""
    return {step.vma for step in steps if isinstance(step, Mremap | Brk)}


def mapped_over(steps: list[Step]) -> set[str]:
    """Return the names of VMAs over which something else is mapped."""
    return {step.over for step in steps if isinstance(step, Mmap) and step.over}


def _is_shared(step: Mmap) -> bool:
    if step.hugetlb is not None:
        return not is_private(step.hugetlb)
    return step.file is not None and not step.file.map_private


def lay_programs(compiler: "Compiler", space: Space, process: Process) -> int:
    """Lay the programs of a process, and return how many more VMAs they may make."""
    vmas_more = 0
    for group in process.groups:
        layer = _Layer(compiler, space, group)
        vmas_more += layer.lay()
    return vmas_more


class _Layer:
    """Lays the program of one group."""

    def __init__(self, compiler: "Compiler", space: Space, group: ThreadGroup) -> None:
        self.compiler = compiler
        self.world = compiler.world
        self.space = space
        self.group = group
        self.places: dict[str, Region] = {}
        self.barriers: set[str] = set()
        self.cursors = 0
        self.vmas_more = 0

    def lay(self) -> int:
        """Lay the program, and give the group its threads."""
        first = self.compiler.instructions
        self._take_places()
        self._steps(self.group.program, 0)
        self._instruction(Op.END, 0)
        self._threads(first)
        return self.vmas_more * self.group.threads

    def _threads(self, first_instruction: int) -> None:
        world, threads = self.world, self.group.threads
        first = int(world.config.threads)
        world.config.threads += threads
        rows = world.threads[first : first + threads]
        rows["mm"] = self.space.mm
        rows["process"] = self.space.mm
        rows["pc"] = first_instruction
        rows["index"] = np.arange(threads)
        rows["daemon"] = self.group.daemon
        rows["affinity"] = self.compiler.affinity_of(self.group.cpus)
        lay_scheduling(world.config, rows, self.group.scheduling)
        rows["first_cursor"] = self.compiler.cursors + self.cursors * np.arange(threads)
        self.compiler.cursors += self.cursors * threads
        for name in self.barriers:
            world.barriers[self.space.barriers[name]].parties += threads

    def _instruction(self, op: Op, depth: int) -> np.record:
        row = self.world.instructions[self.compiler.instructions]
        self.compiler.instructions += 1
        row.op = op
        row.depth = depth
        row.cursor = -1
        row.parties = self.group.threads
        row.target = NOBODY
        row.huge_base = -1
        return row

    def _steps(self, steps: tuple[Step, ...], depth: int) -> None:
        for step in steps:
            if isinstance(step, Loop):
                self._loop(step, depth)
            elif isinstance(step, Measure):
                self._measure(step, depth)
            else:
                self._step(step, depth)

    def _loop(self, step: Loop, depth: int) -> None:
        begin = self.compiler.instructions
        self._instruction(Op.LOOP_BEGIN, depth).count = step.count
        self._steps(step.steps, depth + 1)
        row = self._instruction(Op.LOOP_END, depth)
        row.count = step.count
        row.to = begin

    def _measure(self, step: Measure, depth: int) -> None:
        sections = self.compiler.sections
        number = sections.setdefault(step.name, len(sections))
        self._instruction(Op.MEASURE_BEGIN, depth)
        self._steps(step.steps, depth + 1)
        self._instruction(Op.MEASURE_END, depth).id = number

    def _step(self, step: Step, depth: int) -> None:
        """Lay a step that has no steps inside."""
        if isinstance(step, Touch):
            self._touch(self._instruction(Op.TOUCH, depth), step)
        elif isinstance(step, Compute | Sleep):
            op = Op.COMPUTE if isinstance(step, Compute) else Op.SLEEP
            self.compiler.duration(self._instruction(op, depth).duration, step.duration)
        elif isinstance(step, Mmap):
            self._mmap(self._instruction(Op.MMAP, depth), step)
        elif isinstance(step, Munmap):
            self._munmap(self._instruction(Op.MUNMAP, depth), step)
        elif isinstance(step, Mremap | Brk):
            op = Op.MREMAP if isinstance(step, Mremap) else Op.BRK
            self._change(self._instruction(op, depth), step)
        elif isinstance(step, RangeStep):
            self._range_step(self._instruction(RANGE_OP_OF[type(step)], depth), step)
        elif isinstance(step, ProcessStep):
            row = self._instruction(PROCESS_OP_OF[type(step)], depth)
            row.target = self.compiler.mms[step.process]
        elif isinstance(step, Exec):
            self._instruction(Op.EXEC, depth)
        elif isinstance(step, Fork):
            self.compiler.duration(self._instruction(Op.FORK, depth).duration, step.child)
        elif isinstance(step, FileStep):
            self._file_step(self._instruction(FILE_OP_OF[type(step)], depth), step)
        elif isinstance(step, UserfaultfdStep | Migrate):
            self._special(self._instruction(SPECIAL_OP_OF[type(step)], depth), step)
        elif isinstance(step, Kill):
            self._kill(self._instruction(Op.KILL, depth), step)
        else:
            assert isinstance(step, Barrier), "a step of no known kind"
            self._barrier(self._instruction(Op.BARRIER, depth), step)

    def _pages(self, length_bytes: int) -> int:
        return length_bytes // self.compiler.page_bytes

    def _range(self, row: np.record, region: Region, offset_bytes: int, length_bytes: int) -> None:
        """Set the part of a region that an instruction is about."""
        offset = offset_bytes // region.page_bytes
        row.start = region.start + offset
        row.pte = region.pte + offset
        row.pages = length_bytes // region.page_bytes if length_bytes else region.pages - offset
        if region.page_bytes != self.compiler.page_bytes:
            row.huge_base = region.start
        row.region = region.number
        row.own_region = region.number > 0 and region.thread_pages > 0

    def _touch(self, row: np.record, step: Touch) -> None:
        region = self.places.get(step.vma) or self.space.regions[step.vma]
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.own_pages = region.thread_pages
        row.access = step.access
        row.kernel_mode = step.kernel_mode
        row.count = step.count or 1
        pattern = step.pattern
        if isinstance(pattern, Uniform):
            row.pattern = Pattern.UNIFORM
        elif isinstance(pattern, Zipf):
            self._zipf(row, pattern)
        else:
            row.cursor = self.cursors
            self.cursors += 1
            self._walk(row, step, pattern)

    def _walk(self, row: np.record, step: Touch, pattern: Sequential | Stride | Explicit) -> None:
        """Set a pattern that remembers how far it is."""
        if isinstance(pattern, Sequential):
            row.pattern = Pattern.SEQUENTIAL
            row.divided = pattern.divided
        elif isinstance(pattern, Stride):
            row.pattern = Pattern.STRIDE
            page_bytes = self._region(step.vma).page_bytes
            row.step_pages = pattern.stride_bytes // page_bytes
            row.thread_pages = pattern.thread_offset_bytes // page_bytes
        else:
            self._list(row, step, pattern)

    def _list(self, row: np.record, step: Touch, pattern: Explicit) -> None:
        pages = np.cumsum(np.array(pattern.page_deltas, np.int64))
        first = self.compiler.listed
        self.world.pages_listed[first : first + len(pages)] = pages
        self.compiler.listed += len(pages)
        row.pattern = Pattern.EXPLICIT
        row.first_entry = first
        row.entries = pattern.slice or len(pages)
        row.thread_pages = pattern.slice
        row.count = step.count or row.entries

    def _zipf(self, row: np.record, pattern: Zipf) -> None:
        first = self.compiler.zipf_entries
        table = zipf_table(int(row.pages), pattern.theta_ppm)
        self.world.zipf[first : first + len(table)] = table
        self.compiler.zipf_entries += len(table)
        row.pattern = Pattern.ZIPF
        row.first_entry = first
        row.entries = len(table)

    def _region(self, name: str) -> Region:
        return self.places.get(name) or self.space.regions[name]

    def _mmap(self, row: np.record, step: Mmap) -> None:
        """Map in the thread's own place for the name, which has room for the longest mapping."""
        region = self._region(step.over or step.name)
        self._range(row, region, step.over_offset_bytes, step.length_bytes)
        row.thread_pages = region.thread_pages
        row.merges = step.merge
        row.protection = sum(1 << bit for bit in step.protection)
        row.fixed = bool(step.over)
        row.populates = Populates.AS_IT_IS if step.populate else Populates.NOTHING
        row.open, row.private = NOBODY, True
        if step.file is not None:
            self._map_file(row, step, step.file)
        if step.hugetlb is not None:
            self._map_hugetlb(row, step.hugetlb, region)
        if step.over:
            self.vmas_more += 2

    def _map_file(self, row: np.record, step: Mmap, mapping: FileMapping) -> None:
        """Choose the struct files of a mapping: shared by their name, or made anew each time."""
        threads = self.group.threads
        files = threads if step.own_file else 1
        row.offset = self._pages(mapping.offset_bytes)
        row.private = mapping.map_private
        row.opens = not mapping.open
        row.own_open = step.own_file or not mapping.open
        if mapping.open:
            row.open = self.compiler.open(mapping, files)
        else:
            row.open = self.compiler.new_open(mapping, files, threads)

    def _map_hugetlb(self, row: np.record, mapping: HugetlbMapping, region: Region) -> None:
        """Map huge pages: without a file each thread has its part of that behind all of them."""
        row.private = is_private(mapping)
        row.sets = VM_NORESERVE * mapping.no_reserve
        row.open = self.compiler.open_hugetlb(mapping)
        row.offset = mapping.offset_bytes // region.page_bytes
        if not mapping.file:
            row.offset, row.own_offset = region.offset, True

    def _take_places(self) -> None:
        """Give each thread a place of its own for each name.

        There is a guard page behind it, unless its mappings merge with their neighbours.
        """
        needs: dict[str, _Need] = {}
        for step in _flat(self.group.program):
            if isinstance(step, Mmap) and not step.over:
                pages = step.length_bytes // self.compiler.bytes_of_page(step.hugetlb)
                need = _Need(pages, step.merge, _is_shared(step), hugetlb=step.hugetlb)
                needs[step.name] = needs.get(step.name, _Need()) | need
            elif isinstance(step, Mremap) and step.vma in needs:
                need = _Need(self._pages(step.length_bytes), changes=True)
                needs[step.vma] = needs[step.vma] | need
        for name, need in needs.items():
            self._take_place(name, need)

    def _take_place(self, name: str, need: _Need) -> None:
        threads, compiler = self.group.threads, self.compiler
        distance = need.pages if need.merges else need.pages + 1
        page_bytes = compiler.bytes_of_page(need.hugetlb)
        start = compiler.place(self.space, distance * threads, page_bytes)
        take = compiler.take_shared_ptes if need.is_shared else compiler.take_ptes
        pte = take(distance * threads)
        number = self.space.new_region(start, need.pages, threads) if need.changes else 0
        offset = compiler.take_huge_pages(distance * threads) if need.hugetlb else 0
        self.places[name] = Region(start, need.pages, pte, distance, page_bytes, number, offset)
        self.vmas_more += 1

    def _munmap(self, row: np.record, step: Munmap) -> None:
        region = self._region(step.vma)
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.thread_pages = region.thread_pages
        self.vmas_more += 2

    def _change(self, row: np.record, step: Mremap | Brk) -> None:
        """Set what moves a region, or changes its length."""
        region = self._region(step.vma)
        self._range(row, region, 0, 0)
        row.thread_pages = region.thread_pages
        row.new_pages = self._pages(step.length_bytes)
        row.moves = isinstance(step, Mremap) and step.move
        self.vmas_more += 2

    def _range_step(self, row: np.record, step: RangeStep) -> None:
        """Set what is about a range of a VMA, in which each thread can have its own."""
        region = self.space.regions[step.vma]
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.thread_pages = step.thread_offset_bytes // region.page_bytes
        self.vmas_more += 2
        row.sets, row.clears = TRAITS_OF.get(type(step), (0, 0))
        if isinstance(step, Mprotect):
            row.protection = sum(1 << bit for bit in step.protection)
        elif isinstance(step, Madvise):
            row.advice = step.advice
            row.populates = POPULATES_OF_ADVICE.get(step.advice, Populates.NOTHING)
            row.sets, row.clears = TRAITS_OF_ADVICE.get(step.advice, (0, 0))
        elif isinstance(step, Mbind):
            row.sets, row.clears = step.policy << 32, VM_POLICY
            row.moves = step.move
        elif isinstance(step, Prctl):
            names = self.compiler.anon_names
            row.sets = names.setdefault(step.name, len(names)) << 16
            row.clears = VM_NAME
        elif isinstance(step, Mlock):
            row.populates = Populates.AS_IT_IS

    def _file_step(self, row: np.record, step: FileStep) -> None:
        row.id = self.compiler.files[step.file]
        if isinstance(step, Ftruncate):
            row.start = self.compiler.pages(step.size_bytes)
            return
        end = self.world.files[row.id].pages
        row.start = self._pages(step.offset_bytes)
        row.pages = self.compiler.pages(step.length_bytes) if step.length_bytes else end - row.start
        row.wait = isinstance(step, SyncFileRange) and step.wait

    def _special(self, row: np.record, step: UserfaultfdStep | Migrate) -> None:
        if isinstance(step, UserfaultfdClose):
            return
        region = self.space.regions[step.vma]
        if isinstance(step, UserfaultfdCopy):
            row.modes = UFFD_MISSING
            self._range(row, region, 0, 0)
            return
        self._range(row, region, step.offset_bytes, step.length_bytes)
        if isinstance(step, UserfaultfdRegister):
            row.modes = uffd_bits(step.modes)
            self.vmas_more += 2
        elif isinstance(step, UserfaultfdWriteprotect):
            row.modes = UFFD_WP * step.resolve

    def _kill(self, row: np.record, step: Kill) -> None:
        crowd = self.compiler.crowds[step.process, step.group]
        row.id = step.signal
        row.first_entry = crowd.start
        row.entries = len(crowd)

    def _barrier(self, row: np.record, step: Barrier) -> None:
        barriers = self.space.barriers
        if step.name not in barriers:
            barriers[step.name] = self.compiler.barriers
            self.compiler.barriers += 1
            self.world.barriers[barriers[step.name]].first = NOBODY
        self.barriers.add(step.name)
        row.id = barriers[step.name]
