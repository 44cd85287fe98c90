"""From pages of a file to the page-table entries that map them (mm/rmap.c, unmap_mapping_range).

There is no reverse map: whoever changes entries everywhere looks at all VMAs once. That is
slow only for the simulator, and only operations on files do it.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import page_table
from faultlane_server.engine.world import PTE_ANON, PTE_DIRTY, PTE_PRESENT, PTE_WRITE

NOT_WRITABLE = 0xFFFF ^ (PTE_WRITE | PTE_DIRTY)


@compiled
def unmap(world, file, first, end, even_copies):
    """Clear the entries of pages of a file; returns how many. Private copies stay, or go too."""
    cleared = 0
    for slot in range(world.vma_slots):
        vma = world.vmas[slot]
        if not _maps(world, vma, file):
            continue
        for at in range(_pte_of(vma, first), _pte_of(vma, end)):
            pte = world.ptes[at]
            if pte and (even_copies or not pte & PTE_ANON):
                page_table.clear(world, vma, at)
                cleared += 1
    return cleared


@compiled
def write_protect(world, file, first, end):
    """Let the next write to pages of a file fault (folio_mkclean); returns how many entries."""
    protected = 0
    for slot in range(world.vma_slots):
        vma = world.vmas[slot]
        if vma.private or not _maps(world, vma, file):
            continue
        for at in range(_pte_of(vma, first), _pte_of(vma, end)):
            if world.ptes[at] & (PTE_WRITE | PTE_DIRTY):
                world.ptes[at] &= NOT_WRITABLE
                protected += 1
    return protected


@compiled
def begin_migration(world, file, page):
    """Replace all entries that map a page of a file by migration entries (try_to_migrate)."""
    for slot in range(world.vma_slots):
        vma = world.vmas[slot]
        if not _maps(world, vma, file):
            continue
        for at in range(_pte_of(vma, page), _pte_of(vma, page + 1)):
            if world.ptes[at] & (PTE_PRESENT | PTE_ANON) == PTE_PRESENT:
                page_table.begin_migration(world, vma, at)


@compiled
def end_migration(world, file, page):
    """Map a page of a file again wherever it was mapped (remove_migration_ptes)."""
    for slot in range(world.vma_slots):
        vma = world.vmas[slot]
        if not _maps(world, vma, file):
            continue
        for at in range(_pte_of(vma, page), _pte_of(vma, page + 1)):
            if not world.ptes[at] & PTE_ANON:
                page_table.end_migration(world, vma, at)


@compiled
def _maps(world, vma, file):
    return vma.open != NOBODY and world.opens[vma.open].file == file


@compiled
def _pte_of(vma, page):
    """Return the entry for a page of the file, or the end of the VMA that it lies beyond."""
    within = min(max(page - vma.offset, 0), vma.end - vma.start)
    return vma.pte + within
