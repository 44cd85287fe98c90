"""What becomes of a mapped page that madvise gives up, page by page.

Each of these is called with mmap_lock held for read, and for a page that is mapped.
"""

from faultlane_server.codes import FileKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import lru, page_table, reclaim
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    IN_BATCH,
    LAZYFREE,
    PTE_ANON,
    PTE_DIRTY,
    PTE_YOUNG,
    PTE_ZERO,
    REFERENCED,
    Counter,
)

NOT_YOUNG = 0xFFFF ^ PTE_YOUNG
NOT_DIRTY = 0xFFFF ^ (PTE_DIRTY | PTE_YOUNG)
NOT_REFERENCED = 0xFFFFFFFF ^ REFERENCED


@compiled
def _number_of(world, vma, pte):
    """Return the page that an entry maps."""
    if world.ptes[pte] & PTE_ANON:
        return world.config.anon_first + pte
    return page_table.folio_number(world, vma, pte)


@compiled
def free_lazily(world, pte):
    """Let a page of anonymous memory be freed when it is reclaimed (MADV_FREE): it is clean."""
    world.ptes[pte] &= NOT_DIRTY
    world.folios[world.config.anon_first + pte].state |= LAZYFREE


@compiled
def make_cold(world, vma, pte):
    """Let a page be one of the next to be reclaimed (MADV_COLD): it is old, and not active."""
    if world.ptes[pte] & PTE_ZERO or vma.file_kind == FileKind.SPECIAL:
        return
    world.ptes[pte] &= NOT_YOUNG
    number = _number_of(world, vma, pte)
    world.folios[number].state &= NOT_REFERENCED
    lru.deactivate(world, number)


@compiled
def page_out(world, thread, vma, pte, now_ns):
    """Reclaim a page now (MADV_PAGEOUT), unless somebody else maps it as well.

    A dirty page of a file is left to the flusher.
    """
    if world.ptes[pte] & PTE_ZERO or vma.file_kind == FileKind.SPECIAL:
        return
    number = _number_of(world, vma, pte)
    folio = world.folios[number]
    if folio.mapcount > 1 or folio.lru == IN_BATCH:
        return
    world.ptes[pte] &= NOT_YOUNG
    folio.state &= NOT_REFERENCED
    if reclaim.reclaim_page(world, thread, number, now_ns) == reclaim.FREED:
        count(world, Counter.PAGED_OUT, 1)
