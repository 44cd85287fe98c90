"""Reclaim (mm/vmscan.c): which pages are given up when memory is short, and what that takes.

Whoever reclaims does it all at once, and owes the time. So nothing changes hands while it
looks, and the locks that it holds are held that much longer.
"""

import numpy as np

from faultlane_server.codes import NOBODY, LruKind
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.memory import (
    anon_page,
    lru,
    mglru,
    page_cache,
    page_table,
    rmap,
    swap,
    workingset,
    writeback,
)
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    ACTIVE,
    DIRTY,
    EVERYBODY,
    LAZYFREE,
    LOCKED,
    PTE_DIRTY,
    READAHEAD,
    REFERENCED,
    SWAP_CACHE,
    WORKINGSET,
    WRITEBACK,
    Counter,
    Lru,
)

PRIORITY_FIRST = 12  # DEF_PRIORITY
CLUSTER = 32  # SWAP_CLUSTER_MAX
NEAR_PAGES = 64  # pages with one node of the page cache are near each other
SWAPPINESS_BOTH = 200  # what the weights of anonymous memory and files add up to

# What becomes of a page that reclaim has looked at.
FREED = 0
KEPT = 1
ACTIVATED = 2


@compiled
def shrink(world, thread, short, target, now_ns):
    """Give up at least `target` pages of a memcg, or of EVERYBODY; returns how many there were.

    More and more of the lists are looked at, until there are enough (do_try_to_free_pages).
    """
    row = world.threads[thread]
    row.reclaim_owed_ns += world.config.cost.reclaim_ns
    row.met_writeback = 0
    lru.drain(world, row.cpu)
    freed = _passes(world, thread, short, target, now_ns, False)
    if freed == 0 and _has_spared(world, short):
        freed = _passes(world, thread, short, target, now_ns, True)
    _remember_activations(world, short)
    is_kswapd = thread == world.kswapd
    count(world, Counter.PGSTEAL_KSWAPD if is_kswapd else Counter.PGSTEAL_DIRECT, freed)
    return freed


@compiled
def _has_spared(world, short):
    """Whether active pages were not looked at, as there was no need (skipped_deactivate)."""
    for memcg in range(world.config.memcgs):
        if short != EVERYBODY and short != memcg:
            continue
        group = world.memcgs[memcg]
        for kind in range(Lru.INACTIVE_ANON, Lru.CLASSIC, 2):
            if group.lists[kind + 1].pages > 0 and not _deactivates(world, group, kind, False):
                return True
    return False


@compiled
def _passes(world, thread, short, target, now_ns, forced):
    freed = 0
    for passed in range(PRIORITY_FIRST + 1):
        priority = PRIORITY_FIRST - passed
        if short == EVERYBODY:
            freed += _shrink_all(world, thread, priority, target - freed, now_ns, forced)
        else:
            wanted = _wanted(world, target, freed)
            freed += _shrink(world, thread, short, priority, wanted, now_ns, forced)
        if freed >= target:
            break
    return freed


@compiled
def _shrink_all(world, thread, priority, target, now_ns, forced):
    """Go through the memcgs, each time from where the last one ended (mem_cgroup_iter)."""
    freed = 0
    for _ in range(world.config.memcgs):
        if freed >= target:
            break
        memcg = world.memcg_next % world.config.memcgs
        world.memcg_next = memcg + 1
        wanted = _wanted(world, target, freed)
        freed += _shrink(world, thread, memcg, priority, wanted, now_ns, forced)
    return freed


@compiled
def _wanted(world, target, freed):
    """Return how many pages a memcg is to give up in a pass; the classic lists begin anew each."""
    return target - freed if world.config.lru_kind == LruKind.MGLRU else target


@compiled
def _shrink(world, thread, memcg, priority, target, now_ns, forced):
    if world.config.lru_kind == LruKind.MGLRU:
        return _evict_generations(world, thread, memcg, priority, target, now_ns)
    _plan_scan(world, memcg, priority, forced)
    return _scan_lists(world, thread, memcg, target, now_ns, forced)


