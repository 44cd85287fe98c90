"""Faults on file mappings whose page is not mapped: fault-around and filemap_fault (mm/filemap.c).

F0 to F9 are the steps of filemap_fault in their order, a0 to a9 those of the whole attempt.
"""

import numpy as np

from faultlane_server.codes import (
    NOBODY,
    Advice,
    FaultClass,
    FaultKind,
    FaultLock,
    FileKind,
    RetryReason,
    VmaLockFaults,
    VmFault,
)
from faultlane_server.engine import blame, device, sched
from faultlane_server.engine.fault import access, finish, retry
from faultlane_server.engine.fault.attempt import (
    drop,
    drop_if_allowed,
    end_in_retry,
    fail_without_memory,
    locate,
    prepare_anon_vma,
    pte_of,
    release_invalidate_lock,
    retry_at_once,
    waits_for_old_page,
)
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.locks import fault_lock, invalidate_lock, mmap_lock
from faultlane_server.engine.memory import (
    address_space,
    charges,
    memcg,
    page_cache,
    page_table,
    readahead,
    swap,
)
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    DIRTY,
    HOLE,
    LOCKED,
    PTE_PRESENT,
    PTE_YOUNG,
    READAHEAD,
    SWAP_CACHE,
    SWAPPED,
    UPTODATE,
    WORKINGSET,
    WRITEBACK,
    Cause,
    Counter,
    Step,
    Waits,
)

RA_PAGES_DIVISOR = 4  # by which a failed read shrinks the window (shrink_readahead_size_eio)


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Handle a fault (a0): map what is ready around it, and look further if that was not enough.

    `spent_ns` is what the way here has cost; it is paid with the first burst.
    """
    fault = world.threads[thread]
    locate(world, thread)
    vma = world.vmas[fault.vma]
    if fault.file_page < world.files[fault.file].pages:
        prefetch(world.folios[fault.folio])
    cost = world.config.cost
    if fault.kind == FaultKind.FILE_READ and _may_map_around(world, vma):
        mapped = _fault_around(world, thread)
        spent_ns += cost.fault_around_ns + mapped * cost.fault_around_page_ns
        if world.ptes[pte_of(world, fault)] & PTE_PRESENT:
            fault.result = VmFault.NOPAGE
            sched.burst(world, thread, now_ns, spent_ns, Step.RELEASE)
            return
    if fault.lock == FaultLock.VMA:
        if world.config.vma_lock_faults != VmaLockFaults.ALL:
            retry_at_once(world, thread, now_ns, spent_ns, RetryReason.UNSUPPORTED)
            return
        if vma.file_kind == FileKind.SPECIAL:
            retry_at_once(world, thread, now_ns, spent_ns, RetryReason.NO_MAP_PAGES)
            return
    if fault.kind == FaultKind.FILE_COW:
        if not prepare_anon_vma(world, thread, now_ns):
            retry_at_once(world, thread, now_ns, spent_ns, RetryReason.ANON_VMA)
            return
        sched.owe(world, thread, spent_ns + cost.anon_page_ns)
        get_copy(world, thread, now_ns)
        return
    sched.burst(world, thread, now_ns, spent_ns + cost.cache_lookup_ns, Step.LOOKUP)


@compiled
def get_copy(world, thread, now_ns):
    """Charge the page that a private write copies to, before the file's page is looked up."""
    if waits_for_old_page(world, thread, now_ns, Step.COPY_CHARGE):
        return
    outcome = memcg.charge(world, thread, now_ns, Step.COPY_CHARGE)
    if outcome == memcg.GOT:
        charges.keep_for_copy(world, thread)
        sched.burst(world, thread, now_ns, world.config.cost.cache_lookup_ns, Step.LOOKUP)
    elif outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)


@compiled
def _rule_of(world, thread):
    return world.config.rules[world.threads[thread].fault_class]


@compiled
def _may_map_around(world, vma):
    return world.config.fault_around_pages > 1 and vma.file_kind != FileKind.SPECIAL


