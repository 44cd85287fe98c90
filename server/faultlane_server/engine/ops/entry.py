"""How an operation begins and ends: the system call, and what it was asked for."""

import numpy as np

from faultlane_server.codes import NOBODY, Madvice, OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import Op, Step


@compiled
def begin(world, thread, instruction, now_ns):
    """Enter the kernel with an operation on a range of the address space, or of a file."""
    caller = world.threads[thread]
    begin_kind(world, thread, _kind_of(instruction.op), now_ns)
    caller.op_pc = caller.pc - 1
    caller.huge_base = instruction.huge_base
    if instruction.target != NOBODY:
        caller.mm = instruction.target
    _set_range(world, caller, instruction)
    caller.op_protection = instruction.protection
    caller.op_file = instruction.id
    caller.op_wait = instruction.wait
    caller.op_advice = instruction.advice
    caller.op_merges = instruction.merges
    caller.op_modes = instruction.modes
    caller.op_populates = instruction.populates
    sched.burst(world, thread, now_ns, world.config.cost.syscall_ns // 2, _first_step(caller))


@compiled
def begin_kind(world, thread, kind, now_ns):
    """Begin to account for an operation."""
    caller = world.threads[thread]
    sched.begin_account(world, thread, now_ns, 0)
    caller.in_operation = 1
    caller.operates = 1
    caller.huge_base = -1
    caller.op_kind = kind
    caller.op_killable = int(not _cannot_be_killed(kind))
    caller.op_resolved = 0
    caller.op_downgrades = int(kind == OperationKind.MUNMAP)
    caller.op_migrates = 0
    caller.op_populates = 0
    caller.locks_count = 0
    caller.hold_ns = 0


@compiled
def _cannot_be_killed(kind):
    """Whether a fatal signal does not end a wait for mmap_lock for write."""
    if kind == OperationKind.MBIND or kind == OperationKind.PRCTL:
        return True
    return kind == OperationKind.KHUGEPAGED or kind == OperationKind.EXIT


@compiled
def _set_range(world, caller, instruction):
    """Set the range of an operation, where the name that it is about is now."""
    shift = caller.index * instruction.thread_pages
    caller.op_region = instruction.region + caller.index * instruction.own_region
    region = world.regions[caller.op_region]
    if instruction.op == Op.MMAP and not instruction.fixed and caller.op_region > 0:
        region.shift = 0
        region.pages = instruction.pages
    pages = instruction.pages
    if instruction.op == Op.MUNMAP and instruction.own_region:
        pages = region.pages
    caller.op_base = instruction.start + shift
    caller.op_start = caller.op_base + region.shift
    caller.op_end = caller.op_start + pages
    caller.op_pte = instruction.pte + shift
    caller.op_at = caller.op_start


@compiled
def _first_step(caller):
    """Return where an operation begins: at the lock that it takes."""
    kind = caller.op_kind
    if kind >= OperationKind.FTRUNCATE and kind <= OperationKind.FADVISE_DONTNEED:
        return Step.FILE_OPERATION
    if kind >= OperationKind.USERFAULTFD_REGISTER and kind <= OperationKind.MIGRATE:
        return _first_special_step(caller)
    if kind == OperationKind.MADVISE and _is_read(caller.op_advice):
        return Step.READ_LOCK
    if kind == OperationKind.READ_SMAPS or kind == OperationKind.READ_MAPS:
        return Step.PROC_LOCK
    if kind == OperationKind.NUMA_SCAN:
        return Step.NUMA_SCAN
    if kind == OperationKind.KHUGEPAGED:
        return Step.COLLAPSE_SCAN
    if kind == OperationKind.EXEC:
        return Step.EXEC_LOCK
    return Step.WRITE_LOCK


@compiled
def _first_special_step(caller):
    kind = caller.op_kind
    if kind == OperationKind.USERFAULTFD_REGISTER:
        return Step.WRITE_LOCK
    if kind == OperationKind.USERFAULTFD_CLOSE:
        return Step.UFFD_CLOSE
    if kind == OperationKind.MIGRATE:
        return Step.MIGRATE
    return Step.UFFD_READ if caller.op_modes else Step.UFFD_LOCK


@compiled
def _is_read(advice):
    """Whether madvise takes mmap_lock for read: for what it does with pages, not with flags."""
    return advice >= Madvice.DONTNEED and advice <= Madvice.COLLAPSE


@compiled
def _kind_of(op):
    if op >= Op.FTRUNCATE and op <= Op.FADVISE_DONTNEED:
        return OperationKind.FTRUNCATE + (op - Op.FTRUNCATE)
    if op >= Op.USERFAULTFD_REGISTER and op <= Op.MIGRATE:
        return np.int64(_special_kind_of(op))
    if op >= Op.MREMAP:
        return _kind_of_more(op)
    if op == Op.MMAP:
        return np.int64(OperationKind.MMAP)
    if op == Op.MUNMAP:
        return np.int64(OperationKind.MUNMAP)
    if op == Op.MPROTECT:
        return np.int64(OperationKind.MPROTECT)
    if op == Op.MADVISE:
        return np.int64(OperationKind.MADVISE)
    assert op == Op.FORK, "an operation of no known kind"
    return np.int64(OperationKind.FORK)


@compiled
def _kind_of_more(op):
    if op == Op.MREMAP:
        return np.int64(OperationKind.MREMAP)
    if op == Op.BRK:
        return np.int64(OperationKind.BRK)
    if op <= Op.EXEC:
        return OperationKind.MLOCK + (op - Op.MLOCK)
    if op == Op.READ_SMAPS:
        return np.int64(OperationKind.READ_SMAPS)
    if op == Op.READ_MAPS:
        return np.int64(OperationKind.READ_MAPS)
    if op == Op.CLEAR_REFS:
        return np.int64(OperationKind.CLEAR_REFS)
    if op == Op.KHUGEPAGED:
        return np.int64(OperationKind.KHUGEPAGED)
    assert op == Op.NUMA_SCAN, "an operation of no known kind"
    return np.int64(OperationKind.NUMA_SCAN)


@compiled
def _special_kind_of(op):
    if op == Op.USERFAULTFD_REGISTER:
        return OperationKind.USERFAULTFD_REGISTER
    if op == Op.USERFAULTFD_COPY:
        return OperationKind.USERFAULTFD_COPY
    if op == Op.USERFAULTFD_WRITEPROTECT:
        return OperationKind.USERFAULTFD_WRITEPROTECT
    if op == Op.USERFAULTFD_CLOSE:
        return OperationKind.USERFAULTFD_CLOSE
    assert op == Op.MIGRATE, "an operation of no known kind"
    return OperationKind.MIGRATE


@compiled
def leave(world, thread, now_ns):
    """Go back to user mode."""
    cost = world.config.cost
    sched.burst(world, thread, now_ns, cost.syscall_ns - cost.syscall_ns // 2, Step.OPERATION_END)
