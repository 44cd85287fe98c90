"""Page-table entries: whether a page is mapped, and which accesses do not fault."""

import numpy as np

from faultlane_server.codes import Access, Advice, FileKind, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import anon_page, hugetlb, lru
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_DIRTY,
    PTE_EXEC,
    PTE_MIGRATION,
    PTE_NUMA,
    PTE_PRESENT,
    PTE_READ,
    PTE_SHARED,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_YOUNG,
    PTE_ZERO,
)

READ = 1 << Protection.READ
WRITE = 1 << Protection.WRITE
EXEC = 1 << Protection.EXEC

OF_THE_PAGE = PTE_DIRTY | PTE_ANON | PTE_ZERO | PTE_SHARED | PTE_YOUNG | PTE_UFFD_WP
NOT_OWN = PTE_DIRTY | PTE_SHARED | PTE_UFFD_WP  # of which only PTE_DIRTY may be set
ABSENT_ANON = PTE_ANON | PTE_DIRTY | PTE_YOUNG  # of a page of anonymous memory that is elsewhere


@compiled
def table_ns(world, pte):
    """Return what it costs an attempt that there is no page table for an entry (pte_alloc_one).

    An attempt that maps nothing frees the one that it has allocated (do_fault). Entries are
    numbered VMA by VMA, and so many of them in a row are a table.
    """
    has_table = world.tables[pte >> world.config.table_shift]
    return 0 if has_table else world.config.cost.page_table_ns


@compiled
def install_table(world, pte):
    """Let there be a page table for an entry (pmd_install)."""
    world.tables[pte >> world.config.table_shift] = 1


@compiled
def free_tables(world, vma):
    """Free the page tables of which a VMA that goes has all entries (free_pgtables)."""
    shift = world.config.table_shift
    end = vma.pte + vma.end - vma.start
    for table in range((vma.pte + world.config.table_pages - 1) >> shift, end >> shift):
        world.tables[table] = 0


@compiled
def entry(world, vma, protection):
    """Return the young entry of a page that a read maps (vma->vm_page_prot).

    It is writable only where nobody wants to know of the first write: in a shared mapping
    of a file without page_mkwrite.
    """
    bits = _readable(world, protection)
    if protection & WRITE and not vma.private and vma.file_kind != FileKind.REGULAR:
        bits |= PTE_WRITE
    return bits


@compiled
def written_entry(world, vma):
    """Return the entry of a page of a shared mapping after a write fault."""
    return _readable(world, vma.protection) | _writable(vma.protection) | PTE_DIRTY


@compiled
def copied_entry(world, vma):
    """Return the entry of a private copy of a page."""
    return written_entry(world, vma) | PTE_ANON


@compiled
def zero_entry(world, vma):
    """Return the entry of the zero page, which no write may change."""
    return _readable(world, vma.protection) | PTE_ANON | PTE_ZERO


@compiled
def _readable(world, protection):
    bits = PTE_PRESENT | PTE_YOUNG
    readable = READ | WRITE if world.config.read_needs_read else READ | WRITE | EXEC
    if protection & readable:
        bits |= PTE_READ
    if protection & EXEC:
        bits |= PTE_EXEC
    return bits


@compiled
def _writable(protection):
    return PTE_WRITE if protection & WRITE else 0


@compiled
def pte_bit(access):
    """Return the bit without which an access faults."""
    if access == Access.EXEC:
        return PTE_EXEC
    if access == Access.WRITE:
        return PTE_WRITE
    return PTE_READ


@compiled
def needed(world, access):
    """Return the bits without which an access faults."""
    return pte_bit(access) | world.config.young_bit


@compiled
def protect(world, vma, pte, pages, protection):
    """Give the present pages of a range the entries of a new protection; returns how many."""
    present = 0
    for at in range(pte, pte + pages):
        before = np.int64(world.ptes[at])
        if before & PTE_PRESENT:
            world.ptes[at] = protected(world, vma, before, protection)
            present += 1
    return present


@compiled
def swapped_in_entry(world, vma, is_written):
    """Return the entry of a page of anonymous memory that has come back from swap."""
    bits = _readable(world, vma.protection) | PTE_ANON
    return bits | _writable(vma.protection) | PTE_DIRTY if is_written else bits


@compiled
def protected(world, vma, before, protection):
    """Return the entry of a page with a new protection.

    One that is dirty, and shared with no child, becomes writable at once
    (can_change_pte_writable), unless a userfaultfd wants to know of the write, or it is one of
    hugetlb. A NUMA hint goes.
    """
    bits = entry(world, vma, protection) & ~PTE_YOUNG
    if before & PTE_UFFD_WP:
        bits &= ~PTE_WRITE
    is_own = before & NOT_OWN == PTE_DIRTY and vma.file_kind != FileKind.HUGETLB
    return bits | before & OF_THE_PAGE | (_writable(protection) if is_own else 0)


@compiled
def begin_migration(world, vma, pte):
    """Replace the entry of a present page by a migration entry."""
    bits = np.int64(world.ptes[pte])
    _count_mapping(world, vma, pte, bits, -1)
    world.ptes[pte] = bits & OF_THE_PAGE | PTE_MIGRATION