@compiled
def _remember_activations(world, short):
    """Note how often pages were activated as they came back (snapshot_refaults)."""
    for memcg in range(world.config.memcgs):
        if short == EVERYBODY or short == memcg:
            group = world.memcgs[memcg]
            group.activations_seen[0] = group.activations[0]
            group.activations_seen[1] = group.activations[1]


@compiled
def _is_low(world, group, kind):
    """Whether an inactive list is short against its active one (inactive_is_low)."""
    inactive = group.lists[kind].pages
    active = group.lists[kind + 1].pages
    gigabytes = (inactive + active) >> (30 - world.config.page_shift)
    ratio = _root(10 * gigabytes) if gigabytes > 0 else 1
    return inactive * ratio < active


@compiled
def _root(value):
    """Return the integer square root."""
    root = 0
    while (root + 1) * (root + 1) <= value:
        root += 1
    return root


@compiled
def _deactivates(world, group, kind, forced):
    """Whether active pages may be made inactive: too few are, or evicted ones came back."""
    at = 1 if kind == Lru.INACTIVE_FILE else 0
    has_come_back = group.activations[at] != group.activations_seen[at]
    return forced or has_come_back or _is_low(world, group, kind)


@compiled
def _plan_scan(world, memcg, priority, forced):
    """Decide how many pages of each list are looked at (get_scan_count)."""
    group = world.memcgs[memcg]
    config = world.config
    anon_part, file_part = 0, 1
    inactive_file = group.lists[Lru.INACTIVE_FILE].pages
    trims_cache = inactive_file >> priority > 0 and not _deactivates(
        world, group, Lru.INACTIVE_FILE, forced
    )
    if config.swappiness > 0 and swap.has_room(world):
        if priority == 0:
            anon_part = 1
        elif not trims_cache:
            total = group.costs[0] + group.costs[1]
            anon_cost, file_cost = total + group.costs[0], total + group.costs[1]
            total = anon_cost + file_cost
            anon_part = config.swappiness * (total + 1) // (anon_cost + 1)
            file_part = (SWAPPINESS_BOTH - config.swappiness) * (total + 1) // (file_cost + 1)
    both = anon_part + file_part if priority > 0 else 1
    for kind in range(Lru.CLASSIC):
        pages = group.lists[kind].pages >> priority
        part = anon_part if kind < Lru.INACTIVE_FILE else file_part
        group.scan[kind] = pages * part // both


@compiled
def _scan_lists(world, thread, memcg, target, now_ns, forced):
    """Look at the lists in turns, a cluster each, until enough is freed (shrink_lruvec)."""
    group = world.memcgs[memcg]
    freed = 0
    while (
        group.scan[Lru.INACTIVE_ANON] > 0
        or group.scan[Lru.ACTIVE_FILE] > 0
        or group.scan[Lru.INACTIVE_FILE] > 0
    ):
        for kind in range(Lru.CLASSIC):
            pages = min(group.scan[kind], CLUSTER)
            group.scan[kind] -= pages
            if pages == 0:
                continue
            if kind % 2 == 0:
                freed += _shrink_inactive(world, thread, memcg, kind, pages, now_ns)
            elif _deactivates(world, group, kind - 1, forced):
                _shrink_active(world, thread, memcg, kind, pages)
        if freed >= target:
            break
    is_anon_low = _is_low(world, group, Lru.INACTIVE_ANON)
    if is_anon_low and world.config.swappiness > 0 and swap.has_room(world):
        _shrink_active(world, thread, memcg, Lru.ACTIVE_ANON, CLUSTER)
    return freed


