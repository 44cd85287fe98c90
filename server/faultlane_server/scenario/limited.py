"""Limits of memory: memcgs, and whether what is there when the run begins fits them."""

from collections import Counter
from collections.abc import Iterator

from faultlane_server.codes import FileKind, PageState
from faultlane_server.scenario.hugetlb import is_private
from faultlane_server.scenario.limits import INT64_MAX, MEMCG_PAGES_LEAST, MEMCGS_MAX
from faultlane_server.scenario.memory import PRESENT, cached_pages
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    File,
    FileMapping,
    HugetlbMapping,
    Scenario,
    Vma,
    Workload,
)
from faultlane_server.scenario.violations import Place

# Files whose pages are no memory of a machine or a memcg.
NOT_CHARGED = (FileKind.SPECIAL, FileKind.HUGETLB)


def check_memcgs(place: Place, workload: Workload, page_bytes: int) -> None:
    """Check the memcgs, and that each process is in one of them or in none."""
    at = place.field("memcgs")
    at.want_at_most(MEMCGS_MAX, len(workload.memcgs), "memcgs")
    names = [memcg.name for memcg in workload.memcgs]
    at.want_unique_names(names)
    for index, memcg in enumerate(workload.memcgs):
        if memcg.max_bytes:
            least = MEMCG_PAGES_LEAST * page_bytes
            at.item(index).field("max_bytes").want_between(least, INT64_MAX, memcg.max_bytes)
        most = (memcg.max_bytes or INT64_MAX) - 1
        at.item(index).field("other_bytes").want_between(0, most, memcg.other_bytes)
        at.item(index).field("high_bytes").want_between(0, INT64_MAX, memcg.high_bytes)
    for index, process in enumerate(workload.processes):
        if process.memcg:
            place.field("processes").item(index).field("memcg").want_known(names, process.memcg)


def check_memory(root: Place, scenario: Scenario) -> None:
    """Check that the pages of the beginning fit memory, the memcgs that pay for them, and swap."""
    page_bytes = scenario.machine.page_size_bytes
    charged = charged_pages(scenario.workload, page_bytes)
    for index, memcg in enumerate(scenario.workload.memcgs):
        pages = charged[memcg.name]
        if memcg.max_bytes and pages > memcg.max_bytes // page_bytes:
            place = root.field("workload").field("memcgs").item(index).field("max_bytes")
            want = f"at least {pages * page_bytes}, what its processes have when the run begins"
            place.refuse(want, memcg.max_bytes)
    memory_bytes = scenario.machine.memory_bytes
    if memory_bytes and charged.total() > memory_bytes // page_bytes:
        want = f"at least {charged.total() * page_bytes}, what is there when the run begins"
        root.field("machine").field("memory_bytes").refuse(want, memory_bytes)
    _check_swap(root, scenario, page_bytes)


def check_huge_pages(root: Place, scenario: Scenario) -> None:
    """Check that the pool has all huge pages that are there, or reserved, when the run begins."""
    pool = scenario.machine.huge_pages
    if pool is None:
        return
    needed = huge_pages(scenario.workload, pool.page_bytes)
    if needed > pool.count:
        want = f"at least {needed}, what is there and what is reserved when the run begins"
        root.field("machine").field("huge_pages").field("count").refuse(want, pool.count)


def huge_pages(workload: Workload, page_bytes: int) -> int:
    """Return how many huge pages files and VMAs have, or have reserved."""
    of_files = {
        file.name: cached_pages(file, page_bytes)
        for file in workload.files
        if file.kind == FileKind.HUGETLB
    }
    own = 0
    for process in workload.processes:
        for vma in process.vmas:
            mapping = vma.backing
            if not isinstance(mapping, HugetlbMapping):
                continue
            pages = vma.length_bytes // page_bytes
            if not is_private(mapping) and not mapping.no_reserve:
                first = mapping.offset_bytes // page_bytes
                of_files[mapping.file][first : first + pages] = bytes([1]) * pages
            elif is_private(mapping) and not mapping.no_reserve:
                own += pages
            elif not mapping.file:
                own += _own_pages(vma, page_bytes)
    return own + sum(map(sum, of_files.values()))


def _check_swap(root: Place, scenario: Scenario, page_bytes: int) -> None:
    swap = scenario.machine.swap
    if swap is None:
        return
    pages = sum(_swapped(scenario.workload)) // page_bytes
    if pages > swap.size_bytes // page_bytes:
        want = f"at least {pages * page_bytes}, what is in swap when the run begins"
        root.field("machine").field("swap").field("size_bytes").refuse(want, swap.size_bytes)


def _swapped(workload: Workload) -> Iterator[int]:
    """Go through the lengths of what is in swap when the run begins."""
    for process in workload.processes:
        for vma in process.vmas:
            yield from (part.length_bytes for part in vma.swapped)
    for file in workload.files:
        if file.kind == FileKind.TMPFS:
            swapped = (part for part in file.initial if part.state == PageState.SWAPPED)
            yield from (part.length_bytes * file.copies for part in swapped)


def payer_of(workload: Workload, file: File) -> str:
    """Return the memcg that pays for the pages of a file that are there: of the first to map it."""
    for process in workload.processes:
        for vma in process.vmas:
            if isinstance(vma.backing, FileMapping) and vma.backing.file == file.name:
                return process.memcg
    return ""


def charged_pages(workload: Workload, page_bytes: int) -> Counter[str]:
    """Return how many pages each memcg pays for when the run begins; the name of none is empty."""
    charged: Counter[str] = Counter()
    for memcg in workload.memcgs:
        charged[memcg.name] += memcg.other_bytes // page_bytes
    for file in workload.files:
        if file.kind not in NOT_CHARGED:
            charged[payer_of(workload, file)] += _cached(file, page_bytes)
    for process in workload.processes:
        for vma in process.vmas:
            if isinstance(vma.backing, AnonymousMapping):
                charged[process.memcg] += _own_pages(vma, page_bytes)
    return charged


def _cached(file: File, page_bytes: int) -> int:
    """Return how many pages of a file and its copies are there."""
    return sum(cached_pages(file, page_bytes, PRESENT)) * file.copies


def _own_pages(vma: Vma, page_bytes: int) -> int:
    """Return how many pages of anonymous memory are there: each was given its last state."""
    is_small = isinstance(vma.backing, AnonymousMapping)
    if is_small and not vma.device_private and not vma.device_exclusive:
        return sum(part.length_bytes for part in vma.mapped) // page_bytes
    there = bytearray(vma.length_bytes // page_bytes)
    states = ((vma.mapped, 1), (vma.device_private, 0), (vma.device_exclusive, 1))
    for parts, is_there in states:
        for part in parts:
            first = part.offset_bytes // page_bytes
            pages = part.length_bytes // page_bytes
            there[first : first + pages] = bytes([is_there]) * pages
    return sum(there)
