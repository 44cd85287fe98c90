"""From a folio that is ready to a page-table entry, and what a write does beyond that (a9).

do_cow_fault copies the page. do_shared_fault and wp_page_shared let the file system know
(page_mkwrite), make the page dirty, and may have to wait in balance_dirty_pages: with the
fault lock let go if this is the first try, and then the fault ends in VM_FAULT_COMPLETED.
"""

from faultlane_server.codes import NOBODY, FaultKind, FileKind, VmFault
from faultlane_server.engine import sched
from faultlane_server.engine.fault.attempt import (
    drop_if_allowed,
    pte_of,
    release_invalidate_lock,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import invalidate_lock
from faultlane_server.engine.memory import charges, page_cache, page_table, writeback
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PTE_PRESENT,
    PTE_WRITE,
    WRITEBACK,
    Cause,
    Counter,
    Step,
)


@compiled
def begin(world, thread, now_ns):
    """Go on with the folio locked and up to date, and the fault lock held (F7 to a9)."""
    fault = world.threads[thread]
    release_invalidate_lock(world, thread, now_ns)
    cost = world.config.cost
    if fault.file_page >= world.files[fault.file].pages:
        page_cache.unlock_and_put(world, thread, now_ns)
        fault.result = VmFault.SIGBUS
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)
    elif fault.kind == FaultKind.FILE_COW:
        sched.burst(world, thread, now_ns, cost.copy_page_ns + cost.map_page_ns, Step.MAP_PAGE)
    elif fault.kind == FaultKind.FILE_SHARED and has_page_mkwrite(world, fault):
        page_cache.unlock(world, thread, world.folios[fault.folio], now_ns)
        mkwrite(world, thread, now_ns)
    else:
        sched.burst(world, thread, now_ns, cost.map_page_ns, Step.MAP_PAGE)


@compiled
def has_page_mkwrite(world, fault):
    return world.files[fault.file].kind == FileKind.REGULAR


@compiled
def mkwrite(world, thread, now_ns):
    """Call page_mkwrite, with the fault lock held: first it takes invalidate_lock."""
    if invalidate_lock.lock_shared(world, thread, now_ns, Step.MKWRITE):
        mkwrite_locked(world, thread, now_ns)


@compiled
def mkwrite_locked(world, thread, now_ns):
    """Start a transaction and allocate the block."""
    sched.burst(world, thread, now_ns, world.config.cost.page_mkwrite_ns, Step.MKWRITE_FOLIO)


@compiled
def mkwrite_folio(world, thread, now_ns):
    """Lock the folio again; its wait cannot be killed."""
    world.threads[thread].rounds = 0
    lock_folio_again(world, thread, now_ns)


@compiled
def lock_folio_again(world, thread, now_ns):
    """Own the folio, or wait for it."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if not page_cache.is_same(world, thread):
        release_invalidate_lock(world, thread, now_ns)
        fault.result = VmFault.NOPAGE
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)
    elif page_cache.own(world, thread, folio, now_ns):
        folio_is_stable(world, thread, now_ns)
    else:
        page_cache.wait_for(world, thread, folio, True, now_ns, Step.MKWRITE_WOKEN)


@compiled
def folio_is_stable(world, thread, now_ns):
    """Map the page, unless it must not change while it is written (folio_wait_stable)."""
    fault = world.threads[thread]
    file = world.files[fault.file]
    is_written = world.folios[fault.folio].state & WRITEBACK != 0
    if is_written and world.devices[file.device_id].stable_writes:
        page_cache.wait_until_written(world, thread, fault.folio, now_ns, Step.MKWRITE_STABLE)
        return
    release_invalidate_lock(world, thread, now_ns)
    sched.burst(world, thread, now_ns, world.config.cost.map_page_ns, Step.MAP_PAGE)


@compiled
def map_page(world, thread, now_ns):
    """Set the page-table entry, and unlock the folio; returns whether that ends the attempt.

    A page that was written becomes dirty, and who made it so may have to pause.
    """
    fault = world.threads[thread]
    if fault.kind == FaultKind.FILE_SHARED or fault.kind == FaultKind.WP:
        return _map_written(world, thread, now_ns)
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    if world.ptes[pte] != 0:  # another thread was quicker (finish_fault)
        fault.result |= VmFault.NOPAGE
    elif fault.kind == FaultKind.FILE_COW:
        charges.take_for_copy(world, thread)
        page_table.make_own(world, thread, fault.vma, pte)
    else:
        bits = page_table.entry(world, vma, vma.protection)
        page_table.map_folio(world, fault.vma, pte, world.folios[fault.folio], bits)
    page_cache.unlock_and_put(world, thread, now_ns)
    fault.result |= VmFault.LOCKED
    return True


@compiled
def _map_written(world, thread, now_ns):
    """Let a shared mapping write to the page (finish_fault, finish_mkwrite_fault)."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    is_mapped = world.ptes[pte] & (PTE_PRESENT | PTE_WRITE) == PTE_PRESENT
    if is_mapped != (fault.kind == FaultKind.WP) or (world.ptes[pte] != 0 and not is_mapped):
        page_cache.unlock_and_put(world, thread, now_ns)
        fault.result |= VmFault.NOPAGE
        return True
    bits = page_table.written_entry(world, vma)
    if is_mapped:
        world.ptes[pte] = bits
    else:
        page_table.map_folio(world, fault.vma, pte, world.folios[fault.folio], bits)
    return _dirty(world, thread, now_ns)


@compiled
def _dirty(world, thread, now_ns):
    """Make the page dirty, and balance (fault_dirty_shared_page)."""
    fault = world.threads[thread]
    is_special = world.files[fault.file].kind == FileKind.SPECIAL
    was_clean = not is_special and page_cache.make_dirty(world, fault.file, fault.file_page)
    page_cache.unlock_and_put(world, thread, now_ns)
    sched.owe(world, thread, world.config.cost.dirty_ns)
    if not was_clean and not has_page_mkwrite(world, fault):
        return True
    drop_if_allowed(world, thread, now_ns)
    if has_page_mkwrite(world, fault):
        fault.dirtied += 1
        writeback.wake_flusher(world, now_ns)
    if writeback.has_to_pause(world, thread):
        _pause(world, thread, now_ns)
        return False
    _complete(world, fault)
    return True


@compiled
def _pause(world, thread, now_ns):
    fault = world.threads[thread]
    count(world, Counter.THROTTLED, 1)
    fault.timer = push(world.queue, now_ns + writeback.PAUSE_NS, Kind.TIMER, thread)
    sched.block(world, thread, now_ns, Cause.THROTTLE, NOBODY, Step.BALANCE)
    fault.killed_step = Step.BALANCE


@compiled
def balance(world, thread, now_ns):
    """Go on after a pause, or pause once more; returns whether that ends the attempt."""
    writeback.wake_flusher(world, now_ns)
    if writeback.has_to_pause_again(world, thread):
        _pause(world, thread, now_ns)
        return False
    _complete(world, world.threads[thread])
    return True


@compiled
def _complete(world, fault):
    """End the attempt: in VM_FAULT_COMPLETED if its lock was let go."""
    if fault.dropped:
        count(world, Counter.COMPLETED, 1)
        fault.result |= VmFault.COMPLETED
