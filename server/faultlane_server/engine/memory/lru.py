"""LRU lists: which page of a memcg is looked at next when memory is short.

A page that is new waits in a batch of its CPU (PAGEVEC_SIZE): until that is drained it stands
in no list, and nobody can reclaim it. In the lists, the head is what was put there last, and the
tail is what is taken first.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind, LruKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import generations
from faultlane_server.engine.world import (
    ACTIVE,
    BATCH_MAX,
    DIRTY,
    IN_BATCH,
    LISTS,
    LOCKED,
    REFERENCED,
    Lru,
)


@compiled
def is_file(world, folio):
    """Whether a page is one of a file on a device; else it can only go to swap."""
    return folio.file != NOBODY and world.files[np.int64(folio.file)].kind == FileKind.REGULAR


@compiled
def mark_used(world, folio, thread):
    """Let MGLRU put a page that a fault makes into its youngest generation."""
    if world.config.lru_kind == LruKind.MGLRU and is_in_fault(world, thread):
        folio.state |= ACTIVE


@compiled
def is_in_fault(world, thread):
    """Whether a thread is in a fault in a VMA whose accesses count (in_lru_fault)."""
    row = world.threads[thread]
    return row.in_fault != 0 and row.has_recency != 0


@compiled
def add(world, thread, number):
    """Put a new page into the batch of the thread's CPU (folio_add_lru); a full one is drained."""
    cpu = world.threads[thread].cpu
    row = world.cpus[cpu]
    if world.config.limits_memory:
        world.folios[number].lru = IN_BATCH
        world.batches[cpu * BATCH_MAX + row.batched] = number
    row.batched += 1
    if row.batched == BATCH_MAX:
        drain(world, cpu)
        sched.owe(world, thread, BATCH_MAX * world.config.cost.lru_add_ns)


@compiled
def drain(world, cpu):
    """Put the pages of a CPU's batch into their lists (lru_add_drain)."""
    row = world.cpus[cpu]
    pages = row.batched
    row.batched = 0
    if world.config.limits_memory == 0:
        return
    for place in range(cpu * BATCH_MAX, cpu * BATCH_MAX + pages):
        number = np.int64(world.batches[place])
        if world.folios[number].lru == IN_BATCH:  # else it has left in the meantime
            push(world, number, list_for(world, world.folios[number]))
            if world.config.lru_kind == LruKind.MGLRU:
                world.folios[number].state &= 0xFFFFFFFF ^ ACTIVE


@compiled
def list_for(world, folio):
    """Return the list that a page belongs to by what is known of it."""
    if world.config.lru_kind == LruKind.MGLRU:
        return generations.list_for(world, folio, is_file(world, folio))
    kind = Lru.INACTIVE_FILE if is_file(world, folio) else Lru.INACTIVE_ANON
    return np.int64(kind) + (1 if folio.state & ACTIVE else 0)


@compiled
def push(world, number, kind):
    """Put a page at the head of a list of its memcg."""
    folio = world.folios[number]
    row = _list_of(world, folio, kind)
    folio.lru_before = NOBODY
    folio.lru_next = row.first
    if row.first == NOBODY:
        row.last = number
    else:
        world.folios[row.first].lru_before = number
    row.first = number
    row.pages += 1


@compiled
def push_back(world, number, kind):
    """Put a page at the tail of a list of its memcg: it is the next to be looked at."""
    folio = world.folios[number]
    row = _list_of(world, folio, kind)
    folio.lru_next = NOBODY
    folio.lru_before = row.last
    if row.last == NOBODY:
        row.first = number
    else:
        world.folios[row.last].lru_next = number
    row.last = number
    row.pages += 1


@compiled
def _list_of(world, folio, kind):
    memcg = np.int64(folio.memcg) - 1
    assert memcg >= 0, "a page in a list is charged to somebody"
    folio.lru = memcg * LISTS + kind + 1
    return world.memcgs[memcg].lists[kind]


@compiled
def take(world, number):
    """Take a page out of its list, if it is in one; it is in no batch any more either."""
    folio = world.folios[number]
    lru = np.int64(folio.lru)
    folio.lru = 0
    if lru == 0 or lru == IN_BATCH:
        return
    row = world.memcgs[(lru - 1) // LISTS].lists[(lru - 1) % LISTS]
    row.pages -= 1
    assert row.pages >= 0, "a list counts its pages"
    before, behind = np.int64(folio.lru_before), np.int64(folio.lru_next)
    if before == NOBODY:
        row.first = behind
    else:
        world.folios[before].lru_next = behind
    if behind == NOBODY:
        row.last = before
    else:
        world.folios[behind].lru_before = before


@compiled
def is_listed(folio):
    """Whether a page stands in a list: not in a batch, and not nowhere."""
    return folio.lru != 0 and folio.lru != IN_BATCH


@compiled
def move(world, number, kind):
    """Move a page that stands in a list to the head of another one."""
    take(world, number)
    push(world, number, kind)


@compiled
def mark_accessed(world, number):
    """Note an access to a page of a file (folio_mark_accessed): two of them make it active.

    MGLRU looks at page tables alone here.
    """
    folio = world.folios[number]
    if folio.lru == 0 or world.config.lru_kind == LruKind.MGLRU:
        return
    if not folio.state & REFERENCED:
        folio.state |= REFERENCED
        return
    if folio.state & ACTIVE:
        return
    folio.state = folio.state & (0xFFFFFFFF ^ REFERENCED) | ACTIVE
    world.memcgs[np.int64(folio.memcg) - 1].age += 1
    if folio.lru != IN_BATCH:
        move(world, number, list_for(world, folio))


@compiled
def deactivate(world, number):
    """Let a page be inactive, or old (folio_deactivate)."""
    folio = world.folios[number]
    folio.state &= 0xFFFFFFFF ^ ACTIVE
    if is_listed(folio):
        move(world, number, _oldest_list(world, folio))


@compiled
def rotate(world, number):
    """Let a page be looked at next, as it was written for reclaim (folio_rotate_reclaimable)."""
    folio = world.folios[number]
    if is_listed(folio) and not folio.state & (LOCKED | DIRTY):
        folio.state &= 0xFFFFFFFF ^ ACTIVE
        take(world, number)
        push_back(world, number, _oldest_list(world, folio))


@compiled
def _oldest_list(world, folio):
    """Return the list that is reclaimed from first, of those for a page."""
    if world.config.lru_kind == LruKind.MGLRU:
        kind = is_file(world, folio)
        group = world.memcgs[np.int64(folio.memcg) - 1]
        return generations.list_of(group.min_seq[1 if kind else 0], kind)
    return list_for(world, folio)
