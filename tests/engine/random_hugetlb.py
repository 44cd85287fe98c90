"""Huge pages of hugetlb, made by dice: VMAs of them, a file, a pool that is often too small.

They are put over a scenario that was made without, so that this one stays what it was.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from faultlane_server.codes import Access, FileKind, Madvice, PageState, Protection
from faultlane_server.scenario import (
    ByteRange,
    Compute,
    File,
    FileRange,
    Fixed,
    Fork,
    HugePages,
    HugetlbMapping,
    Loop,
    Madvise,
    Mmap,
    Mprotect,
    Munmap,
    Pattern,
    Process,
    Scenario,
    Sequential,
    Step,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    check,
)
from faultlane_server.scenario.hugetlb import ADVICE
from faultlane_server.scenario.limited import huge_pages

FILE_PAGES = 6
READ_WRITE = (Protection.READ, Protection.WRITE)

Choice = TypeVar("Choice")


def with_huge_pages(scenario: Scenario, seed: int) -> Scenario:
    """Put huge pages into every second scenario."""
    layer = _Layer(scenario, seed)
    return layer.scenario() if layer.one_in(2) else scenario


class _Layer:
    """Puts huge pages over one scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._random = Random(f"hugetlb {seed}")
        self.before = scenario
        self.page_bytes = self.pick((2, 8, 512)) * scenario.machine.page_size_bytes
        self.areas = 0

    def one_in(self, n: int) -> bool:
        return self._random.randrange(n) == 0

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return self._random.choice(choices)

    def scenario(self) -> Scenario:
        """Put the VMAs in, see what they need at first, and make a pool of a little more."""
        workload = self.before.workload
        processes = tuple(self._process(process) for process in workload.processes)
        workload = replace(workload, processes=processes, files=(*workload.files, self._file()))
        filled = self._with_pool(replace(self.before, workload=workload), 10**6)
        needed = huge_pages(check(filled).workload, self.page_bytes)
        return check(self._with_pool(filled, max(needed + self.pick((0, 0, 1, 2, 5, 20)), 1)))

    def _with_pool(self, scenario: Scenario, count: int) -> Scenario:
        machine = replace(scenario.machine, huge_pages=HugePages(self.page_bytes, count))
        return replace(scenario, machine=machine)

    def _file(self) -> File:
        there = FileRange(PageState.CACHED, *self._range(FILE_PAGES), self.pick((1, 2)))
        cached = (there,) if self.one_in(2) else ()
        return File("hugefile", FILE_PAGES * self.page_bytes, "", cached, FileKind.HUGETLB)

    def _range(self, pages: int) -> tuple[int, int]:
        """Return the offset and the length of some pages."""
        first = self.between(0, pages - 1)
        return first * self.page_bytes, self.between(1, pages - first) * self.page_bytes

    def _process(self, process: Process) -> Process:
        vmas = tuple(self._vma(f"huge{number}") for number in range(self.between(1, 3)))
        groups = tuple(self._group(group, vmas) for group in process.groups)
        return replace(process, vmas=(*process.vmas, *vmas), groups=groups)

    def _vma(self, name: str) -> Vma:
        if self.one_in(2):
            pages = self.between(1, 5)
            mapping = HugetlbMapping(no_reserve=self.one_in(3))
            mapped = (ByteRange(*self._range(pages)),) if self.one_in(3) else ()
        else:
            first, mapped = self.between(0, FILE_PAGES - 1), ()
            pages = self.between(1, FILE_PAGES - first)
            mapping = self._of_the_file(first)
        protection = self.pick((READ_WRITE, READ_WRITE, READ_WRITE, (Protection.READ,)))
        length_bytes = pages * self.page_bytes
        return Vma(name, length_bytes, mapping, protection=protection, mapped=mapped)

    def _of_the_file(self, first: int) -> HugetlbMapping:
        private, loose = self.one_in(2), self.one_in(3)
        return HugetlbMapping("hugefile", first * self.page_bytes, private, loose)

    def _group(self, group: ThreadGroup, vmas: tuple[Vma, ...]) -> ThreadGroup:
        """Let a group do something with huge pages, somewhere in its program."""
        steps = tuple(step for _ in range(self.between(1, 5)) for step in self._some(vmas))
        loop = Loop(self.pick((1, 2, 5, 20)), (*steps, Compute(Fixed(self.pick((1, 5000))))))
        at = self.between(0, len(group.program))
        return replace(group, program=(*group.program[:at], loop, *group.program[at:]))

    def _some(self, vmas: tuple[Vma, ...]) -> tuple[Step, ...]:
        vma = self.pick(vmas)
        pages = vma.length_bytes // self.page_bytes
        kind = self.between(0, 11)
        if kind < 6:
            return (self._touch(vma.name, pages),)
        if kind == 6:
            return (Fork(Fixed(self.pick((1000, 100_000, 10**7)))), self._touch(vma.name, pages))
        if kind < 9:
            return (self._on_a_range(vma.name, *self._range(pages)),)
        return self._area()

    def _on_a_range(self, name: str, offset: int, length: int) -> Step:
        kind = self.between(0, 5)
        if kind == 0:
            return Mprotect(name, offset, length, self.pick((READ_WRITE, (Protection.READ,))))
        if kind == 1 and self.one_in(4):
            return Munmap(name, offset, length)
        advice = Madvice.DONTNEED if kind < 4 else self.pick(ADVICE)
        return Madvise(name, advice, offset, length)

    def _area(self) -> tuple[Step, ...]:
        """Map huge pages, touch some of them, and unmap them."""
        self.areas += 1
        name, pages = f"hugearea{self.areas}", self.between(1, 3)
        mapping = HugetlbMapping(no_reserve=self.one_in(3))
        if self.one_in(2):
            mapping = self._of_the_file(self.between(0, FILE_PAGES - pages))
        length_bytes, populate = pages * self.page_bytes, self.one_in(3)
        area = Mmap(name, length_bytes, populate=populate, hugetlb=mapping)
        return (area, self._touch(name, pages), Munmap(name))

    def _touch(self, name: str, pages: int) -> Touch:
        patterns: tuple[Pattern, ...] = (Uniform(), Sequential())
        access = self.pick((Access.READ, Access.WRITE, Access.WRITE))
        count = self.between(1, 2 * pages)
        return Touch(name, self.pick(patterns), access, count, kernel_mode=self.one_in(8))
