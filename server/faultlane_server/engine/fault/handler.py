"""The fault path from trap to return: one for all architectures.

The kernel has a copy for each of them (do_user_addr_fault and its likes); they
differ in facts, which stand in `arch/`. V0 to V7 are the steps under the VMA lock,
M0 to M6 those under mmap_lock.
"""

import numpy as np

from faultlane_server.codes import (
    NOBODY,
    Access,
    FaultClass,
    FaultKind,
    FaultLock,
    FileKind,
    VmaLockFaults,
    VmFault,
)
from faultlane_server.engine import program, sched
from faultlane_server.engine.fault import access, anon, file, swap, wp
from faultlane_server.engine.fault.attempt import give_back_pages, pte_of
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_lock, mmap_lock
from faultlane_server.engine.memory import address_space, memcg, page_table
from faultlane_server.engine.tally import count, count_most, fault_ended, trace
from faultlane_server.engine.world import PTE_PRESENT, PTE_SWAP, PTE_WRITE, Counter, Step

ATTEMPTS_WITHOUT_VMA_RETRY = 3
ERROR = int(VmFault.OOM | VmFault.SIGBUS | VmFault.SIGSEGV)


@compiled
def lock_vma(world, thread, now_ns):
    """Try the VMA lock (V0); what cannot have it takes mmap_lock (M0)."""
    fault = world.threads[thread]
    slot = address_space.find(world, fault.mm, fault.page)
    if slot == NOBODY or not _try_vma(world, thread, slot, now_ns):
        count(world, Counter.VMA_LOCK_ABORT, 1)
        _go_to_mmap_lock(world, thread, now_ns)
        return
    fault.lock = FaultLock.VMA
    _attempt(world, thread, slot, now_ns, 0)


@compiled
def _try_vma(world, thread, slot, now_ns):
    """Try the lock of a VMA (lock_vma_under_rcu).

    Kernels before 6.6 do not have it for files, and those before 6.10 not for anonymous memory
    that was never written.
    """
    vma = world.vmas[slot]
    if vma.open != NOBODY:
        is_supported = world.config.vma_lock_faults != VmaLockFaults.NONE
    else:
        is_supported = vma.anon_vma or world.config.anon_vma_trylock
    if not is_supported:
        return False
    return fault_lock.try_vma(world, thread, slot, now_ns)


@compiled
def _go_to_mmap_lock(world, thread, now_ns):
    world.threads[thread].lock = FaultLock.MMAP
    sched.burst(world, thread, now_ns, world.config.cost.mmap_lock_ns, Step.LOCK_MMAP)


@compiled
def lock_mmap(world, thread, now_ns):
    """Take mmap_lock for read (M0)."""
    if mmap_lock.lock_read(world, thread, now_ns, Step.MMAP_GRANTED, Step.MMAP_KILLED):
        mmap_granted(world, thread, now_ns)


@compiled
def mmap_granted(world, thread, now_ns):
    """Find the VMA under mmap_lock, and handle the fault (M0 to M2)."""
    fault = world.threads[thread]
    fault.lock = FaultLock.MMAP
    count(world, Counter.FAULTS_VIA_MMAP_LOCK, 1)
    slot = address_space.find(world, fault.mm, fault.page)
    if slot == NOBODY:
        fault.vma_id = NOBODY
        fault_lock.release(world, thread, now_ns)
        bad_area(world, thread, now_ns)
        return
    _attempt(world, thread, slot, now_ns, world.config.cost.vma_find_ns)


@compiled
def _attempt(world, thread, slot, now_ns, spent_ns):
    """Check the access, and handle the fault with its lock held (V1 and V2, M1 and M2)."""
    fault = world.threads[thread]
    vma = world.vmas[slot]
    fault.vma = slot
    fault.vma_id = vma.id
    if not access.is_allowed(world, vma, fault):
        _refuse(world, thread, now_ns)
        return
    if fault.awake_attempts >= world.config.attempts_max:
        world.stuck = thread
        return
    fault.attempts += 1
    fault.awake_attempts += 1
    fault.result = 0
    fault.dropped = 0
    fault.fault_class = _class_of(vma)
    fault.has_recency = 1 if page_table.has_recency(vma) else 0
    count(world, Counter.ATTEMPTS, 1)
    _handle(world, thread, now_ns, spent_ns + world.config.cost.handle_ns)


@compiled
def _class_of(vma):
    """Return which rule of the retry policy is for faults on a VMA."""
    if vma.open == NOBODY:
        return FaultClass.ANONYMOUS
    return FaultClass.SHMEM if vma.file_kind == FileKind.TMPFS else FaultClass.FILE


