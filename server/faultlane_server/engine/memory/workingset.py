"""Evicted pages that come back (mm/workingset.c).

The age of a memcg's pages grows with each eviction and activation. A page that is evicted
leaves the age behind (its shadow); when it comes back, the difference tells how much more memory
would have kept it.
"""

import numpy as np

from faultlane_server.codes import LruKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import lru
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import ACTIVE, SHADOW, WORKINGSET, Counter, Lru

AGES = 1 << 32
IO_COST = 32  # of a page that was read or written, in pages that were looked at (SWAP_CLUSTER_MAX)


@compiled
def evicted(world, number):
    """Leave a shadow where a page was (workingset_eviction), for whom it is charged to.

    The shadow is the age before the eviction: that one counts in the distance too.
    """
    folio = world.folios[number]
    if folio.memcg == 0:
        return
    memcg = world.memcgs[np.int64(folio.memcg) - 1]
    is_file = lru.is_file(world, folio)
    if world.config.lru_kind == LruKind.MGLRU:
        folio.shadow = memcg.min_seq[1 if is_file else 0] % AGES
    else:
        folio.shadow = memcg.age % AGES
        memcg.age += 1
    folio.state |= SHADOW


@compiled
def refaulted(world, thread, number):
    """Look at the shadow of a page that a thread brings back (workingset_refault)."""
    folio = world.folios[number]
    if not folio.state & SHADOW:
        return
    memcg = world.memcgs[np.int64(folio.memcg) - 1]
    is_file = lru.is_file(world, folio)
    kind = 1 if is_file else 0
    was_workingset = folio.state & WORKINGSET != 0
    folio.state &= 0xFFFFFFFF ^ (SHADOW | WORKINGSET)
    count(world, Counter.WORKINGSET_REFAULT_ANON + kind, 1)
    if not _is_recent(world, memcg, folio, is_file):
        return
    memcg.refaults[kind] += 1
    memcg.activations[kind] += 1
    count(world, Counter.WORKINGSET_ACTIVATE_ANON + kind, 1)
    if world.config.lru_kind == LruKind.MGLRU:
        if lru.is_in_fault(world, thread):
            folio.state |= WORKINGSET
            count(world, Counter.WORKINGSET_RESTORE_ANON + kind, 1)
        return
    folio.state |= ACTIVE
    memcg.age += 1
    if was_workingset:
        folio.state |= WORKINGSET
        note_cost(memcg, kind, IO_COST)
        count(world, Counter.WORKINGSET_RESTORE_ANON + kind, 1)


@compiled
def _is_recent(world, memcg, folio, is_file):
    """Whether a page came back so soon that memory of the size of the working set had kept it."""
    if world.config.lru_kind == LruKind.MGLRU:
        return np.int64(folio.shadow) == memcg.min_seq[1 if is_file else 0] % AGES
    distance = (memcg.age - np.int64(folio.shadow)) % AGES
    pages = memcg.lists[Lru.ACTIVE_FILE].pages
    if not is_file:
        pages += memcg.lists[Lru.INACTIVE_FILE].pages
    if world.swap_used < world.config.swap_pages:
        pages += memcg.lists[Lru.ACTIVE_ANON].pages
        if is_file:
            pages += memcg.lists[Lru.INACTIVE_ANON].pages
    return distance <= pages


@compiled
def note_cost(memcg, kind, pages):
    """Note what reclaim of one kind of pages has cost (lru_note_cost); old costs fade."""
    memcg.costs[kind] += pages
    total = 0
    for at in range(4):
        total += memcg.lists[at].pages
    if memcg.costs[0] + memcg.costs[1] > total // 4:
        memcg.costs[0] //= 2
        memcg.costs[1] //= 2
