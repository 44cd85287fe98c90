"""Huge pages of hugetlb: what counts in them, and whether the pool has enough of them at first."""

from collections import defaultdict

from faultlane_server.codes import FileKind, Madvice, PageState
from faultlane_server.scenario.machine import Hardware
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    File,
    FileMapping,
    HugetlbMapping,
    Machine,
    Scenario,
    Vma,
    Workload,
)
from faultlane_server.scenario.violations import Place

Backing = FileMapping | AnonymousMapping | HugetlbMapping

# What madvise(2) does to huge pages of hugetlb, as far as it does anything.
ADVICE = (
    Madvice.NORMAL,
    Madvice.RANDOM,
    Madvice.SEQUENTIAL,
    Madvice.DONTNEED,
    Madvice.DONTNEED_LOCKED,
    Madvice.POPULATE_READ,
    Madvice.POPULATE_WRITE,
    Madvice.DONTFORK,
    Madvice.DOFORK,
    Madvice.DONTDUMP,
    Madvice.DODUMP,
)


def is_private(mapping: HugetlbMapping) -> bool:
    """Whether pages of a mapping are its own: without a file they always are."""
    return mapping.map_private or not mapping.file


def vma_page_bytes(backing: Backing | None, hardware: Hardware) -> int:
    """Return the page size of what maps something; a harmless one where there is no pool."""
    is_huge = isinstance(backing, HugetlbMapping) and hardware.huge_page_bytes > 0
    return hardware.huge_page_bytes if is_huge else hardware.page_bytes


def file_page_bytes(file: File, hardware: Hardware) -> int:
    """Return the size of the pages of a file; a harmless one where there is no pool."""
    is_huge = file.kind == FileKind.HUGETLB and hardware.huge_page_bytes > 0
    return hardware.huge_page_bytes if is_huge else hardware.page_bytes


def mapping_page_bytes(backing: Backing | None, machine: Machine) -> int:
    """Return the page size of what maps something, on a machine that was checked."""
    if isinstance(backing, HugetlbMapping) and machine.huge_pages is not None:
        return machine.huge_pages.page_bytes
    return machine.page_size_bytes


def check_huge_pages(root: Place, scenario: Scenario) -> None:
    """Check that the pool has all huge pages that there are, or are reserved, when a run begins."""
    pool = scenario.machine.huge_pages
    if pool is None:
        return
    needed = _needed(scenario.workload, pool.page_bytes)
    if needed > pool.count:
        want = f"at least {needed}, what is there and what is reserved when the run begins"
        root.field("machine").field("huge_pages").field("count").refuse(want, pool.count)


def _needed(workload: Workload, page_bytes: int) -> int:
    of_files: dict[str, set[int]] = defaultdict(set)
    for file in workload.files:
        if file.kind == FileKind.HUGETLB:
            of_files[file.name] |= cached_huge_pages(file, page_bytes)
    own = 0
    for process in workload.processes:
        for vma in process.vmas:
            mapping = vma.backing
            if not isinstance(mapping, HugetlbMapping):
                continue
            if is_private(mapping):
                own += _own_pages(vma, mapping, page_bytes)
            elif not mapping.no_reserve:
                first = mapping.offset_bytes // page_bytes
                of_files[mapping.file] |= set(range(first, first + vma.length_bytes // page_bytes))
    return own + sum(map(len, of_files.values()))


def cached_huge_pages(file: File, page_bytes: int) -> set[int]:
    """Return which pages of a file of hugetlbfs are there when the run begins."""
    cached: set[int] = set()
    for part in file.initial:
        first, pages = part.offset_bytes // page_bytes, part.length_bytes // page_bytes
        chosen = set(range(first, first + pages, part.every_pages))
        cached = cached | chosen if part.state == PageState.CACHED else cached - chosen
    return cached


def _own_pages(vma: Vma, mapping: HugetlbMapping, page_bytes: int) -> int:
    """Return how many pages a private mapping has, or has reserved."""
    if not mapping.no_reserve:
        return vma.length_bytes // page_bytes
    there = set()
    for part in vma.mapped if not mapping.file else ():
        first = part.offset_bytes // page_bytes
        there |= set(range(first, first + part.length_bytes // page_bytes))
    return len(there)
