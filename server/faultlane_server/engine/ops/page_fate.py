"""What becomes of a mapped page that madvise gives up, page by page.

Each of these is called with mmap_lock held for read, and for a page that is mapped.
"""

from faultlane_server.codes import NOBODY, FileKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import page_cache, page_table
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    DIRTY,
    LOCKED,
    PTE_ANON,
    PTE_DIRTY,
    PTE_YOUNG,
    REFERENCED,
    WRITEBACK,
    Counter,
)

NOT_YOUNG = 0xFFFF ^ PTE_YOUNG
NOT_DIRTY = 0xFFFF ^ (PTE_DIRTY | PTE_YOUNG)
NOT_REFERENCED = 0xFFFF ^ REFERENCED


@compiled
def free_lazily(world, vma, pte):
    """Let a page of anonymous memory be freed when it is reclaimed (MADV_FREE): it is clean."""
    world.ptes[pte] &= NOT_DIRTY


@compiled
def make_cold(world, vma, pte):
    """Let a page be the next to be reclaimed (MADV_COLD): it is old."""
    world.ptes[pte] &= NOT_YOUNG
    if vma.open != NOBODY and not world.ptes[pte] & PTE_ANON:
        page_table.folio_of(world, vma, pte).state &= NOT_REFERENCED


@compiled
def page_out(world, thread, vma, pte, now_ns):
    """Reclaim a page now (MADV_PAGEOUT), if that needs no device.

    That is the page of a file that is clean, unlocked, referred to by nobody, and mapped nowhere
    else. Anonymous memory stays.
    """
    if vma.open == NOBODY or world.ptes[pte] & PTE_ANON or vma.file_kind != FileKind.REGULAR:
        return
    folio = page_table.folio_of(world, vma, pte)
    if folio.state & (DIRTY | WRITEBACK | LOCKED) or folio.refs > 0 or folio.mapcount > 1:
        return
    page_table.clear(world, vma, pte)
    page = vma.offset + (pte - vma.pte)
    page_cache.take_out(world, thread, world.opens[vma.open].file, page, now_ns)
    count(world, Counter.PAGED_OUT, 1)
