"""Readahead of swap, by address (swap_vma_readahead): the window grows with its hits."""

from faultlane_server.engine.jit import compiled
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import READAHEAD, Counter

PAGES_LEAST = 4  # a window that grows at all has as many
HITS_MAX = 63  # SWAP_RA_HITS_MAX, at pages of 4K


@compiled
def note_hit(world, slot, page, folio):
    """Note that a page was wanted that is there, because readahead has brought it in or not."""
    vma = world.vmas[slot]
    vma.swap_last = page
    if folio.state & READAHEAD:
        folio.state ^= READAHEAD
        vma.swap_hits = min(vma.swap_hits + 1, HITS_MAX)
        count(world, Counter.SWAP_RA_HIT, 1)


@compiled
def plan(world, thread):
    """Plan the entries around the fault's that are read with it; returns how many in all.

    They lie before or behind it, whichever way the last fault came from, inside its VMA and its
    page table.
    """
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pages = _window(world, vma, fault.page)
    left = (pages - 1) // 2
    if fault.page == vma.swap_last + 1:
        left = 0
    elif fault.page == vma.swap_last - 1:
        left = pages - 1
    table = fault.page // world.config.table_pages * world.config.table_pages
    start = max(max(fault.page - left, vma.start), table)
    end = min(min(fault.page - left + pages, vma.end), table + world.config.table_pages)
    vma.swap_last = fault.page
    vma.swap_window = pages
    vma.swap_hits = 0
    fault.ra_start = vma.pte + (start - vma.start)
    fault.ra_end = vma.pte + (end - vma.start)
    return end - start


@compiled
def _window(world, vma, page):
    """Return how many pages are read (__swapin_nr_pages)."""
    most = 1 << world.config.swap_cluster
    if most == 1:
        return 1
    pages = vma.swap_hits + 2
    if pages == 2:
        is_next = page == vma.swap_last + 1 or page == vma.swap_last - 1
        pages = 2 if is_next else 1
    else:
        rounded = PAGES_LEAST
        while rounded < pages:
            rounded *= 2
        pages = rounded
    return max(min(pages, most), vma.swap_window // 2, 1)
