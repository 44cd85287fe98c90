"""Read faults on file mappings: fault-around and filemap_fault (mm/filemap.c).

An attempt comes in with its fault lock held and `thread.vma` valid. It ends in the step
RELEASE with the lock held, or in RETRY with the lock dropped. F0 to F9 are the steps of
filemap_fault in their order.
"""

import numpy as np

from faultlane_server.codes import NOBODY, Advice, RetryReason, VmFault
from faultlane_server.engine import device, sched
from faultlane_server.engine.fault import retry
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.locks import fault_lock, folio_lock, rwsem
from faultlane_server.engine.memory import page_cache, page_table, readahead
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    LOCKED,
    PTE_PRESENT,
    READAHEAD,
    UPTODATE,
    Cause,
    Counter,
    Step,
)


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Handle a fault (a0): map what is ready around it, and look further if that was not enough.

    `spent_ns` is what the way here has cost; it is paid with the first burst.
    """
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    fault.open = vma.open
    fault.file = world.opens[vma.open].file
    fault.file_page = vma.offset + (fault.page - vma.start)
    if fault.file_page < world.files[fault.file].pages:
        prefetch(world.folios[world.files[fault.file].first + fault.file_page])
    cost = world.config.cost
    spent_ns += cost.handle_ns
    pte = vma.pte + (fault.page - vma.start)
    if world.ptes[pte] & PTE_PRESENT:  # spurious: another thread has mapped it
        fault.result = 0
        sched.burst(world, thread, now_ns, spent_ns, Step.RELEASE)
        return
    if world.config.fault_around_pages > 1:
        mapped = _fault_around(world, thread)
        spent_ns += cost.fault_around_ns + mapped * cost.fault_around_page_ns
    if world.ptes[pte] & PTE_PRESENT:
        fault.result = VmFault.NOPAGE
        sched.burst(world, thread, now_ns, spent_ns, Step.RELEASE)
    else:
        sched.burst(world, thread, now_ns, spent_ns + cost.cache_lookup_ns, Step.LOOKUP)


@compiled
def _fault_around(world, thread):
    """Map every ready page of the window around a fault; returns how many."""
    window = world.config.fault_around_pages
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    table = fault.page & ~(world.config.table_pages - 1)
    first = max(max(fault.page & ~(window - 1), vma.start), table)
    file = world.files[fault.file]
    file_end = vma.start + (file.pages - vma.offset)
    end = min(min(first + window, vma.end), min(table + world.config.table_pages, file_end))
    folios = file.first + vma.offset - vma.start
    ptes = vma.pte - vma.start
    bits = page_table.entry(world, vma.protection)
    mapped = 0
    visited = 0
    for page in range(first, end):
        if not page_cache.is_ready(world.folios[folios + page]):
            continue
        visited += 1
        if not world.ptes[ptes + page] & PTE_PRESENT:
            world.ptes[ptes + page] = bits
            mapped += 1
    opened = world.opens[fault.open]
    opened.mmap_miss = max(0, opened.mmap_miss - visited)
    return mapped


@compiled
def lookup(world, thread, now_ns):
    """Look the page up (F0 to F2)."""
    fault = world.threads[thread]
    file = world.files[fault.file]
    if fault.file_page >= file.pages:
        fault.result = VmFault.SIGBUS
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)
        return
    fault.folio = file.first + fault.file_page
    if page_cache.is_present(world.folios[fault.folio]):
        _hit(world, thread, now_ns)
    else:
        _miss(world, thread, now_ns)


@compiled
def _hit(world, thread, now_ns):
    """Go on with a cached page (F2a): its marker may ask for the next window."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    folio.refs += 1
    opened = world.opens[fault.open]
    advice = world.vmas[fault.vma].advice
    if fault.tried or advice == Advice.RANDOM or opened.ra_pages == 0:
        _hit_is_ready(world, thread, now_ns)
        return
    opened.mmap_miss = max(0, opened.mmap_miss - 1)
    if not folio.state & READAHEAD:
        _hit_is_ready(world, thread, now_ns)
        return
    _drop_if_allowed(world, thread, now_ns)
    page_cache.clear_marker(folio)
    if readahead.plan_async(world, thread):
        _read_later(world, thread, now_ns, Step.READAHEAD_ASYNC)
    else:
        _hit_is_ready(world, thread, now_ns)


