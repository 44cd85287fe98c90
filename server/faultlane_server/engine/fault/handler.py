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
    RetryReason,
    VmaLockFaults,
    VmFault,
)
from faultlane_server.engine import program, sched
from faultlane_server.engine.fault import (
    access,
    anon,
    file,
    hugetlb,
    moved,
    stack,
    swap,
    userfault,
    wp,
)
from faultlane_server.engine.fault.attempt import give_back_pages, pte_of
from faultlane_server.engine.jit import compiled, prefetch_at
from faultlane_server.engine.locks import fault_lock, mmap_lock
from faultlane_server.engine.memory import address_space, memcg, page_table
from faultlane_server.engine.tally import count, count_most, fault_ended, trace
from faultlane_server.engine.world import (
    PTE_NUMA,
    PTE_PRESENT,
    PTE_SWAP,
    PTE_WRITE,
    UFFD_MISSING,
    Counter,
    Step,
)

ATTEMPTS_WITHOUT_VMA_RETRY = 3
ERROR = int(VmFault.OOM | VmFault.SIGBUS | VmFault.SIGSEGV)


@compiled
def lock_vma(world, thread, now_ns):
    """Try the VMA lock (V0); what cannot have it takes mmap_lock (M0)."""
    fault = world.threads[thread]
    slot = address_space.find_again(world, fault.vma, fault.mm, fault.page)
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
    slot = address_space.find_again(world, fault.vma, fault.mm, fault.page)
    if slot == NOBODY:
        _find_stack(world, thread, now_ns)
        return
    _attempt(world, thread, slot, now_ns, world.config.cost.vma_find_ns)


@compiled
def _find_stack(world, thread, now_ns):
    """Let a stack grow down to the fault, or refuse the access (lock_mm_and_find_vma).

    Kernels before 6.5 do it under mmap_lock for read.
    """
    if stack.can_grow(world, thread) and not world.config.stack_writes:
        stack.grow(world, thread)
        sched.owe(world, thread, world.config.cost.stack_grow_ns)
        stack_has_grown(world, thread, now_ns)
        return
    fault_lock.release(world, thread, now_ns)
    if stack.can_grow(world, thread):
        spent_ns = world.config.cost.vma_find_ns + world.config.cost.mmap_lock_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.WRITE_LOCK)
        return
    world.threads[thread].vma_id = NOBODY
    bad_area(world, thread, now_ns)


@compiled
def stack_has_grown(world, thread, now_ns):
    """Go on with mmap_lock held for read: there is a VMA now."""
    fault = world.threads[thread]
    slot = address_space.find(world, fault.mm, fault.page)
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
    if vma.open == NOBODY or vma.file_kind == FileKind.HUGETLB:
        return FaultClass.ANONYMOUS
    return FaultClass.SHMEM if vma.file_kind == FileKind.TMPFS else FaultClass.FILE


@compiled
def _handle(world, thread, now_ns, spent_ns):
    """Decide by the page-table entry what kind of fault it is (handle_pte_fault, do_fault)."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    if vma.file_kind == FileKind.HUGETLB:
        hugetlb.attempt(world, thread, now_ns, spent_ns)
        return
    pte = np.int64(world.ptes[pte_of(world, fault)])
    if pte:
        _handle_entry(world, thread, now_ns, spent_ns, pte)
        return
    spent_ns += page_table.table_ns(world, pte_of(world, fault))
    fault.kind = _kind_of(fault, vma)
    if fault.kind != FaultKind.ANON:
        file.attempt(world, thread, now_ns, spent_ns)
    elif vma.uffd & UFFD_MISSING:
        userfault.missing(world, thread, now_ns, spent_ns)
    else:
        anon.attempt(world, thread, now_ns, spent_ns)


@compiled
def _kind_of(fault, vma):
    """Return the kind of a fault on a page that is not mapped."""
    if fault.fault_class == FaultClass.ANONYMOUS:
        return FaultKind.ANON
    if fault.access != Access.WRITE:
        return FaultKind.FILE_READ
    return FaultKind.FILE_COW if vma.private else FaultKind.FILE_SHARED


@compiled
def _handle_entry(world, thread, now_ns, spent_ns, pte):
    """Go on with a page that is mapped, or that is elsewhere."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    young_bit = world.config.young_bit
    if pte & PTE_SWAP:
        fault.kind = FaultKind.SWAP
        fault.fault_class = FaultClass.SWAP
        swap.attempt(world, thread, now_ns, spent_ns)
    elif not pte & PTE_PRESENT:
        moved.attempt(world, thread, now_ns, spent_ns, pte)
    elif pte & PTE_NUMA:
        fault.kind = FaultKind.NUMA_HINT
        count(world, Counter.NUMA_HINT_FAULTS, 1)
        spent_ns += world.config.cost.numa_hint_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.YOUNG)
    elif fault.access == Access.WRITE and not pte & PTE_WRITE:
        if userfault.wants_write(vma, pte):
            userfault.write_protected(world, thread, now_ns, spent_ns)
            return
        fault.kind = FaultKind.WP
        wp.attempt(world, thread, now_ns, spent_ns)
    elif pte & young_bit != young_bit:
        fault.kind = FaultKind.YOUNG
        count(world, Counter.YOUNG_FAULTS, 1)
        spent_ns += world.config.cost.young_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.YOUNG)
    else:
        _spurious(world, thread, now_ns, spent_ns)


@compiled
def _spurious(world, thread, now_ns, spent_ns):
    """End a fault on a page that another thread has mapped, or that it has waited for before."""
    fault = world.threads[thread]
    if fault.kind < FaultKind.MIGRATION:
        fault.kind = _kind_of(fault, world.vmas[fault.vma])
    sched.burst(world, thread, now_ns, spent_ns, Step.RELEASE)


@compiled
def make_young(world, thread):
    """Make the entry young, if the page is still mapped; a NUMA hint has done its work."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    if world.ptes[pte] & PTE_PRESENT:
        page_table.make_young(world, world.vmas[fault.vma], pte)


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
    prefetch_at(world.cursors, fault.first_cursor)
    give_back_pages(world, thread)
    trace(world, thread)
    is_bounded = fault.reasons >> RetryReason.USERFAULTFD & 1 == 0
    if is_bounded and world.config.rules[fault.fault_class].vma_lock_on == 0:
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
    program.look_ahead(world, thread)
    fault_ended(world, thread, now_ns, 1)
    count(world, Counter.FAULTS, 1)
    count_most(world, Counter.ATTEMPTS_MOST, fault.attempts)
    world.faults_ended += 1
    fault.in_fault = 0
    if fault.result & (ERROR ^ VmFault.OOM) and not fault.killed:
        program.skip_touch(world, thread, now_ns)
    program.proceed(world, thread, now_ns)
