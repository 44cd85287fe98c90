"""Pages of anonymous memory: each belongs to one page-table entry, and stands behind it.

An entry that is in swap keeps its page's record: there is its slot, and its place in the swap
cache. A page whose entry went away while it was read or written stays in the swap cache until
that is over (as free_swap_and_cache leaves it).
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import charges, lru, swap
from faultlane_server.engine.world import (
    DIRTY,
    FOLIO_GENERATIONS,
    LOCKED,
    PRESENT,
    PTE_ANON,
    PTE_DEVICE_EXCLUSIVE,
    PTE_DIRTY,
    PTE_MIGRATION,
    PTE_PRESENT,
    PTE_SHARED,
    PTE_SWAP,
    PTE_UFFD_WP,
    SHADOW,
    SWAPPED,
    UPTODATE,
    WORKINGSET,
    WRITEBACK,
    ZSWAP,
)

ELSEWHERE = PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE  # entries that still mean their page
IN_SWAP = SWAPPED | ZSWAP | SHADOW | WORKINGSET  # what stays of a page that only swap has


@compiled
def number_of(world, pte):
    """Return the folio of the page of an entry."""
    return world.config.anon_first + pte


@compiled
def add(world, thread, slot, pte):
    """Let an entry have a new page, the one that the thread has in hand."""
    number = number_of(world, pte)
    folio = world.folios[number]
    assert not is_busy(folio), "who makes a page has waited for what was there"
    _forget(world, number)
    folio.state = PRESENT | UPTODATE
    folio.mapcount = 1
    folio.vma = slot
    world.mms[world.vmas[slot].mm].pages += 1
    if world.config.limits_memory:
        charges.hand_over(world, thread, number)
        lru.mark_used(world, folio, thread)
    lru.add(world, thread, number)


@compiled
def is_busy(folio):
    """Whether a page that no entry has any more is still being read or written."""
    return folio.state & PRESENT != 0 and folio.state & (LOCKED | WRITEBACK) != 0


@compiled
def free(world, vma, pte, bits):
    """Free the page of an entry that goes: what memory has of it, and its slot in swap."""
    number = number_of(world, pte)
    folio = world.folios[number]
    if bits & PTE_PRESENT:
        folio.mapcount = 0
        world.mms[vma.mm].pages -= 1
    if not is_busy(folio):
        _forget(world, number)


@compiled
def _forget(world, number):
    """Let nothing be left of a page."""
    folio = world.folios[number]
    if folio.state & PRESENT:
        folio.generation = (np.int64(folio.generation) + 1) % FOLIO_GENERATIONS
        charges.uncharge(world, number)
    swap.free_slot(world, folio)
    folio.state = 0
    folio.refs = 0
    folio.holder = NOBODY


@compiled
def swap_out(world, number):
    """Let the entry of a page of the swap cache say that it is in swap (try_to_unmap_one)."""
    folio = world.folios[number]
    pte = number - world.config.anon_first
    bits = np.int64(world.ptes[pte])
    if bits & PTE_DIRTY:
        folio.state |= DIRTY
    world.ptes[pte] = PTE_ANON | PTE_SWAP | bits & (PTE_SHARED | PTE_UFFD_WP)
    folio.mapcount = 0
    world.mms[world.vmas[np.int64(folio.vma)].mm].pages -= 1


@compiled
def evict(world, number):
    """Take a page that only the swap cache has out of memory."""
    folio = world.folios[number]
    folio.generation = (np.int64(folio.generation) + 1) % FOLIO_GENERATIONS
    charges.uncharge(world, number)
    if world.ptes[number - world.config.anon_first] & PTE_SWAP:
        folio.state &= IN_SWAP
    else:
        swap.free_slot(world, folio)
        folio.state = 0


@compiled
def is_left_over(world, number):
    """Whether no entry has a page any more: it is in memory only until it is not busy."""
    folio = world.folios[number]
    pte = number - world.config.anon_first
    return folio.mapcount == 0 and not np.int64(world.ptes[pte]) & ELSEWHERE


@compiled
def is_with_a_device(world, number):
    """Whether a device has a page for itself: it stays in memory."""
    pte = number - world.config.anon_first
    return np.int64(world.ptes[pte]) & PTE_DEVICE_EXCLUSIVE != 0
