"""The fault path from trap to return: one for all architectures.

The kernel has a copy for each of them (do_user_addr_fault and its likes); they
differ in facts, which stand in `arch/`. V0 to V7 are the steps under the VMA lock,
M0 to M6 those under mmap_lock.
"""

from faultlane_server.codes import NOBODY, Access, FaultKind, FaultLock, VmFault
from faultlane_server.engine import program, sched
from faultlane_server.engine.fault import file, retry
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_lock, mmap_lock
from faultlane_server.engine.memory import address_space
from faultlane_server.engine.memory.page_table import EXEC, READ, WRITE, pte_bit
from faultlane_server.engine.tally import count, fault_ended, trace
from faultlane_server.engine.world import PTE_PRESENT, Counter, Step

ATTEMPTS_WITHOUT_VMA_RETRY = 3
ERROR = int(VmFault.OOM | VmFault.SIGBUS | VmFault.SIGSEGV)


@compiled
def lock_vma(world, thread, now_ns):
    """Try the VMA lock (V0); what cannot have it takes mmap_lock (M0)."""
    fault = world.threads[thread]
    slot = address_space.find(world, fault.mm, fault.page)
    if slot == NOBODY or not fault_lock.try_vma(world, thread, slot, now_ns):
        count(world, Counter.VMA_LOCK_ABORT, 1)
        fault.lock = FaultLock.MMAP
        sched.burst(world, thread, now_ns, world.config.cost.mmap_lock_ns, Step.LOCK_MMAP)
        return
    fault.lock = FaultLock.VMA
    _attempt(world, thread, slot, now_ns, 0)


@compiled
def lock_mmap(world, thread, now_ns):
    """Take mmap_lock for read (M0)."""
    if mmap_lock.lock_read(world, thread, now_ns):
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
        _bad_area(world, thread, now_ns)
        return
    _attempt(world, thread, slot, now_ns, world.config.cost.vma_find_ns)


@compiled
def _attempt(world, thread, slot, now_ns, spent_ns):
    """Check the access, and handle the fault with its lock held (V1 and V2, M1 and M2)."""
    fault = world.threads[thread]
    vma = world.vmas[slot]
    fault.vma = slot
    fault.vma_id = vma.id
    if not _is_allowed(world, vma, fault):
        _bad_area(world, thread, now_ns)
        return
    if fault.awake_attempts >= world.config.attempts_max:
        world.stuck = thread
        return
    fault.kind = FaultKind.FILE_READ
    fault.attempts += 1
    fault.awake_attempts += 1
    fault.result = 0
    fault.dropped = 0
    count(world, Counter.ATTEMPTS, 1)
    assert vma.open != NOBODY, "only file mappings are touched"
    file.attempt(world, thread, now_ns, spent_ns)


@compiled
def _is_allowed(world, vma, fault):
    """Whether a VMA allows an access (access_error of the architecture)."""
    config = world.config
    pte = world.ptes[vma.pte + (fault.page - vma.start)]
    if config.prot_fault_fails and pte & PTE_PRESENT and not pte & pte_bit(fault.access):
        return False
    if fault.access == Access.EXEC and config.exec_needs_exec:
        return vma.protection & EXEC != 0
    if fault.access == Access.READ and config.read_needs_read:
        return vma.protection & (READ | WRITE) != 0
    return vma.protection & (READ | WRITE | EXEC) != 0


@compiled
def _bad_area(world, thread, now_ns):
    """End a fault that has no VMA or no right: SIGSEGV, and nothing is accounted."""
    fault = world.threads[thread]
    fault.kind = FaultKind.BAD_AREA
    fault.result = VmFault.SIGSEGV
    count(world, Counter.SIGSEGV, 1)
    _count_success(world, fault)
    fault_lock.release(world, thread, now_ns)
    sched.burst(world, thread, now_ns, world.config.cost.fault_exit_ns, Step.FAULT_END)


@compiled
def _count_success(world, fault):
    if fault.lock == FaultLock.VMA:
        count(world, Counter.VMA_LOCK_SUCCESS, 1)


@compiled
def release(world, thread, now_ns):
    """End an attempt that is the last one: account for it and let go of the lock (V3, M6)."""
    fault = world.threads[thread]
    trace(world, thread, now_ns)
    if world.config.file_rule.vma_lock_on == 0:
        assert fault.attempts <= ATTEMPTS_WITHOUT_VMA_RETRY, "VMA, mmap_lock, mmap_lock and TRIED"
    _account(world, fault)
    _count_success(world, fault)
    fault_lock.release(world, thread, now_ns)
    sched.burst(world, thread, now_ns, world.config.cost.fault_exit_ns, Step.FAULT_END)


@compiled
def _account(world, fault):
    """Count a fault as the kernel does (mm_account_fault): major if read, or tried before."""
    count(world, Counter.PGFAULT, 1)
    if fault.result & ERROR:
        count(world, Counter.SIGBUS, 1)
    elif fault.result & VmFault.MAJOR or fault.tried:
        fault.major = 1
        count(world, Counter.MAJOR, 1)
    else:
        count(world, Counter.MINOR, 1)


@compiled
def go_on_after_retry(world, thread, now_ns):
    """Choose the lock of the next attempt (V5 to V7, M5)."""
    fault = world.threads[thread]
    rule = world.config.file_rule
    to_vma = retry.goes_to_vma_lock(rule, fault.lock, fault.retry_reason)
    if to_vma:
        fault.result |= VmFault.RETRY_VMA
    trace(world, thread, now_ns)
    if fault.lock == FaultLock.VMA:
        count(world, Counter.VMA_LOCK_RETRY, 1)
    if fault.lock == FaultLock.MMAP or fault.result & VmFault.MAJOR:
        fault.tried = 1
    cost = world.config.cost
    if to_vma:
        fault.vma_retries += 1
        count(world, Counter.VMA_RETRIES, 1)
        sched.burst(world, thread, now_ns, cost.vma_find_ns, Step.LOCK_VMA)
    else:
        sched.burst(world, thread, now_ns, cost.mmap_lock_ns, Step.LOCK_MMAP)


@compiled
def end(world, thread, now_ns):
    """Write the fault down, and go back to the access, or past it if it ended in a signal."""
    fault = world.threads[thread]
    assert fault.held == 0, "a fault that ends holds no lock"
    assert fault.invalidate_held == 0, "a fault that ends holds no invalidate_lock"
    fault_ended(world, thread, now_ns, 1)
    count(world, Counter.FAULTS, 1)
    world.faults_ended += 1
    fault.in_fault = 0
    if fault.result & ERROR:
        program.skip_touch(world, thread, now_ns)
    program.proceed(world, thread, now_ns)