@compiled
def _fault_around(world, thread):
    """Map every ready page of the window around a fault; returns how many.

    Only the page of the fault is young on all architectures.

    Pages of the working set, which were evicted and came back, do not count as hits: a file that
    thrashes is soon read without read-around.
    """
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
    bits = page_table.entry(world, vma, vma.protection) & ~PTE_YOUNG
    mapped = 0
    visited = 0
    for page in range(first, end):
        if not page_cache.is_ready(world.folios[folios + page]):
            continue
        folio = world.folios[folios + page]
        if not folio.state & WORKINGSET:
            visited += 1
        if world.ptes[ptes + page] == 0:
            folio = world.folios[folios + page]
            young = PTE_YOUNG if page == fault.page else world.config.prefaulted
            page_table.map_folio(world, fault.vma, ptes + page, folio, bits | young)
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
    elif file.kind != FileKind.REGULAR:
        _without_device(world, thread, now_ns)
    elif page_cache.is_present(world.folios[fault.folio]):
        _hit(world, thread, now_ns)
    else:
        _miss(world, thread, now_ns)


@compiled
def _without_device(world, thread, now_ns):
    """Go on with a page that no device has: of a special mapping (which is there), or of tmpfs.

    shmem_fault allocates a page that is not there, and never lets go of the fault lock.
    """
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if world.files[fault.file].falloc_start <= fault.file_page < world.files[fault.file].falloc_end:
        _wait_for_hole(world, thread, now_ns)
        return
    if page_cache.is_present(folio):
        charges.give_back(world, thread)
        if folio.state & SWAP_CACHE and folio.state & WRITEBACK:
            page_cache.wait_until_written(world, thread, fault.folio, now_ns, Step.LOOKUP)
            return
        page_cache.get(world, thread)
        lock_folio(world, thread, now_ns)
        return
    outcome = memcg.charge(world, thread, now_ns, Step.LOOKUP)
    if outcome == memcg.GOT:
        _make_page(world, thread, now_ns)
    elif outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)


@compiled
def _make_page(world, thread, now_ns):
    """Make a page of tmpfs: zeroed, or read from swap with the fault lock held."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    page_cache.add(world, thread, fault.folio, 0)
    page_cache.get(world, thread)
    is_locked = page_cache.try_lock(world, thread, folio, now_ns)
    assert is_locked, "a new folio is locked by who has made it"
    cost = world.config.cost
    spent_ns = cost.readahead_page_ns
    if not folio.state & SWAPPED:
        sched.burst(world, thread, now_ns, spent_ns + cost.zero_page_ns, Step.ZEROED)
        return
    count(world, Counter.PGMAJFAULT, 1)
    count(world, Counter.PSWPIN, 1)
    fault.result |= VmFault.MAJOR
    if swap.is_read_at_once(world, folio):
        spent_ns += swap.read_ns(world, thread, fault.folio)
        sched.burst(world, thread, now_ns, spent_ns, Step.ZEROED)
    else:
        sched.burst(world, thread, now_ns, spent_ns + cost.submit_ns, Step.SHMEM_READ)


@compiled
def read_from_swap(world, thread, now_ns):
    """Read a page of tmpfs from the swap device, and wait for it with the fault lock held."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    folio.holder = NOBODY
    device.wait_for_read(world, folio, now_ns)
    device.read(world, thread, world.config.swap_device, fault.folio, 1, now_ns)
    fault.rounds = 0
    fault.wait_is_killable = 0
    page_cache.wait_for(world, thread, folio, True, now_ns, Step.FOLIO_WOKEN)


@compiled
def _wait_for_hole(world, thread, now_ns):
    """Wait until a hole is punched, without the fault lock if it may go (shmem_falloc_wait)."""
    fault = world.threads[thread]
    file = world.files[fault.file]
    drop_if_allowed(world, thread, now_ns)
    fault.behind = file.falloc_first
    file.falloc_first = thread
    puncher = file.falloc_thread
    blame.wait_for_thread(world, thread, np.int64(Waits.FALLOC), puncher, now_ns)
    sched.block(world, thread, now_ns, Cause.FALLOC, NOBODY, Step.FALLOC_OVER)


@compiled
def hole_is_punched(world, thread, now_ns):
    """Try again; with the fault lock held the access is made again instead."""
    fault = world.threads[thread]
    if fault.dropped:
        end_in_retry(world, thread, now_ns, RetryReason.FALLOC)
        return
    fault.result |= VmFault.NOPAGE
    sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def zeroed(world, thread, now_ns):
    """Go on with a page of tmpfs that was zeroed, or read at once."""
    world.folios[world.threads[thread].folio].state |= UPTODATE
    check(world, thread, now_ns)