@compiled
def _hit_is_ready(world, thread, now_ns):
    fault = world.threads[thread]
    if not world.folios[fault.folio].state & UPTODATE:
        _take_invalidate_lock(world, thread)
    _lock_folio(world, thread, now_ns)


@compiled
def _miss(world, thread, now_ns):
    """Go on without a page (F2b): a major fault, and readahead if there is any."""
    fault = world.threads[thread]
    count(world, Counter.PGMAJFAULT, 1)
    fault.result = VmFault.MAJOR
    if not readahead.plan_sync(world, thread):
        find_or_create(world, thread, now_ns)
        return
    _drop_if_allowed(world, thread, now_ns)
    _read_later(world, thread, now_ns, Step.READAHEAD_SYNC)


@compiled
def _read_later(world, thread, now_ns, step):
    """Pay for a window; it is added to the cache when that is done."""
    cost = world.config.cost
    pages = readahead.absent_pages(world, thread)
    spent_ns = cost.readahead_ns + pages * cost.readahead_page_ns
    if pages > 0:
        spent_ns += cost.submit_ns
    sched.burst(world, thread, now_ns, spent_ns, step)


@compiled
def readahead_sync(world, thread, now_ns):
    """Read the window around a missing page, and find the page in the cache."""
    page_cache.read_window(world, thread, now_ns)
    find_or_create(world, thread, now_ns)


@compiled
def readahead_async(world, thread, now_ns):
    """Read the window behind a marker, and go on with the page that carried it."""
    page_cache.read_window(world, thread, now_ns)
    _hit_is_ready(world, thread, now_ns)


@compiled
def find_or_create(world, thread, now_ns):
    """Get the page's folio (F3, retry_find): an empty one if it is not there."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if not fault.invalidate_held:
        _take_invalidate_lock(world, thread)
    if not page_cache.is_present(folio):
        page_cache.add(folio, 0)
        sched.owe(world, thread, world.config.cost.readahead_page_ns)
    folio.refs += 1
    _lock_folio(world, thread, now_ns)


@compiled
def _lock_folio(world, thread, now_ns):
    """Lock the folio, or let go of the fault lock and wait (F4)."""
    fault = world.threads[thread]
    if folio_lock.try_lock(world.folios[fault.folio], thread):
        _check(world, thread, now_ns)
        return
    _drop_if_allowed(world, thread, now_ns)
    fault.rounds = 0
    sched.owe(world, thread, world.config.cost.folio_wait_ns)
    _wait_for_folio(world, thread, now_ns, True, Step.FOLIO_WOKEN)


@compiled
def _wait_for_folio(world, thread, now_ns, exclusive, step):
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    folio_lock.wait_for(folio, world.threads, thread, exclusive)
    holder = np.int64(folio.holder)
    cause = Cause.DEVICE if holder == NOBODY else Cause.FOLIO
    sched.block(world, thread, now_ns, cause, holder, step)


@compiled
def folio_woken(world, thread, now_ns):
    """Own the folio that was waited for, or be beaten to it and wait again (F4)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if np.int64(folio.holder) == thread or folio_lock.try_lock(folio, thread):
        _check(world, thread, now_ns)
    else:
        _wait_for_folio(world, thread, now_ns, True, Step.FOLIO_WOKEN)


