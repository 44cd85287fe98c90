"""Huge pages of hugetlb: what counts in them, and what can be done with them."""

from faultlane_server.codes import FileKind, Madvice
from faultlane_server.scenario.machine import Hardware
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    File,
    FileMapping,
    HugetlbMapping,
    Machine,
)

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


def content_page_bytes(file: File, machine: Machine) -> int:
    """Return the size of the pages of a file, on a machine that was checked."""
    if file.kind == FileKind.HUGETLB and machine.huge_pages is not None:
        return machine.huge_pages.page_bytes
    return machine.page_size_bytes
