"""How an operation begins and ends: the system call, and what it was asked for."""

from faultlane_server.codes import Madvice, OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import Op, Step


@compiled
def begin(world, thread, instruction, now_ns):
    """Enter the kernel with an operation on a range of the address space, or of a file."""
    caller = world.threads[thread]
    sched.begin_account(world, thread, now_ns, 0)
    caller.in_operation = 1
    caller.op_kind = _kind_of(instruction.op)
    caller.op_pc = caller.pc - 1
    _set_range(world, caller, instruction)
    caller.op_protection = instruction.protection
    caller.op_file = instruction.id
    caller.op_wait = instruction.wait
    caller.op_advice = instruction.advice
    caller.op_merges = instruction.merges
    caller.op_populates = instruction.populates
    caller.op_resolved = 0
    caller.op_downgrades = int(caller.op_kind == OperationKind.MUNMAP)
    caller.locks_count = 0
    caller.hold_ns = 0
    sched.burst(world, thread, now_ns, world.config.cost.syscall_ns // 2, _first_step(caller))


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
    if kind == OperationKind.MADVISE and caller.op_advice == Madvice.DONTNEED:
        return Step.READ_LOCK
    return Step.WRITE_LOCK


@compiled
def _kind_of(op):
    if op == Op.MMAP:
        return OperationKind.MMAP
    if op == Op.MUNMAP:
        return OperationKind.MUNMAP
    if op == Op.MPROTECT:
        return OperationKind.MPROTECT
    if op == Op.MADVISE:
        return OperationKind.MADVISE
    if op == Op.FORK:
        return OperationKind.FORK
    if op == Op.MREMAP:
        return OperationKind.MREMAP
    if op == Op.BRK:
        return OperationKind.BRK
    if op == Op.FTRUNCATE:
        return OperationKind.FTRUNCATE
    if op == Op.PUNCH_HOLE:
        return OperationKind.PUNCH_HOLE
    if op == Op.SYNC_FILE_RANGE:
        return OperationKind.SYNC_FILE_RANGE
    assert op == Op.FADVISE_DONTNEED, "an operation of no known kind"
    return OperationKind.FADVISE_DONTNEED


@compiled
def leave(world, thread, now_ns):
    """Go back to user mode."""
    cost = world.config.cost
    sched.burst(world, thread, now_ns, cost.syscall_ns - cost.syscall_ns // 2, Step.OPERATION_END)