@compiled
def end_migration(world, vma, pte):
    """Map a page again, if its migration entry is still there (remove_migration_pte)."""
    bits = np.int64(world.ptes[pte])
    if bits & PTE_MIGRATION:
        world.ptes[pte] = protected(world, vma, bits, vma.protection)
        _count_mapping(world, vma, pte, bits, 1)


@compiled
def _count_mapping(world, vma, pte, bits, by):
    """Count that an entry maps its page, or does not any more."""
    number = world.config.anon_first + pte if bits & PTE_ANON else folio_number(world, vma, pte)
    world.folios[number].mapcount += by
    world.mms[vma.mm].pages += by


@compiled
def bring_back(world, slot, pte):
    """Map a page of anonymous memory that a device has had."""
    vma = world.vmas[slot]
    bits = np.int64(world.ptes[pte])
    world.ptes[pte] = protected(world, vma, bits | PTE_YOUNG, vma.protection)
    world.folios[world.config.anon_first + pte].vma = slot
    _count_mapping(world, vma, pte, PTE_ANON, 1)


@compiled
def make_young(world, vma, pte):
    """Let the accesses to a present page go on that a hint, or its age, has kept from it."""
    bits = np.int64(world.ptes[pte])
    if bits & PTE_NUMA:
        bits = protected(world, vma, bits, vma.protection)
    world.ptes[pte] = bits | PTE_YOUNG


@compiled
def write_protect(world, vma, start, end):
    """Let a userfaultfd know of the next write to the present pages of a part of a VMA."""
    for at in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        if world.ptes[at] & PTE_PRESENT:
            world.ptes[at] = np.int64(world.ptes[at]) & ~PTE_WRITE | PTE_UFFD_WP


@compiled
def allow_writes(world, vma, start, end):
    """Take the protection of a userfaultfd from a part of a VMA."""
    for at in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        bits = np.int64(world.ptes[at]) & ~PTE_UFFD_WP
        if bits & PTE_PRESENT and world.ptes[at] & PTE_UFFD_WP:
            bits = protected(world, vma, bits, vma.protection)
        world.ptes[at] = bits


@compiled
def map_folio(world, slot, pte, folio, bits):
    """Let an entry of a VMA that is clear map the folio."""
    world.ptes[pte] = bits
    install_table(world, pte)
    folio.mapcount += 1
    folio.vma = slot
    world.mms[world.vmas[slot].mm].pages += 1


@compiled
def clear(world, vma, pte):
    """Clear an entry. What it maps is mapped once less; a page of its own is gone."""
    bits = np.int64(world.ptes[pte])
    if vma.file_kind == FileKind.HUGETLB:
        hugetlb.unmap(world, vma, pte, bits)
    elif bits & PTE_ANON:
        if not bits & PTE_ZERO:
            anon_page.free(world, vma, pte, bits)
    elif bits & PTE_PRESENT:
        _count_mapping(world, vma, pte, bits, -1)
    world.ptes[pte] = 0


@compiled
def map_zero_page(world, slot, pte):
    """Let an entry of a VMA that is clear map the zero page."""
    world.ptes[pte] = zero_entry(world, world.vmas[slot])
    install_table(world, pte)


@compiled
def make_own(world, thread, slot, pte):
    """Let an entry map a new page of its own, the one that the thread has in hand."""
    vma = world.vmas[slot]
    if world.ptes[pte] & PTE_PRESENT:
        clear(world, vma, pte)
    anon_page.add(world, thread, slot, pte)
    world.ptes[pte] = copied_entry(world, vma)
    install_table(world, pte)


@compiled
def folio_of(world, vma, pte):
    """Return the folio of a file that an entry maps, or would map."""
    return world.folios[folio_number(world, vma, pte)]


@compiled
def folio_number(world, vma, pte):
    """Return the number of that folio."""
    file = world.opens[vma.open].file
    return world.files[file].first + vma.offset + (pte - vma.pte)


@compiled
def zap(world, vma, start, end):
    """Clear the entries of some pages of a VMA; what was accessed through them counts."""
    for at in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        bits = np.int64(world.ptes[at])
        if bits != 0:
            is_young = bits & (PTE_PRESENT | PTE_YOUNG | PTE_ANON) == PTE_PRESENT | PTE_YOUNG
            if is_young and has_recency(vma):
                lru.mark_accessed(world, folio_number(world, vma, at))
            clear(world, vma, at)


@compiled
def has_recency(vma):
    """Whether accesses through a VMA count (vma_has_recency)."""
    return vma.advice != Advice.RANDOM and vma.advice != Advice.SEQUENTIAL


@compiled
def count_anonymous(world, pte, pages):
    """Return how many pages of a range are anonymous memory that was written, swap included."""
    found = 0
    for at in range(pte, pte + pages):
        if world.ptes[at] & (PTE_ANON | PTE_ZERO) == PTE_ANON:
            found += 1
    return found


@compiled
def share(world, pte, pages):
    """Share the anonymous memory of a range with a child: the next write to it faults."""
    for at in range(pte, pte + pages):
        if world.ptes[at] & (PTE_ANON | PTE_ZERO) == PTE_ANON:
            world.ptes[at] = np.int64(world.ptes[at]) & ~PTE_WRITE | PTE_SHARED


@compiled
def count_present(world, pte, pages):
    """Return how many pages of a range are mapped."""
    present = 0
    for at in range(pte, pte + pages):
        present += np.int64(world.ptes[at]) & PTE_PRESENT
    return present