@compiled
def _shrink_inactive(world, thread, memcg, kind, pages, now_ns):
    """Look at the tail of an inactive list; returns how many pages are free (shrink_folio_list)."""
    group = world.memcgs[memcg]
    row = group.lists[kind]
    is_kswapd = thread == world.kswapd
    freed = 0
    looked_at = min(pages, row.pages)
    writes = world.tally.counters[Counter.PSWPOUT]
    for _ in range(looked_at):
        number = row.last
        fate = reclaim_page(world, thread, number, now_ns)
        if fate == FREED:
            freed += 1
        elif fate == ACTIVATED:
            world.folios[number].state |= ACTIVE
            group.age += 1
            count(world, Counter.PGACTIVATE, 1)
            lru.move(world, number, kind + 1)
        else:
            lru.move(world, number, kind)
    count(world, Counter.PGSCAN_KSWAPD if is_kswapd else Counter.PGSCAN_DIRECT, looked_at)
    writes = world.tally.counters[Counter.PSWPOUT] - writes
    workingset.note_cost(group, kind // 2, writes * CLUSTER + looked_at - freed)
    return freed


@compiled
def _shrink_active(world, thread, memcg, kind, pages):
    """Make pages at the tail of an active list inactive; executable ones in use stay."""
    row = world.memcgs[memcg].lists[kind]
    looked_at = min(pages, row.pages)
    for _ in range(looked_at):
        number = row.last
        _look_at(world, thread)
        found = _ask_entries(world, thread, number)
        if kind == Lru.ACTIVE_FILE and found >= rmap.BY_EXEC:
            lru.move(world, number, kind)
            continue
        folio = world.folios[number]
        folio.state = folio.state & (0xFFFFFFFF ^ ACTIVE) | WORKINGSET
        count(world, Counter.PGDEACTIVATE, 1)
        lru.move(world, number, kind - 1)


@compiled
def _evict_generations(world, thread, memcg, priority, target, now_ns):
    """Look at the oldest generations (evict_folios); returns how many pages are free."""
    group = world.memcgs[memcg]
    pages = mglru.evictable_pages_of(world, group) >> priority
    if mglru.must_age(world, memcg):
        return 0
    if priority < PRIORITY_FIRST and mglru.should_age(world, group):
        group.wants_aging = 1
    freed = 0
    while pages > 0 and freed < target:
        is_file = mglru.kind_to_scan(world, group)
        looked_at = _evict_oldest(world, thread, memcg, is_file, min(pages, CLUSTER), now_ns)
        if looked_at == 0 and world.config.swappiness > 0 and swap.has_room(world):
            looked_at = _evict_oldest(
                world, thread, memcg, not is_file, min(pages, CLUSTER), now_ns
            )
        if looked_at == 0:
            break
        freed += group.freed_last
        pages -= looked_at
    return freed


@compiled
def _evict_oldest(world, thread, memcg, is_file, pages, now_ns):
    """Look at the tail of the oldest generation of a kind; returns at how many pages.

    What cannot be freed goes to the youngest generation, and what is being written to the next.
    """
    group = world.memcgs[memcg]
    group.freed_last = 0
    at = 1 if is_file else 0
    mglru.forget_empty_generations(world, group)
    if group.min_seq[at] + mglru.MIN_NR_GENS > group.max_seq:
        return 0
    kind = mglru.list_of(group.min_seq[at], is_file)
    row = group.lists[kind]
    looked_at = 0
    while looked_at < pages and row.pages > 0:
        looked_at += 1
        number = row.last
        folio = world.folios[number]
        if folio.state & WRITEBACK or (is_file and folio.state & DIRTY):
            folio.state |= READAHEAD
            world.threads[thread].met_writeback = 1
            writeback.write_for_reclaim(world, now_ns)
            lru.move(world, number, mglru.list_of(group.min_seq[at] + 1, is_file))
        elif reclaim_page(world, thread, number, now_ns) == FREED:
            group.freed_last += 1
            group.evicted[at] += 1
        elif folio.state & WRITEBACK:
            lru.move(world, number, mglru.list_of(group.min_seq[at] + 1, is_file))
        else:
            lru.move(world, number, mglru.list_of(group.max_seq, is_file))
    mglru.forget_empty_generations(world, group)
    is_kswapd = thread == world.kswapd
    count(world, Counter.PGSCAN_KSWAPD if is_kswapd else Counter.PGSCAN_DIRECT, looked_at)
    return np.int64(looked_at)


@compiled
def _look_at(world, thread):
    """Pay for looking at a page."""
    world.threads[thread].reclaim_owed_ns += world.config.cost.reclaim_page_ns


@compiled
def reclaim_page(world, thread, number, now_ns):
    """Look at a page, and free it if nobody uses it; returns what has become of it."""
    before = np.int64(world.folios[number].lru_before)
    if before != NOBODY:
        prefetch(world.folios[before])
    _look_at(world, thread)
    fate = _try_to_free(world, thread, number, now_ns)
    if fate == FREED:
        _pay_for_freeing(world, thread, number)
    return fate


@compiled
def _pay_for_freeing(world, thread, number):
    """Pay for freeing a page: more, if no page near it was the one before."""
    row = world.threads[thread]
    row.reclaim_owed_ns += world.config.cost.evict_page_ns
    if abs(number - row.reclaimed) >= NEAR_PAGES:
        row.reclaim_owed_ns += world.config.cost.reclaim_far_ns
    row.reclaimed = number


@compiled
def _try_to_free(world, thread, number, now_ns):
    """Free a page if nobody uses it, after unmapping it (shrink_folio_list).

    A page whose fault waits for it, or is about to come back, is not in any entry: what keeps it is
    the reference alone, and that is let go with the lock.
    """
    folio = world.folios[number]
    if folio.state & LOCKED:
        return KEPT
    if folio.state & WRITEBACK:
        folio.state |= READAHEAD
        world.threads[thread].met_writeback = 1
        return ACTIVATED
    if folio.file == NOBODY and anon_page.is_left_over(world, number):
        anon_page.evict(world, number)
        return FREED
    if folio.file == NOBODY and anon_page.is_with_a_device(world, number):
        return KEPT
    is_file = lru.is_file(world, folio)
    fate = _by_references(world, thread, number, is_file)
    if fate != FREED:
        return fate
    if folio.state & LAZYFREE and folio.file == NOBODY:
        return _free_lazily(world, number)
    if not is_file and not folio.state & SWAP_CACHE and not swap.reserve(world, folio):
        return ACTIVATED
    _unmap(world, thread, number)
    if folio.state & DIRTY:
        if is_file:
            folio.state |= READAHEAD
            world.threads[thread].met_writeback = 1
            writeback.write_for_reclaim(world, now_ns)
            return ACTIVATED
        if not swap.write_out(world, thread, number, now_ns):
            return KEPT
    if folio.refs > 0:
        return KEPT
    workingset.evicted(world, number)
    if folio.file == NOBODY:
        anon_page.evict(world, number)
    else:
        page_cache.evict(world, number)
    return FREED


@compiled
def _free_lazily(world, number):
    """Free a page that MADV_FREE has given up, unless it was written since."""
    pte = number - world.config.anon_first
    if np.int64(world.ptes[pte]) & PTE_DIRTY or world.folios[number].refs > 0:
        world.folios[number].state ^= LAZYFREE
        return ACTIVATED
    page_table.clear(world, world.vmas[rmap.vma_of_own(world, number)], pte)
    return FREED


@compiled
def _by_references(world, thread, number, is_file):
    """Decide by the accesses since the page was looked at last (folio_check_references)."""
    folio = world.folios[number]
    found = _ask_entries(world, thread, number)
    was_referenced = folio.state & REFERENCED != 0
    folio.state &= 0xFFFFFFFF ^ REFERENCED
    if found == 0:
        return FREED
    if found >= rmap.BY_LOCKED:
        return ACTIVATED
    if world.config.lru_kind == LruKind.MGLRU:
        mglru.look_around(world, number)
    folio.state |= REFERENCED
    if was_referenced or found % rmap.BY_EXEC > 1 or (is_file and found >= rmap.BY_EXEC):
        return ACTIVATED
    return KEPT


@compiled
def _ask_entries(world, thread, number):
    """Ask the page tables whether a page was accessed, and pay for each entry that maps it."""
    entries = np.int64(world.folios[number].mapcount)
    world.threads[thread].reclaim_owed_ns += entries * world.config.cost.reference_page_ns
    return rmap.referenced(world, number)


@compiled
def _unmap(world, thread, number):
    """Take a page out of all page tables (try_to_unmap)."""
    folio = world.folios[number]
    if folio.mapcount == 0:
        return
    entries = np.int64(folio.mapcount)
    world.threads[thread].reclaim_owed_ns += entries * world.config.cost.unmap_page_ns
    world.threads[thread].unmapped = 1
    if folio.file == NOBODY:
        anon_page.swap_out(world, number)
    else:
        rmap.unmap_page(world, number)