@compiled
def _hit(world, thread, now_ns):
    """Go on with a cached page (F2a): its marker may ask for the next window.

    In a folio under writeback the bit is PG_reclaim. It looks the same, but it stays, and nothing
    is read.
    """
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    page_cache.get(world, thread)
    opened = world.opens[fault.open]
    advice = world.vmas[fault.vma].advice
    if fault.tried or advice == Advice.RANDOM or opened.ra_pages == 0:
        hit_is_ready(world, thread, now_ns)
        return
    opened.mmap_miss = max(0, opened.mmap_miss - 1)
    if not folio.state & READAHEAD:
        hit_is_ready(world, thread, now_ns)
        return
    drop_if_allowed(world, thread, now_ns)
    if folio.state & WRITEBACK:
        hit_is_ready(world, thread, now_ns)
        return
    page_cache.clear_marker(folio)
    if readahead.plan_async(world, thread):
        fault.ra_step = Step.READAHEAD_ASYNC
        _read_window(world, thread, now_ns)
    else:
        hit_is_ready(world, thread, now_ns)


@compiled
def hit_is_ready(world, thread, now_ns):
    """Take invalidate_lock if the page has to be read, and lock it (F2a to F4)."""
    fault = world.threads[thread]
    is_uptodate = world.folios[fault.folio].state & UPTODATE != 0
    if is_uptodate or invalidate_lock.lock_shared(world, thread, now_ns, Step.HIT_LOCKED):
        lock_folio(world, thread, now_ns)


@compiled
def _miss(world, thread, now_ns):
    """Go on without a page (F2b): a major fault, and readahead if there is any."""
    fault = world.threads[thread]
    count(world, Counter.PGMAJFAULT, 1)
    _note_loss(world, fault)
    fault.result = VmFault.MAJOR
    if not readahead.plan_sync(world, thread):
        find_or_create(world, thread, now_ns)
        return
    drop_if_allowed(world, thread, now_ns)
    fault.ra_step = Step.READAHEAD_SYNC
    _read_window(world, thread, now_ns)


@compiled
def _note_loss(world, fault):
    """Note a page that an attempt of the same fault has waited for, or read, and that is gone."""
    if fault.waited_for:
        fault.waited_for = 0
        fault.reads_lost += 1
        count(world, Counter.READS_LOST, 1)
        if fault.reads > 0:
            count(world, Counter.READS_TWICE, 1)


@compiled
def _read_window(world, thread, now_ns):
    """Take invalidate_lock to fill the planned window (page_cache_ra_unbounded)."""
    if invalidate_lock.lock_shared(world, thread, now_ns, Step.READAHEAD_LOCKED):
        read_later(world, thread, now_ns)


@compiled
def read_later(world, thread, now_ns):
    """Set a window up; its pages come into the cache after that."""
    readahead.begin(world, thread, now_ns, world.threads[thread].ra_step)


@compiled
def readahead_sync(world, thread, now_ns):
    """Read the window around a missing page, and find the page in the cache."""
    if readahead.go_on(world, thread, now_ns, Step.READAHEAD_SYNC):
        release_invalidate_lock(world, thread, now_ns)
        find_or_create(world, thread, now_ns)


@compiled
def readahead_async(world, thread, now_ns):
    """Read the window behind a marker, and go on with the page that carried it."""
    if readahead.go_on(world, thread, now_ns, Step.READAHEAD_ASYNC):
        release_invalidate_lock(world, thread, now_ns)
        hit_is_ready(world, thread, now_ns)


@compiled
def find_or_create(world, thread, now_ns):
    """Get the page's folio (F3, retry_find): an empty one if it is not there."""
    fault = world.threads[thread]
    if not fault.invalidate_held:
        if not invalidate_lock.lock_shared(world, thread, now_ns, Step.FIND):
            return
    if page_cache.is_present(world.folios[fault.folio]):
        charges.give_back(world, thread)
    else:
        outcome = memcg.charge(world, thread, now_ns, Step.FIND)
        if outcome == memcg.WAITS:
            return
        if outcome == memcg.FAILED:
            _fail_to_find(world, thread, now_ns)
            return
        page_cache.add(world, thread, fault.folio, 0)
        sched.owe(world, thread, world.config.cost.readahead_page_ns)
    page_cache.get(world, thread)
    lock_folio(world, thread, now_ns)


@compiled
def _fail_to_find(world, thread, now_ns):
    """End an attempt for whose page there is no memory: a retry, if it has let its lock go (F3)."""
    if world.threads[thread].dropped:
        end_in_retry(world, thread, now_ns, RetryReason.OOM)
    else:
        fail_without_memory(world, thread, now_ns)


