"""How an operation begins: the system call, and what it was asked for."""

from faultlane_server.codes import OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import Op, Step


@compiled
def begin(world, thread, instruction, now_ns):
    """Enter the kernel with an operation on a range."""
    caller = world.threads[thread]
    sched.begin_account(world, thread, now_ns, 0)
    caller.in_operation = 1
    caller.op_kind = _kind_of(instruction.op)
    shift = caller.index * instruction.thread_pages
    caller.op_start = instruction.start + shift
    caller.op_end = caller.op_start + instruction.pages
    caller.op_pte = instruction.pte + shift
    caller.op_at = caller.op_start
    caller.op_protection = instruction.protection
    caller.locks_count = 0
    caller.hold_ns = 0
    sched.burst(world, thread, now_ns, world.config.cost.syscall_ns // 2, Step.WRITE_LOCK)


@compiled
def _kind_of(op):
    if op == Op.MMAP:
        return OperationKind.MMAP
    if op == Op.MUNMAP:
        return OperationKind.MUNMAP
    assert op == Op.MPROTECT, "an operation of no known kind"
    return OperationKind.MPROTECT
