"""The page cache: adding pages, reading them, making them dirty, and taking them out.

A folio that leaves the cache frees its record for the next one of the same page. Whoever
referred to the old one knows it by its generation.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind
from faultlane_server.engine import blame, device, sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import folio_lock
from faultlane_server.engine.memory import charges, lru, rmap, swap, workingset
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    BAD,
    CACHE_NODE_SHIFT,
    DIRTY,
    FOLIO_GENERATIONS,
    HOLE,
    LOCKED,
    OF_THE_PAGE,
    PRESENT,
    READAHEAD,
    UPTODATE,
    WRITEBACK,
    Cause,
    Counter,
)

PER_REQUEST_MAX = 256  # pages of one write (BIO_MAX_VECS)


@compiled
def is_present(folio):
    return folio.state & PRESENT != 0


@compiled
def is_ready(folio):
    """Whether fault-around may map a folio (next_uptodate_folio)."""
    return folio.state & (PRESENT | UPTODATE | LOCKED | READAHEAD) == PRESENT | UPTODATE


@compiled
def add(world, thread, number, state):
    """Put the page that the thread has in hand into the cache, with nobody referring to it."""
    folio = world.folios[number]
    folio.state = folio.state & OF_THE_PAGE | PRESENT | state
    folio.refs = 0
    folio.holder = NOBODY
    if world.config.limits_memory:
        charges.hand_over(world, thread, number)
        lru.mark_used(world, folio, thread)
        workingset.refaulted(world, thread, number)
    lru.add(world, thread, number)
    _need_node(world, thread, number >> CACHE_NODE_SHIFT)


@compiled
def _need_node(world, thread, node):
    """Let there be a node of the xarray for a page; none is freed."""
    if not world.cache_nodes[node]:
        world.cache_nodes[node] = 1
        sched.owe(world, thread, world.config.cost.cache_node_ns)


@compiled
def get(world, thread):
    """Refer to the folio that a fault is about."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    folio.refs += 1
    fault.generation = folio.generation


@compiled
def put(world, thread):
    """Let go of the reference, unless the folio has left the cache: it is gone with it."""
    if is_same(world, thread):
        world.folios[world.threads[thread].folio].refs -= 1


@compiled
def is_same(world, thread):
    """Whether the folio that a fault refers to is still in the cache (folio->mapping)."""
    fault = world.threads[thread]
    return np.int64(world.folios[fault.folio].generation) == fault.generation


@compiled
def clear_marker(folio):
    folio.state &= 0xFFFFFFFF ^ READAHEAD


@compiled
def make_dirty(world, file, page):
    """Make a page dirty (folio_mark_dirty), which gives it a block; returns whether it was not.

    The marker goes: in a dirty folio it would mean PG_reclaim.
    """
    row = world.files[file]
    folio = world.folios[row.first + page]
    was_clean = folio.state & DIRTY == 0
    folio.state = folio.state & (0xFFFFFFFF ^ (READAHEAD | HOLE)) | DIRTY
    if was_clean and row.kind == FileKind.REGULAR:
        row.dirty += 1
        world.dirty += 1
        count(world, Counter.DIRTIED, 1)
    return was_clean


@compiled
def _make_clean(world, file, folio):
    if folio.state & DIRTY:
        folio.state ^= DIRTY
        if world.files[file].kind == FileKind.REGULAR:
            world.files[file].dirty -= 1
            world.dirty -= 1


@compiled
def try_lock(world, thread, folio, now_ns):
    """Lock a folio if it is free, whoever waits for it."""
    if not folio_lock.try_lock(folio, thread):
        return False
    blame.folio_changed(world, folio, now_ns)
    return True


@compiled
def own(world, thread, folio, now_ns):
    """Have a folio locked: because it was handed over to the thread, or because it is free."""
    if not folio_lock.own(folio, thread):
        return False
    blame.folio_changed(world, folio, now_ns)
    return True


