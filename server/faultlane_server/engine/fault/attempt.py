"""How an attempt ends, and how it lets go of its lock: what all kinds of faults share.

An attempt comes in with its fault lock held and `thread.vma` valid. It ends in the step
RELEASE, or in VM_FAULT_RETRY with the lock let go, and then in the step that tries again.
"""

from faultlane_server.codes import FaultLock, VmFault
from faultlane_server.engine import sched
from faultlane_server.engine.fault import retry
from faultlane_server.engine.jit import compiled, prefetch_at
from faultlane_server.engine.locks import fault_lock, invalidate_lock, mmap_lock
from faultlane_server.engine.memory import anon_page, charges, page_cache
from faultlane_server.engine.tally import attempt_ended, count, trace
from faultlane_server.engine.world import WRITEBACK, Counter, Step


@compiled
def locate(world, thread):
    """Find the page of the file that the fault is about."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    fault.open = vma.open
    fault.file = world.opens[vma.open].file
    fault.file_page = vma.offset + (fault.page - vma.start)
    fault.folio = world.files[fault.file].first + fault.file_page


@compiled
def pte_of(world, fault):
    """Return the page-table entry of the fault; its lock is held."""
    vma = world.vmas[fault.vma]
    return vma.pte + (fault.page - vma.start)


@compiled
def drop_if_allowed(world, thread, now_ns):
    """Let go of the fault lock (maybe_unlock_mmap_for_io), if the policy says so."""
    fault = world.threads[thread]
    rule = world.config.rules[fault.fault_class]
    if fault.dropped or not retry.may_drop(rule, fault.lock, fault.tried):
        return
    drop(world, thread, now_ns)


@compiled
def drop(world, thread, now_ns):
    """Let go of the fault lock."""
    fault_lock.release(world, thread, now_ns)
    world.threads[thread].dropped = 1


@compiled
def end_in_retry(world, thread, now_ns, reason):
    """End an attempt that has let its lock go in VM_FAULT_RETRY."""
    fault = world.threads[thread]
    assert fault.held == 0, "VM_FAULT_RETRY means that the fault lock is released"
    prefetch_at(world.ptes, pte_of(world, fault))
    give_back_pages(world, thread)
    release_invalidate_lock(world, thread, now_ns)
    fault.result |= VmFault.RETRY
    fault.reasons |= 1 << reason
    fault.retry_reason = reason
    attempt_ended(world, thread, now_ns)
    _go_on_after_retry(world, thread, now_ns)


@compiled
def _go_on_after_retry(world, thread, now_ns):
    """Choose the lock of the next attempt, or let a signal end the fault (V5 to V7, M3 to M5)."""
    fault = world.threads[thread]
    rule = world.config.rules[fault.fault_class]
    cost = world.config.cost
    to_vma = retry.goes_to_vma_lock(rule, fault)
    if to_vma:
        fault.result |= VmFault.RETRY_VMA
    trace(world, thread)
    if world.config.pgfault_per_attempt:
        count(world, Counter.PGFAULT, 1)
    if fault.lock == FaultLock.VMA:
        count(world, Counter.VMA_LOCK_RETRY, 1)
    if _is_interrupted(fault):
        count(world, Counter.INTERRUPTED, 1)
        sched.burst(world, thread, now_ns, cost.retry_ns + cost.fault_exit_ns, Step.FAULT_END)
        return
    if _sets_tried(world, rule, fault, to_vma):
        fault.tried = 1
    if to_vma:
        fault.vma_retries += 1
        count(world, Counter.VMA_RETRIES, 1)
        sched.burst(world, thread, now_ns, cost.retry_ns + cost.vma_find_ns, Step.LOCK_VMA)
    else:
        sched.burst(world, thread, now_ns, cost.retry_ns + cost.mmap_lock_ns, Step.LOCK_MMAP)


@compiled
def _is_interrupted(fault):
    """Whether a signal ends the fault (fault_signal_pending): in kernel mode only a fatal one."""
    return fault.killed or (fault.signalled and not fault.kernel_mode)


@compiled
def _sets_tried(world, rule, fault, to_vma):
    """Whether the next attempt has FAULT_FLAG_TRIED (V5, M5)."""
    if fault.lock == FaultLock.MMAP or (to_vma and rule.vma_retry_sets_tried):
        return True
    return fault.result & VmFault.MAJOR != 0 and world.config.major_sets_tried != 0


@compiled
def retry_at_once(world, thread, now_ns, spent_ns, reason):
    """End an attempt that the VMA lock is not enough for, without waiting for anything."""
    assert world.threads[thread].lock == FaultLock.VMA, "mmap_lock is enough for all faults"
    sched.owe(world, thread, spent_ns)
    drop(world, thread, now_ns)
    end_in_retry(world, thread, now_ns, reason)


@compiled
def give_back_pages(world, thread):
    """Let go of pages that were charged for an attempt and not used by it."""
    charges.take_for_copy(world, thread)
    charges.give_back(world, thread)


@compiled
def fail_without_memory(world, thread, now_ns):
    """End an attempt in VM_FAULT_OOM: the access is made again (pagefault_out_of_memory)."""
    release_invalidate_lock(world, thread, now_ns)
    world.threads[thread].result = VmFault.OOM
    sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def waits_for_old_page(world, thread, now_ns, step):
    """Wait while a page that the entry had before is still being read or written.

    Returns whether the thread sleeps; it does `step` next.
    """
    number = anon_page.number_of(world, pte_of(world, world.threads[thread]))
    folio = world.folios[number]
    if not anon_page.is_busy(folio):
        return False
    if folio.state & WRITEBACK:
        page_cache.wait_until_written(world, thread, number, now_ns, step)
    else:
        page_cache.wait_for(world, thread, folio, False, now_ns, step)
    return True


@compiled
def release_invalidate_lock(world, thread, now_ns):
    """Let go of mapping->invalidate_lock, if it is held."""
    if world.threads[thread].invalidate_held:
        invalidate_lock.unlock_shared(world, thread, now_ns)


@compiled
def prepare_anon_vma(world, thread, now_ns):
    """Give the VMA its anon_vma if it has none; returns whether it has one (__vmf_anon_prepare).

    Under the VMA lock that takes mmap_lock for read, and only if it can be had at once. It is
    let go at once here: the time it takes to make the anon_vma is spent afterwards.
    """
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    if vma.anon_vma:
        return True
    if fault.lock == FaultLock.VMA:
        if not world.config.anon_vma_trylock or not mmap_lock.pass_read(world, thread, now_ns):
            return False
    give_anon_vma(world, vma)
    sched.owe(world, thread, world.config.cost.anon_vma_ns)
    return True


@compiled
def give_anon_vma(world, vma):
    """Give a VMA an anon_vma, if it has none."""
    if vma.anon_vma == 0:
        world.anon_vmas += 1
        vma.anon_vma = world.anon_vmas
