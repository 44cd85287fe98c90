"""MGLRU: when generations age, who is in them, and the walks that look for accessed pages.

Aging makes a new youngest generation. Before that, where the architecture and the setting allow
it, all page tables of the memcg's processes are walked under mmap_lock for read, which is tried
and not waited for.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind, LruKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space, lru, page_table, rmap, swap
from faultlane_server.engine.memory.generations import MAX_NR_GENS, MIN_NR_GENS, list_of
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    EVERYBODY,
    PTE_ANON,
    PTE_PRESENT,
    PTE_YOUNG,
    PTE_ZERO,
    Counter,
    Lru,
    Step,
)

BATCH_MAX = 4096  # MAX_LRU_BATCH: promoted pages after which a walk lets the lock go
BATCH_MIN = 64  # MIN_LRU_BATCH
SWAPPINESS_BOTH = 200

__all__ = ["MIN_NR_GENS", "list_of"]


@compiled
def pages_of(group):
    """Return how many pages stand in all generations."""
    pages = 0
    for kind in range(Lru.GENERATIONS_ANON, Lru.GENERATIONS_ANON + 2 * MAX_NR_GENS):
        pages += group.lists[kind].pages
    return pages


@compiled
def evictable_pages_of(world, group):
    """Return how many pages stand in the generations of the kinds that can be evicted now."""
    pages = 0
    for seq in range(min(group.min_seq[0], group.min_seq[1]), group.max_seq + 1):
        pages += _pages_in(world, group, seq)
    return pages


@compiled
def _can_swap(world):
    return world.config.swappiness > 0 and swap.has_room(world)


@compiled
def must_age(world, memcg):
    """Whether nothing can be evicted before the pages age: two generations are always kept."""
    if world.config.lru_kind != LruKind.MGLRU:
        return False
    group = world.memcgs[memcg]
    if group.wants_aging:
        return True
    forget_empty_generations(world, group)
    oldest = group.min_seq[1]
    if _can_swap(world):
        oldest = min(oldest, group.min_seq[0])
    return oldest + MIN_NR_GENS > group.max_seq and pages_of(group) > 0


@compiled
def memcg_to_age(world, short):
    """Return a memcg whose pages must be aged before more of them can be evicted, or NOBODY."""
    if short != EVERYBODY:
        return short if must_age(world, short) else np.int64(NOBODY)
    for memcg in range(world.config.memcgs):
        if must_age(world, memcg):
            return np.int64(memcg)
    return np.int64(NOBODY)


@compiled
def should_age(world, group):
    """Whether the generations are spread badly (should_run_aging)."""
    oldest = group.min_seq[0] if _can_swap(world) else group.min_seq[1]
    if oldest + MIN_NR_GENS < group.max_seq:
        return False
    total = evictable_pages_of(world, group)
    young = _pages_in(world, group, group.max_seq)
    old = _pages_in(world, group, group.max_seq - MIN_NR_GENS)
    return young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total


@compiled
def _pages_in(world, group, seq):
    """Return how many pages of a generation can be evicted now."""
    found = 0
    for kind in range(0 if _can_swap(world) else 1, 2):
        if group.min_seq[kind] <= seq:
            found += group.lists[list_of(seq, kind == 1)].pages
    return found


@compiled
def kind_to_scan(world, group):
    """Choose files or anonymous memory (get_type_to_scan): True for files."""
    if not _can_swap(world):
        return True
    if group.min_seq[0] < group.min_seq[1]:
        return False
    swappiness = world.config.swappiness
    wanted = (group.refaults[0] + 1) * group.evicted[1] * (SWAPPINESS_BOTH - swappiness)
    got = group.refaults[1] * (group.evicted[0] + BATCH_MIN) * swappiness
    return group.refaults[1] < BATCH_MIN or got <= wanted


@compiled
def forget_empty_generations(world, group):
    """Let the next generation be the oldest where the oldest is empty (try_to_inc_min_seq)."""
    for kind in range(2):
        while (
            group.min_seq[kind] + MIN_NR_GENS <= group.max_seq
            and group.lists[list_of(group.min_seq[kind], kind == 1)].pages == 0
        ):
            group.min_seq[kind] += 1
    if _can_swap(world):
        group.min_seq[0] = min(group.min_seq[0], group.min_seq[1])


@compiled
def _add_generation(world, memcg):
    """Make a new youngest generation (inc_max_seq); of too many the two oldest become one."""
    group = world.memcgs[memcg]
    for kind in range(2):
        if group.max_seq - group.min_seq[kind] + 1 == MAX_NR_GENS:
            _merge_oldest(world, memcg, kind)
    group.max_seq += 1
    group.wants_aging = 0
    for kind in range(2):
        group.refaults[kind] //= 2
        group.evicted[kind] //= 2


@compiled
def _merge_oldest(world, memcg, kind):
    group = world.memcgs[memcg]
    row = group.lists[list_of(group.min_seq[kind], kind == 1)]
    for _ in range(row.pages):
        number = row.first
        lru.take(world, number)
        lru.push_back(world, number, list_of(group.min_seq[kind] + 1, kind == 1))
    group.min_seq[kind] += 1


@compiled
def age(world, thread, memcg, now_ns, step):
    """Let the pages of a memcg age (try_to_inc_max_seq).

    Returns whether that is done; otherwise the thread walks page tables, and does `step` next.
    """
    if not world.config.lru_gen_walks:
        _add_generation(world, memcg)
        return True
    row = world.threads[thread]
    row.age_memcg = memcg
    row.age_seq = world.memcgs[memcg].max_seq
    row.age_mm = -1
    row.age_at = -1
    row.age_step = step
    walk_on(world, thread, now_ns)
    return False


@compiled
def walk_on(world, thread, now_ns):
    """Walk the next part of some process, or make the new generation and go back."""
    row = world.threads[thread]
    if row.age_at < 0 and not _find_mm(world, thread):
        if world.memcgs[row.age_memcg].max_seq == row.age_seq:  # else somebody was quicker
            _add_generation(world, row.age_memcg)
        sched.burst(world, thread, now_ns, 0, row.age_step)
        return
    if not mmap_lock.try_walk(world, thread, row.age_mm, now_ns):
        count(world, Counter.AGING_SKIPPED, 1)
        row.age_at = -1
        sched.burst(world, thread, now_ns, 0, Step.AGE)
        return
    count(world, Counter.AGING_WALKS, 1)
    row.walks_mm = row.age_mm
    row.reclaim_owed_ns += _walk(world, thread)
    sched.burst(world, thread, now_ns, 0, Step.AGE_WALKED)


@compiled
def walked(world, thread, now_ns):
    """Let go of mmap_lock after a part of a walk."""
    row = world.threads[thread]
    mmap_lock.end_walk(world, thread, row.walks_mm, now_ns)
    row.walks_mm = NOBODY
    walk_on(world, thread, now_ns)


@compiled
def _find_mm(world, thread):
    """Find the next process of the memcg."""
    row = world.threads[thread]
    for mm in range(row.age_mm + 1, world.config.processes):
        if world.mms[mm].memcg == row.age_memcg and world.mms[mm].order_count > 0:
            row.age_mm = mm
            row.age_at = 0
            return True
    row.age_mm = world.config.processes
    return False


@compiled
def _walk(world, thread):
    """Look at the entries of a process, up to a natural break; returns what it costs."""
    row = world.threads[thread]
    group_pages = world.config.table_pages * world.config.table_pages
    spent_ns = 0
    promoted = 0
    while promoted < BATCH_MAX:
        place = address_space.place_of(world, row.age_mm, row.age_at)
        slot = address_space.slot_at(world, row.age_mm, place)
        if slot == NOBODY:
            row.age_at = -1
            return spent_ns
        vma = world.vmas[slot]
        start = max(vma.start, row.age_at)
        end = min(vma.end, (start // group_pages + 1) * group_pages)
        row.age_at = end
        if _is_walked(world, vma):
            part_promoted, part_ns = _walk_vma(world, slot, start, end)
            promoted += part_promoted
            spent_ns += part_ns
    return spent_ns


@compiled
def _is_walked(world, vma):
    """Whether a walk looks at a VMA (should_skip_vma)."""
    if not page_table.has_recency(vma) or vma.file_kind == FileKind.SPECIAL:
        return False
    if vma.file_kind == FileKind.HUGETLB:
        return False
    is_on_device = vma.open != NOBODY and vma.file_kind == FileKind.REGULAR
    return is_on_device or _can_swap(world)


@compiled
def _walk_vma(world, slot, start, end):
    """Look at entries of a VMA, page table by page table.

    With non-leaf young bits a table that was not accessed costs only itself. Returns how many
    pages were promoted, and what it costs.
    """
    vma = world.vmas[slot]
    cost = world.config.cost
    table_pages = world.config.table_pages
    promoted = 0
    spent_ns = 0
    while start < end:
        part_end = min(end, (start // table_pages + 1) * table_pages)
        spent_ns += cost.walk_table_ns
        if not world.config.lru_gen_nonleaf or _is_accessed(world, vma, start, part_end):
            promoted += _promote(world, vma, start, part_end)
            spent_ns += (part_end - start) * cost.walk_page_ns
        start = part_end
    return promoted, spent_ns


@compiled
def _is_accessed(world, vma, start, end):
    """Whether a page of a part of a page table was accessed since somebody looked."""
    for pte in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        if np.int64(world.ptes[pte]) & (PTE_PRESENT | PTE_YOUNG) == PTE_PRESENT | PTE_YOUNG:
            return True
    return False


@compiled
def _promote(world, vma, start, end):
    """Put the pages that were accessed into the youngest generation; returns how many."""
    promoted = 0
    for page in range(start, end):
        promoted += _promote_entry(world, vma, vma.pte + (page - vma.start))
    return promoted


@compiled
def _promote_entry(world, vma, pte):
    bits = np.int64(world.ptes[pte])
    if bits & (PTE_PRESENT | PTE_YOUNG) != PTE_PRESENT | PTE_YOUNG or bits & PTE_ZERO:
        return 0
    world.ptes[pte] = bits & rmap.OLD
    number = world.config.anon_first + pte
    if not bits & PTE_ANON:
        number = world.files[world.opens[vma.open].file].first + vma.offset + (pte - vma.pte)
    folio = world.folios[number]
    if not lru.is_listed(folio):
        return 0
    is_file = lru.is_file(world, folio)
    group = world.memcgs[np.int64(folio.memcg) - 1]
    lru.move(world, number, list_of(group.max_seq, is_file))
    return 1


@compiled
def look_around(world, number):
    """Look at the entries beside one that was accessed (lru_gen_look_around).

    The page itself is left to who looks.
    """
    folio = world.folios[number]
    slot = np.int64(folio.vma)
    if slot == NOBODY:
        return
    vma = world.vmas[slot]
    if folio.file == NOBODY:
        pte = number - world.config.anon_first
    else:
        first = world.files[np.int64(folio.file)].first
        pte = vma.pte + (number - first - vma.offset)
    if pte < vma.pte or pte >= vma.pte + (vma.end - vma.start):
        return
    page = vma.start + (pte - vma.pte)
    start, end = _around(world, vma, page)
    for at in range(start, end):
        if at != page:
            _promote_entry(world, vma, vma.pte + (at - vma.start))


@compiled
def _around(world, vma, page):
    """Return which entries of the same page table to look at: as many on each side, if it can."""
    table = page // world.config.table_pages * world.config.table_pages
    start = max(vma.start, table)
    end = min(vma.end, table + world.config.table_pages)
    most = world.config.lru_gen_around
    if end - start > most:
        start = max(start, min(page - most // 2, end - most))
        end = start + most
    return start, end
