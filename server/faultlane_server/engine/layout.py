"""Programs laid flat: steps become instructions, loops and measures become jumps.

All threads of a group share their instructions; what differs between them is reckoned
from the thread's number in its group.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.draw import zipf_table
from faultlane_server.engine.world import UFFD_MISSING, UFFD_WP, Op, Pattern
from faultlane_server.scenario import (
    Barrier,
    Compute,
    Explicit,
    FadviseDontneed,
    FileStep,
    Fork,
    Ftruncate,
    Kill,
    Loop,
    Madvise,
    Measure,
    Migrate,
    Mmap,
    Mprotect,
    Munmap,
    Process,
    PunchHole,
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
    Zipf,
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


class Region(NamedTuple):
    """A part of an address space: a VMA of the scenario, or the places of an mmap step."""

    start: int  # page number; for an mmap step that of the group's first thread
    pages: int
    pte: int
    thread_pages: int  # distance to the place of the group's next thread


class Space:
    """What the programs of a process refer to, by name."""

    def __init__(self, mm: int, compiler: "Compiler", next_page: int) -> None:
        self.mm = mm
        self.compiler = compiler
        self.next_page = next_page
        self.regions: dict[str, Region] = {}
        self.barriers: dict[str, int] = {}

    def name(self, name: str, start: int, pages: int, pte: int) -> None:
        """Let programs refer to a VMA."""
        self.regions[name] = Region(start, pages, pte, 0)


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
        rows["pc"] = first_instruction
        rows["index"] = np.arange(threads)
        rows["daemon"] = self.group.daemon
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
        elif isinstance(step, Mprotect):
            self._mprotect(self._instruction(Op.MPROTECT, depth), step)
        elif isinstance(step, Madvise):
            self._madvise(self._instruction(Op.MADVISE, depth), step)
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
        offset = self._pages(offset_bytes)
        row.start = region.start + offset
        row.pte = region.pte + offset
        row.pages = self._pages(length_bytes) if length_bytes else region.pages - offset

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
            row.step_pages = self._pages(pattern.stride_bytes)
            row.thread_pages = self._pages(pattern.thread_offset_bytes)
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

    def _mmap(self, row: np.record, step: Mmap) -> None:
        """Map in the thread's own place for the name, which has room for the longest mapping."""
        region = self.places[step.name]
        self._range(row, region, 0, step.length_bytes)
        row.thread_pages = region.thread_pages
        row.merges = step.merge

    def _find_places(self, steps: tuple[Step, ...]) -> dict[str, tuple[int, bool]]:
        """Return how many pages the longest mapping of each name has, and whether any merges."""
        pages: dict[str, tuple[int, bool]] = {}
        for step in steps:
            inner = self._find_places(step.steps) if isinstance(step, Loop | Measure) else {}
            if isinstance(step, Mmap):
                inner = {step.name: (self._pages(step.length_bytes), step.merge)}
            for name, (longest, merges) in inner.items():
                before, merged = pages.get(name, (0, False))
                pages[name] = max(before, longest), merged or merges
        return pages

    def _take_places(self) -> None:
        """Give each thread a place of its own for each name.

        There is a guard page behind it, unless its mappings merge with their neighbours.
        """
        for name, (pages, merges) in self._find_places(self.group.program).items():
            distance = pages if merges else pages + 1
            start = self.compiler.place(self.space, distance * self.group.threads)
            pte = self.compiler.take_ptes(distance * self.group.threads)
            self.places[name] = Region(start, pages, pte, distance)
            self.vmas_more += 1

    def _munmap(self, row: np.record, step: Munmap) -> None:
        region = self.places.get(step.vma) or self.space.regions[step.vma]
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.thread_pages = region.thread_pages
        self.vmas_more += 2

    def _mprotect(self, row: np.record, step: Mprotect) -> None:
        region = self.space.regions[step.vma]
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.thread_pages = self._pages(step.thread_offset_bytes)
        row.protection = sum(1 << bit for bit in step.protection)
        self.vmas_more += 2

    def _madvise(self, row: np.record, step: Madvise) -> None:
        region = self.space.regions[step.vma]
        self._range(row, region, step.offset_bytes, step.length_bytes)
        row.thread_pages = self._pages(step.thread_offset_bytes)
        row.advice = step.advice
        self.vmas_more += 2

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