@compiled
def lock_folio(world, thread, now_ns):
    """Lock the folio, or let go of the fault lock and wait (F4).

    A folio of tmpfs, and under some policies one that is up to date, is waited for with the
    fault lock held.
    """
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    rule = world.config.rules[fault.fault_class]
    fault.rounds = 0
    fault.wait_is_killable = 1
    if not page_cache.is_same(world, thread):
        _find_again(world, thread, now_ns)
        return
    if page_cache.try_lock(world, thread, folio, now_ns):
        check(world, thread, now_ns)
        return
    if world.files[fault.file].kind != FileKind.REGULAR:
        fault.wait_is_killable = 0
    elif retry.waits_directly(rule, folio):
        fault.wait_is_killable = rule.uptodate_killable
    else:
        drop_if_allowed(world, thread, now_ns)
    sched.owe(world, thread, world.config.cost.folio_wait_ns)
    _wait_or_find(world, thread, now_ns)


@compiled
def _wait_or_find(world, thread, now_ns):
    """Wait for the folio, or look for another one if it has left the cache meanwhile (F5)."""
    fault = world.threads[thread]
    if not page_cache.is_same(world, thread):
        _find_again(world, thread, now_ns)
    elif fault.killed and fault.wait_is_killable:
        folio_killed(world, thread, now_ns)
    else:
        folio = world.folios[fault.folio]
        page_cache.wait_for(world, thread, folio, True, now_ns, Step.FOLIO_WOKEN)
        if fault.wait_is_killable:
            fault.killed_step = Step.FOLIO_KILLED


@compiled
def _find_again(world, thread, now_ns):
    """Look for another folio, as this one has left the cache (F3; shmem_get_folio)."""
    is_regular = world.files[world.threads[thread].file].kind == FileKind.REGULAR
    sched.burst(world, thread, now_ns, 0, Step.FIND if is_regular else Step.LOOKUP)


@compiled
def folio_woken(world, thread, now_ns):
    """Own the folio that was waited for, or be beaten to it and wait again (F4)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if page_cache.is_same(world, thread) and page_cache.own(world, thread, folio, now_ns):
        check(world, thread, now_ns)
    else:
        _wait_or_find(world, thread, now_ns)


@compiled
def folio_killed(world, thread, now_ns):
    """Give the wait for a folio up, because of a fatal signal (F4 to F9)."""
    fault = world.threads[thread]
    if not fault.dropped:
        drop(world, thread, now_ns)
    page_cache.put(world, thread)
    end_in_retry(world, thread, now_ns, RetryReason.KILLED)


@compiled
def check(world, thread, now_ns):
    """Decide with the folio locked: map it, read it, or go back and try again (F6, F7)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if fault.fault_class == FaultClass.SHMEM:
        _check_shmem(world, thread, now_ns)
        return
    if not folio.state & UPTODATE:
        if fault.invalidate_held:
            drop_if_allowed(world, thread, now_ns)
            spent_ns = world.config.cost.sync_read_ns
            if folio.state & HOLE:
                spent_ns = world.config.cost.zero_page_ns
            sched.burst(world, thread, now_ns, spent_ns, Step.SYNC_READ)
            return
        page_cache.unlock_and_put(world, thread, now_ns)
        sched.burst(world, thread, now_ns, 0, Step.FIND)
        return
    if not fault.dropped:
        finish.begin(world, thread, now_ns)
    elif retry.maps_without_retry(_rule_of(world, thread)):
        sched.burst(world, thread, now_ns, world.config.cost.vma_find_ns, Step.RELOCK)
    else:
        retry_with_the_folio(world, thread, now_ns)


@compiled
def _check_shmem(world, thread, now_ns):
    """Map a page of tmpfs; one that has come from swap gives its slot up (shmem_swapin_folio)."""
    folio = world.folios[world.threads[thread].folio]
    if folio.state & UPTODATE:
        if folio.state & SWAPPED:
            swap.free_slot(world, folio)
            folio.state |= DIRTY
        finish.begin(world, thread, now_ns)
    else:
        page_cache.unlock_and_put(world, thread, now_ns)
        _sigbus(world, thread, now_ns)


