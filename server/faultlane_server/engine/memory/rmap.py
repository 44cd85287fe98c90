"""From pages to the page-table entries that map them (mm/rmap.c, unmap_mapping_range).

The VMAs of a file are linked (i_mmap). A page remembers which VMA mapped it last: nearly always
that is the only one.
"""

import numpy as np

from faultlane_server.codes import NOBODY, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import page_table
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_WRITE,
    PTE_YOUNG,
    VM_LOCKED,
)

NOT_WRITABLE = 0xFFFF ^ (PTE_WRITE | PTE_DIRTY)
OLD = 0xFFFF ^ PTE_YOUNG
EXEC = 1 << Protection.EXEC
BY_EXEC = 1 << 20  # in what `referenced` returns: by a VMA that is executable
BY_LOCKED = 1 << 40  # the same: a VMA that maps the page is locked in memory, accessed or not


@compiled
def link(world, slot):
    """Let a file know of a VMA that maps it (vma_interval_tree_insert)."""
    vma = world.vmas[slot]
    if vma.open == NOBODY:
        return
    file = world.files[world.opens[vma.open].file]
    vma.file_before = NOBODY
    vma.file_next = file.first_vma
    if file.first_vma != NOBODY:
        world.vmas[file.first_vma].file_before = slot
    file.first_vma = slot


@compiled
def unlink(world, slot):
    """Let a file forget a VMA."""
    vma = world.vmas[slot]
    if vma.open == NOBODY:
        return
    if vma.file_before == NOBODY:
        world.files[world.opens[vma.open].file].first_vma = vma.file_next
    else:
        world.vmas[vma.file_before].file_next = vma.file_next
    if vma.file_next != NOBODY:
        world.vmas[vma.file_next].file_before = vma.file_before


@compiled
def unmap(world, file, first, end, even_copies):
    """Clear the entries of pages of a file; returns how many. Private copies stay, or go too."""
    cleared = 0
    slot = world.files[file].first_vma
    while slot != NOBODY:
        vma = world.vmas[slot]
        for at in range(_pte_of(vma, first), _pte_of(vma, end)):
            pte = np.int64(world.ptes[at])
            if pte and (even_copies or not pte & PTE_ANON):
                page_table.clear(world, vma, at)
                cleared += 1
        slot = vma.file_next
    return cleared


@compiled
def write_protect(world, file, first, end):
    """Let the next write to pages of a file fault (folio_mkclean); returns how many entries."""
    protected = 0
    slot = world.files[file].first_vma
    while slot != NOBODY:
        vma = world.vmas[slot]
        if not vma.private:
            for at in range(_pte_of(vma, first), _pte_of(vma, end)):
                if world.ptes[at] & (PTE_WRITE | PTE_DIRTY):
                    world.ptes[at] &= NOT_WRITABLE
                    protected += 1
        slot = vma.file_next
    return protected


@compiled
def begin_migration(world, file, page):
    """Replace all entries that map a page of a file by migration entries (try_to_migrate)."""
    slot = world.files[file].first_vma
    while slot != NOBODY:
        if _maps(world, slot, file, page):
            vma = world.vmas[slot]
            page_table.begin_migration(world, vma, _pte_of(vma, page))
        slot = world.vmas[slot].file_next


@compiled
def end_migration(world, file, page):
    """Map a page of a file again wherever it was mapped (remove_migration_ptes)."""
    slot = world.files[file].first_vma
    while slot != NOBODY:
        vma = world.vmas[slot]
        for at in range(_pte_of(vma, page), _pte_of(vma, page + 1)):
            if not world.ptes[at] & PTE_ANON:
                page_table.end_migration(world, vma, at)
        slot = vma.file_next


@compiled
def _pte_of(vma, page):
    """Return the entry for a page of the file, or the end of the VMA that it lies beyond."""
    within = min(max(page - vma.offset, 0), vma.end - vma.start)
    return vma.pte + within


@compiled
def referenced(world, number):
    """Count the entries that were accessed since somebody looked, and look (folio_referenced).

    BY_EXEC is added for each in an executable VMA, and BY_LOCKED for each in one that is locked.
    """
    folio = world.folios[number]
    if folio.mapcount == 0:
        return 0
    if folio.file == NOBODY:
        return _look(world, vma_of_own(world, number), number - world.config.anon_first)
    file = world.files[np.int64(folio.file)]
    page = number - file.first
    hint = np.int64(folio.vma)
    if folio.mapcount == 1 and hint != NOBODY and _maps(world, hint, np.int64(folio.file), page):
        return _look(world, hint, _pte_of(world.vmas[hint], page))
    found = 0
    slot = file.first_vma
    while slot != NOBODY:
        if _maps(world, slot, np.int64(folio.file), page):
            found += _look(world, slot, _pte_of(world.vmas[slot], page))
        slot = world.vmas[slot].file_next
    return found


@compiled
def _look(world, slot, pte):
    bits = np.int64(world.ptes[pte])
    if not bits & PTE_PRESENT or slot == NOBODY:
        return 0
    vma = world.vmas[slot]
    if vma.traits & VM_LOCKED:
        return BY_LOCKED
    if not bits & PTE_YOUNG:
        return 0
    world.ptes[pte] = bits & OLD
    if not page_table.has_recency(vma):
        return 0
    return 1 + (BY_EXEC if vma.protection & EXEC else 0)


@compiled
def _maps(world, slot, file, page):
    """Whether a VMA maps a page of a file now."""
    vma = world.vmas[slot]
    if vma.open == NOBODY or world.opens[vma.open].file != file:
        return False
    if page < vma.offset or page >= vma.offset + (vma.end - vma.start):
        return False
    return np.int64(world.ptes[_pte_of(vma, page)]) & (PTE_PRESENT | PTE_ANON) == PTE_PRESENT


@compiled
def vma_of_own(world, number):
    """Return the VMA of a page of anonymous memory; a split may have moved it to another one."""
    pte = number - world.config.anon_first
    hint = np.int64(world.folios[number].vma)
    if hint != NOBODY and _has_entry(world.vmas[hint], pte):
        return hint
    for slot in range(world.vma_slots):
        if _has_entry(world.vmas[slot], pte):
            world.folios[number].vma = slot
            return slot
    return NOBODY


@compiled
def _has_entry(vma, pte):
    return vma.pte <= pte < vma.pte + (vma.end - vma.start)


@compiled
def unmap_page(world, number):
    """Clear all entries that map a page of a file; what was written through them is dirty."""
    folio = world.folios[number]
    file = np.int64(folio.file)
    page = number - world.files[file].first
    hint = np.int64(folio.vma)
    if folio.mapcount == 1 and hint != NOBODY and _maps(world, hint, file, page):
        page_table.clear(world, world.vmas[hint], _pte_of(world.vmas[hint], page))
        return
    slot = world.files[file].first_vma
    while slot != NOBODY and folio.mapcount > 0:
        if _maps(world, slot, file, page):
            page_table.clear(world, world.vmas[slot], _pte_of(world.vmas[slot], page))
        slot = world.vmas[slot].file_next