@compiled
def unlock(world, thread, folio, now_ns):
    """Unlock a folio and wake who may have it now, at the expense of the thread."""
    woken = folio_lock.unlock(folio, world.threads)
    blame.folio_changed(world, folio, now_ns)
    while woken != NOBODY:
        behind = world.threads[woken].behind
        sched.wake_from(world, woken, thread, now_ns)
        woken = behind


@compiled
def unlock_and_put(world, thread, now_ns):
    """Unlock the folio that a fault refers to, and let go of it."""
    unlock(world, thread, world.folios[world.threads[thread].folio], now_ns)
    put(world, thread)


@compiled
def wait_for(world, thread, folio, exclusive, now_ns, step):
    """Sleep until a folio is unlocked, by the thread or the read that holds it."""
    folio_lock.wait_for(folio, world.threads, thread, exclusive)
    holder = np.int64(folio.holder)
    cause = Cause.DEVICE if holder == NOBODY else Cause.FOLIO
    if holder == NOBODY:
        world.threads[thread].wait_kind = blame.kind_of_folio(folio)
    else:
        blame.wait_for_folio(world, thread, folio, now_ns)
    sched.block(world, thread, now_ns, cause, holder, step)


@compiled
def take_out(world, thread, file, page, now_ns):
    """Take a folio that the thread has locked out of the cache.

    Everybody who waits for it is woken, to find that it is gone.
    """
    folio = world.folios[world.files[file].first + page]
    assert folio.state & WRITEBACK == 0, "a folio under writeback stays in the cache"
    assert folio.mapcount == 0, "a folio that leaves the cache is not mapped"
    _make_clean(world, file, folio)
    while np.int64(folio.first) != NOBODY:
        woken = np.int64(folio_lock.wake_first(folio, world.threads))
        sched.wake_from(world, woken, thread, now_ns)
    charges.uncharge(world, world.files[file].first + page)
    swap.free_slot(world, folio)
    folio.state &= HOLE | BAD
    folio.holder = NOBODY
    folio.refs = 0
    folio.generation = (np.int64(folio.generation) + 1) % FOLIO_GENERATIONS


@compiled
def evict(world, number):
    """Take a page that reclaim has chosen out of the cache; nobody refers to it."""
    folio = world.folios[number]
    assert folio.mapcount == 0, "a folio that leaves the cache is not mapped"
    assert folio.refs == 0, "a folio that somebody refers to is never reclaimed"
    charges.uncharge(world, number)
    folio.state &= OF_THE_PAGE
    folio.generation = (np.int64(folio.generation) + 1) % FOLIO_GENERATIONS


@compiled
def needs_writeback(folio):
    """Whether a folio may be submitted now: dirty, and not under writeback already."""
    return folio.state & (DIRTY | WRITEBACK) == DIRTY


@compiled
def write_back(world, cpu, file, page, end, now_ns):
    """Submit the dirty pages from `page` on, in one request; returns how many.

    The thread has locked the first one if it has to; the others are not locked by anybody.
    """
    row = world.files[file]
    at = page
    last = min(end, page + PER_REQUEST_MAX)
    while at < last and _joins(world.folios[row.first + at], at == page):
        folio = world.folios[row.first + at]
        _make_clean(world, file, folio)
        folio.state |= WRITEBACK
        at += 1
    rmap.write_protect(world, file, page, at)
    world.under_writeback += at - page
    device.write(world, cpu, row.device_id, row.first + page, at - page, now_ns)
    return at - page


@compiled
def _joins(folio, is_first):
    return needs_writeback(folio) and (is_first or folio.state & LOCKED == 0)


@compiled
def wait_until_written(world, thread, folio, now_ns, step):
    """Sleep until a request that has the folio was written."""
    world.threads[thread].written_folio = folio
    world.threads[thread].behind = NOBODY
    if world.written_first == NOBODY:
        world.written_first = thread
    else:
        world.threads[world.written_last].behind = thread
    world.written_last = thread
    sched.block(world, thread, now_ns, Cause.WRITEBACK, NOBODY, step)