@compiled
def retry_with_the_folio(world, thread, now_ns):
    """Throw away the folio that was waited for, and retry (F7)."""
    world.threads[thread].waited_for = 1
    page_cache.unlock_and_put(world, thread, now_ns)
    end_in_retry(world, thread, now_ns, RetryReason.F7)


@compiled
def sync_read(world, thread, now_ns):
    """Read one page and wait for it (F8, page_not_uptodate). A hole needs no device."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    assert folio.state & LOCKED, "a page is read with its folio locked"
    if folio.state & HOLE:
        folio.state |= UPTODATE
        page_cache.unlock(world, thread, folio, now_ns)
        sync_read_done(world, thread, now_ns)
        return
    folio.holder = NOBODY
    device.wait_for_read(world, folio, now_ns)
    device.read(world, thread, world.files[fault.file].device_id, fault.folio, 1, now_ns)
    if not folio.state & LOCKED:  # the read is done already
        sched.burst(world, thread, now_ns, 0, Step.SYNC_READ_DONE)
        return
    if fault.killed:
        sync_read_killed(world, thread, now_ns)
        return
    page_cache.wait_for(world, thread, folio, False, now_ns, Step.SYNC_READ_DONE)
    fault.killed_step = Step.SYNC_READ_KILLED


@compiled
def sync_read_done(world, thread, now_ns):
    """Try again without the lock (F9), or go on with it (F3); a read that failed is SIGBUS then.

    With the lock let go the result of the read does not matter, even if it failed.
    """
    fault = world.threads[thread]
    is_gone = not page_cache.is_same(world, thread)
    is_read = not is_gone and world.folios[fault.folio].state & UPTODATE != 0
    if not is_read and not is_gone:
        opened = world.opens[fault.open]
        opened.ra_pages //= RA_PAGES_DIVISOR
    if fault.dropped:
        if is_read and retry.maps_without_retry(_rule_of(world, thread)):
            lock_folio(world, thread, now_ns)
            return
        fault.waited_for = 1
        page_cache.put(world, thread)
        end_in_retry(world, thread, now_ns, RetryReason.F8)
        return
    page_cache.put(world, thread)
    if is_read or is_gone:
        find_or_create(world, thread, now_ns)
    else:
        _sigbus(world, thread, now_ns)


@compiled
def sync_read_killed(world, thread, now_ns):
    """Give the wait for a read up, because of a fatal signal."""
    fault = world.threads[thread]
    page_cache.put(world, thread)
    if fault.dropped:
        end_in_retry(world, thread, now_ns, RetryReason.F8)
    else:
        _sigbus(world, thread, now_ns)


@compiled
def _sigbus(world, thread, now_ns):
    release_invalidate_lock(world, thread, now_ns)
    world.threads[thread].result = VmFault.SIGBUS
    sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def relock(world, thread, now_ns):
    """Take the fault lock again with the folio locked (a8); without it the attempt is retried.

    The VMA is looked up anew: it may be another one by now, or of another file.
    """
    fault = world.threads[thread]
    if fault.lock == FaultLock.VMA:
        slot = address_space.find(world, fault.mm, fault.page)
        is_held = slot != NOBODY and fault_lock.try_vma(world, thread, slot, now_ns)
    else:
        is_held = mmap_lock.try_lock_read(world, thread, now_ns)
    if not is_held and retry.waits_to_relock(_rule_of(world, thread)):
        is_held = mmap_lock.lock_read(world, thread, now_ns, Step.RELOCKED, Step.RELOCK_FAILED)
        if not is_held:
            return
    if is_held:
        relocked(world, thread, now_ns)
    else:
        retry_with_the_folio(world, thread, now_ns)


@compiled
def relocked(world, thread, now_ns):
    """Map the page, if the VMA still maps it and allows the access."""
    fault = world.threads[thread]
    slot = address_space.find(world, fault.mm, fault.page)
    if slot != NOBODY and _still_maps(world, fault, world.vmas[slot]):
        fault.vma = slot
        fault.vma_id = world.vmas[slot].id
        fault.dropped = 0
        finish.begin(world, thread, now_ns)
        return
    if fault.held == FaultLock.VMA:
        fault.vma = slot
    fault_lock.release(world, thread, now_ns)
    retry_with_the_folio(world, thread, now_ns)


@compiled
def _still_maps(world, fault, vma):
    if vma.open != fault.open or vma.offset + (fault.page - vma.start) != fault.file_page:
        return False
    return access.is_allowed(world, vma, fault)
