"""Operations on the pages of a file: truncation, punching holes, writeback, POSIX_FADV_DONTNEED.

None of them takes mmap_lock. Truncation holds the file's invalidate_lock exclusively, unmaps the
range everywhere, and takes folio after folio out of the page cache: each when it could be locked
and is not under writeback (truncate_inode_pages_range). The lock of the inode, which truncations
of one file hold as well, would only make them wait a little earlier.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind, OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import invalidate_lock
from faultlane_server.engine.memory import page_cache, rmap
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    DIRTY,
    HOLE,
    LOCKED,
    READAHEAD,
    WRITEBACK,
    Counter,
    Step,
)

BATCH = 31  # folios that truncation looks up at once (PAGEVEC_SIZE)


@compiled
def begin(world, thread, now_ns):
    """Go on inside the kernel. What has no device has nothing to write, and keeps its pages."""
    caller = world.threads[thread]
    cost = world.config.cost
    caller.rounds = 0
    if caller.op_kind == OperationKind.SYNC_FILE_RANGE:
        sched.owe(world, thread, cost.sync_file_range_ns)
        _begin_writeback(world, thread, now_ns)
    elif caller.op_kind == OperationKind.FADVISE_DONTNEED:
        sched.owe(world, thread, cost.fadvise_dontneed_ns)
        _begin_writeback(world, thread, now_ns)
    elif invalidate_lock.lock_exclusive(world, thread, now_ns):
        _unmap(world, thread, now_ns)


@compiled
def _begin_writeback(world, thread, now_ns):
    if world.files[world.threads[thread].op_file].device_id == NOBODY:
        entry.leave(world, thread, now_ns)
    else:
        sched.burst(world, thread, now_ns, 0, Step.WRITE_BACK)


@compiled
def woken(world, thread, now_ns):
    """Try again to have invalidate_lock."""
    if invalidate_lock.retry_exclusive(world, thread, now_ns):
        _unmap(world, thread, now_ns)


@compiled
def _unmap(world, thread, now_ns):
    """Set the size, and unmap what goes (unmap_mapping_range).

    Truncation takes private copies along, a hole leaves them.
    """
    caller = world.threads[thread]
    cost = world.config.cost
    is_truncation = caller.op_kind == OperationKind.FTRUNCATE
    spent_ns = cost.ftruncate_ns if is_truncation else cost.punch_hole_ns
    if is_truncation:
        row = world.files[caller.op_file]
        caller.op_end = max(row.pages, caller.op_start)
        row.pages = caller.op_start
    elif world.files[caller.op_file].kind == FileKind.TMPFS:
        world.files[caller.op_file].falloc_start = caller.op_start
        world.files[caller.op_file].falloc_end = caller.op_end
        world.files[caller.op_file].falloc_thread = thread
    caller.op_at = caller.op_start
    unmapped = rmap.unmap(world, caller.op_file, caller.op_start, caller.op_end, is_truncation)
    spent_ns += unmapped * cost.munmap_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.TRUNCATE)


@compiled
def truncate(world, thread, now_ns):
    """Take the next folios out of the page cache, waiting for one that is locked or written."""
    caller = world.threads[thread]
    row = world.files[caller.op_file]
    taken = 0
    while caller.op_at < caller.op_end and taken < BATCH:
        folio = world.folios[row.first + caller.op_at]
        if page_cache.is_present(folio):
            if not _lock(world, thread, folio, now_ns, Step.TRUNCATE):
                return
            if folio.state & WRITEBACK:
                page = row.first + caller.op_at
                page_cache.wait_until_written(world, thread, page, now_ns, Step.TRUNCATE)
                return
            _take_out(world, thread, folio, now_ns)
            taken += 1
        folio.state |= HOLE
        caller.op_at += 1
    if taken > 0:
        sched.burst(world, thread, now_ns, 0, Step.TRUNCATE)
        return
    if caller.op_kind == OperationKind.FTRUNCATE:  # copies that were made meanwhile
        rmap.unmap(world, caller.op_file, caller.op_start, caller.op_end, True)
    _end_punch(world, thread, now_ns)
    invalidate_lock.unlock_exclusive(world, thread, now_ns)
    if caller.op_kind == OperationKind.MADVISE:  # MADV_REMOVE goes on with the next VMA
        sched.burst(world, thread, now_ns, 0, Step.ADVICE_RELOCK)
        return
    entry.leave(world, thread, now_ns)


@compiled
def _end_punch(world, thread, now_ns):
    """Wake all faults that wait until a hole is punched into a file of tmpfs."""
    row = world.files[world.threads[thread].op_file]
    row.falloc_end = row.falloc_start
    waiter = row.falloc_first
    row.falloc_first = NOBODY
    while waiter != NOBODY:
        behind = world.threads[waiter].behind
        sched.wake_from(world, waiter, thread, now_ns)
        waiter = behind


@compiled
def _take_out(world, thread, folio, now_ns):
    """Take a folio that the thread has locked out of the page cache."""
    caller = world.threads[thread]
    if folio.mapcount > 0:  # it was mapped again after the range was unmapped
        rmap.unmap(world, caller.op_file, caller.op_at, caller.op_at + 1, False)
    page_cache.take_out(world, thread, caller.op_file, caller.op_at, now_ns)
    count(world, Counter.TRUNCATED, 1)
    sched.owe(world, thread, world.config.cost.truncate_page_ns)
    caller.rounds = 0


@compiled
def _lock(world, thread, folio, now_ns, step):
    """Lock a folio; returns whether it is held. Otherwise the thread sleeps, and does `step`.

    Whoever waits for a folio lines up again until it has the lock: only who unlocks it wakes
    the next one.
    """
    if page_cache.own(world, thread, folio, now_ns):
        return True
    page_cache.wait_for(world, thread, folio, True, now_ns, step)
    return False


@compiled
def folio_woken(world, thread, now_ns):
    """Own the folio that writeback has waited for, and look at it again; unless it is gone."""
    caller = world.threads[thread]
    folio = world.folios[world.files[caller.op_file].first + caller.op_at]
    if not page_cache.is_present(folio):
        write_back(world, thread, now_ns)
    elif _lock(world, thread, folio, now_ns, Step.WRITE_BACK_WOKEN):
        write_back(world, thread, now_ns)


@compiled
def write_back(world, thread, now_ns):
    """Submit the next dirty pages; then wait for them, or drop what is clean, or leave."""
    caller = world.threads[thread]
    row = world.files[caller.op_file]
    while caller.op_at < caller.op_end:
        folio = world.folios[row.first + caller.op_at]
        if page_cache.needs_writeback(folio):
            if _lock(world, thread, folio, now_ns, Step.WRITE_BACK_WOKEN):
                _submit(world, thread, folio, now_ns)
            return
        if np.int64(folio.holder) == thread:  # cleaned while this thread waited for it
            page_cache.unlock(world, thread, folio, now_ns)
        caller.op_at += 1
        caller.rounds = 0
    caller.op_at = caller.op_start
    if caller.op_wait:
        written(world, thread, now_ns)
        return
    if caller.op_kind == OperationKind.FADVISE_DONTNEED:
        _drop_clean(world, thread, now_ns)
    entry.leave(world, thread, now_ns)


@compiled
def _submit(world, thread, folio, now_ns):
    """Submit dirty pages from a folio on that the thread has locked."""
    caller = world.threads[thread]
    cost = world.config.cost
    file, page, end = caller.op_file, caller.op_at, caller.op_end
    pages = page_cache.write_back(world, caller.cpu, file, page, end, now_ns)
    page_cache.unlock(world, thread, folio, now_ns)
    caller.op_at += pages
    caller.rounds = 0
    spent_ns = cost.submit_ns + pages * cost.writeback_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.WRITE_BACK)


@compiled
def written(world, thread, now_ns):
    """Wait until no page of the range is under writeback."""
    caller = world.threads[thread]
    row = world.files[caller.op_file]
    while caller.op_at < caller.op_end:
        if world.folios[row.first + caller.op_at].state & WRITEBACK:
            page = row.first + caller.op_at
            page_cache.wait_until_written(world, thread, page, now_ns, Step.WRITTEN)
            return
        caller.op_at += 1
    entry.leave(world, thread, now_ns)


@compiled
def _drop_clean(world, thread, now_ns):
    """Take clean pages that nobody uses out of the page cache (invalidate_mapping_pages).

    One that is dirty or under writeback, and not mapped, gets PG_reclaim (lru_deactivate_file).
    """
    caller = world.threads[thread]
    row = world.files[caller.op_file]
    taken = 0
    for page in range(caller.op_start, caller.op_end):
        folio = world.folios[row.first + page]
        if not page_cache.is_present(folio) or folio.mapcount > 0 or folio.state & LOCKED:
            continue
        if folio.state & (DIRTY | WRITEBACK):
            folio.state |= READAHEAD
        elif folio.refs == 0:
            page_cache.take_out(world, thread, caller.op_file, page, now_ns)
            taken += 1
    sched.owe(world, thread, taken * world.config.cost.truncate_page_ns)