@compiled
def _handle(world, thread, now_ns, spent_ns):
    """Decide by the page-table entry what kind of fault it is (handle_pte_fault, do_fault)."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = np.int64(world.ptes[pte_of(world, fault)])
    if fault.access == Access.WRITE and pte & PTE_PRESENT and not pte & PTE_WRITE:
        fault.kind = FaultKind.WP
        wp.attempt(world, thread, now_ns, spent_ns)
        return
    if pte & PTE_SWAP:
        fault.kind = FaultKind.SWAP
        fault.fault_class = FaultClass.SWAP
        swap.attempt(world, thread, now_ns, spent_ns)
        return
    if fault.fault_class == FaultClass.ANONYMOUS:
        fault.kind = FaultKind.ANON
    elif fault.access != Access.WRITE:
        fault.kind = FaultKind.FILE_READ
    else:
        fault.kind = FaultKind.FILE_COW if vma.private else FaultKind.FILE_SHARED
    if pte & PTE_PRESENT:  # spurious: another thread has mapped it
        sched.burst(world, thread, now_ns, spent_ns, Step.RELEASE)
    elif fault.kind == FaultKind.ANON:
        anon.attempt(world, thread, now_ns, spent_ns)
    else:
        file.attempt(world, thread, now_ns, spent_ns)


@compiled
def _refuse(world, thread, now_ns):
    """Refuse an access (V1, M1). Kernels before 6.10 let mmap_lock decide, and count nothing."""
    fault = world.threads[thread]
    fault_lock.release(world, thread, now_ns)
    if fault.lock == FaultLock.VMA and not world.config.vma_access_errors:
        _go_to_mmap_lock(world, thread, now_ns)
        return
    _count_success(world, fault)
    bad_area(world, thread, now_ns)


@compiled
def bad_area(world, thread, now_ns):
    """End a fault that has no VMA or no right: SIGSEGV, and nothing is accounted.

    So end those that are refused before any lock (G0), and those for which a fatal signal has
    ended the wait for mmap_lock (M0).
    """
    fault = world.threads[thread]
    fault.kind = FaultKind.BAD_AREA
    fault.result = VmFault.SIGSEGV
    count(world, Counter.SIGSEGV, 1)
    sched.burst(world, thread, now_ns, world.config.cost.fault_exit_ns, Step.FAULT_END)


@compiled
def _count_success(world, fault):
    if fault.lock == FaultLock.VMA:
        count(world, Counter.VMA_LOCK_SUCCESS, 1)


@compiled
def release(world, thread, now_ns):
    """End an attempt that is the last one: account for it and let go of the lock (V3, M6).

    In VM_FAULT_COMPLETED it is let go already (M4).
    """
    fault = world.threads[thread]
    give_back_pages(world, thread)
    trace(world, thread, now_ns)
    if world.config.rules[fault.fault_class].vma_lock_on == 0:
        assert fault.attempts <= ATTEMPTS_WITHOUT_VMA_RETRY, "VMA, mmap_lock, mmap_lock and TRIED"
    _account(world, fault)
    _count_success(world, fault)
    if fault.held:
        fault_lock.release(world, thread, now_ns)
    else:
        assert fault.result & VmFault.COMPLETED, "a fault lock is held to the end of the attempt"
    sched.burst(world, thread, now_ns, world.config.cost.fault_exit_ns, Step.FAULT_END)


@compiled
def _account(world, fault):
    """Count a fault as the kernel does (mm_account_fault): major if read, or tried before."""
    count(world, Counter.PGFAULT, 1)
    if fault.result & VmFault.OOM:
        count(world, Counter.FAULTS_OOM, 1)
    elif fault.result & ERROR:
        count(world, Counter.SIGBUS, 1)
    elif fault.result & VmFault.MAJOR or fault.tried:
        fault.major = 1
        count(world, Counter.MAJOR, 1)
    else:
        count(world, Counter.MINOR, 1)


@compiled
def end(world, thread, now_ns):
    """Write the fault down, and go back to the access, or past it if it ended in an error."""
    fault = world.threads[thread]
    assert fault.held == 0, "a fault that ends holds no lock"
    assert fault.invalidate_held == 0, "a fault that ends holds no invalidate_lock"
    if fault.over_high > 0 and memcg.throttle(world, thread, now_ns, Step.FAULT_END):
        return
    fault_ended(world, thread, now_ns, 1)
    count(world, Counter.FAULTS, 1)
    count_most(world, Counter.ATTEMPTS_MOST, fault.attempts)
    world.faults_ended += 1
    fault.in_fault = 0
    if fault.result & (ERROR ^ VmFault.OOM) and not fault.killed:
        program.skip_touch(world, thread, now_ns)
    program.proceed(world, thread, now_ns)