@compiled
def _check(world, thread, now_ns):
    """Decide with the folio locked: map it, read it, or go back and try again (F6, F7)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if not folio.state & UPTODATE:
        if fault.invalidate_held:
            _drop_if_allowed(world, thread, now_ns)
            spent_ns = world.config.cost.sync_read_ns
            sched.burst(world, thread, now_ns, spent_ns, Step.SYNC_READ)
            return
        _unlock_folio(world, thread, now_ns)
        folio.refs -= 1
        sched.burst(world, thread, now_ns, 0, Step.FIND)
        return
    if fault.dropped:
        _unlock_folio(world, thread, now_ns)
        _leave_for_retry(world, thread, now_ns, RetryReason.F7)
        return
    release_invalidate_lock(world, thread)
    sched.burst(world, thread, now_ns, world.config.cost.map_page_ns, Step.MAP_PAGE)


@compiled
def sync_read(world, thread, now_ns):
    """Read one page and wait for it (F8, page_not_uptodate)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    assert folio.state & LOCKED, "a page is read with its folio locked"
    folio.holder = NOBODY
    device.wait_for_read(world, folio, now_ns)
    device.submit(world, thread, world.files[fault.file].device_id, fault.folio, 1, now_ns)
    _wait_for_folio(world, thread, now_ns, False, Step.SYNC_READ_DONE)


@compiled
def sync_read_done(world, thread, now_ns):
    """Try again without the lock (F9), or go on with it (F3)."""
    fault = world.threads[thread]
    if fault.dropped:
        _leave_for_retry(world, thread, now_ns, RetryReason.F8)
        return
    world.folios[fault.folio].refs -= 1
    find_or_create(world, thread, now_ns)


@compiled
def map_page(world, thread, now_ns):
    """Set the page-table entry and unlock the folio (a9)."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = vma.pte + (fault.page - vma.start)
    if world.ptes[pte] & PTE_PRESENT:  # another thread was quicker (finish_fault)
        fault.result |= VmFault.NOPAGE
    else:
        world.ptes[pte] = page_table.entry(world, vma.protection)
    _unlock_folio(world, thread, now_ns)
    world.folios[fault.folio].refs -= 1
    fault.result |= VmFault.LOCKED


@compiled
def _leave_for_retry(world, thread, now_ns, reason):
    """End an attempt that has dropped its lock (F9)."""
    fault = world.threads[thread]
    assert fault.held == 0, "VM_FAULT_RETRY means that the fault lock is released"
    world.folios[fault.folio].refs -= 1
    release_invalidate_lock(world, thread)
    fault.result |= VmFault.RETRY
    fault.reasons |= 1 << reason
    fault.retry_reason = reason
    sched.burst(world, thread, now_ns, world.config.cost.retry_ns, Step.RETRY)


@compiled
def _drop_if_allowed(world, thread, now_ns):
    """Let go of the fault lock (maybe_unlock_mmap_for_io), if the policy says so."""
    fault = world.threads[thread]
    if fault.dropped or not retry.may_drop(world.config.file_rule, fault.lock, fault.tried):
        return
    fault_lock.release(world, thread, now_ns)
    fault.dropped = 1


@compiled
def _unlock_folio(world, thread, now_ns):
    """Unlock a folio and wake who may have it now."""
    folio = world.folios[world.threads[thread].folio]
    woken = folio_lock.unlock(folio, world.threads)
    while woken != NOBODY:
        behind = world.threads[woken].behind
        sched.owe(world, thread, world.config.cost.wake_ns)
        sched.wake(world, woken, now_ns, 0)
        woken = behind


@compiled
def _take_invalidate_lock(world, thread):
    """Take mapping->invalidate_lock shared. Nothing takes it exclusively in this version."""
    fault = world.threads[thread]
    lock = world.files[fault.file].invalidate_lock
    is_held = rwsem.try_read(lock, thread)
    assert is_held, "nobody holds an invalidate_lock exclusively"
    fault.invalidate_held = 1


@compiled
def release_invalidate_lock(world, thread):
    """Let go of mapping->invalidate_lock, if it is held."""
    fault = world.threads[thread]
    if fault.invalidate_held:
        rwsem.release_read(world.files[fault.file].invalidate_lock)
        fault.invalidate_held = 0
