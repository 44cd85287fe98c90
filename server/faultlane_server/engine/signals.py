"""Signals: who gets one notices it in user mode, or when its fault is to be retried.

A fatal one ends the waits that can be killed: for mmap_lock, for a folio that is read, in
balance_dirty_pages, and all of the program's own. Either ends a wait for a userfaultfd. The
thread leaves whatever line it waits in and goes on with the step that it has for that case.
"""

from faultlane_server.codes import SignalKind
from faultlane_server.engine import sched, userfaultfd
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import folio_lock, mmap_lock
from faultlane_server.engine.world import Cause, Step, ThreadState


@compiled
def send(world, thread, signal, now_ns):
    """Let a thread have a signal."""
    row = world.threads[thread]
    if signal == SignalKind.HANDLED:
        row.signalled = 1
        _end_interruptible_wait(world, thread, now_ns)
    elif not row.killed and row.state != ThreadState.DONE:
        row.killed = 1
        _end_wait(world, thread, now_ns)


@compiled
def _end_wait(world, thread, now_ns):
    """End what a thread does in user mode, or waits for, if that can be ended."""
    row = world.threads[thread]
    if _is_in_user_mode(row):
        sched.cut_short(world, thread, now_ns)
    elif row.state == ThreadState.BLOCKED and row.cause == Cause.PROGRAM:
        row.timer = -1
        sched.wake(world, thread, now_ns, 0)
    elif row.state == ThreadState.BLOCKED and row.killed_step:
        _leave_line(world, thread, now_ns)
        row.step = row.killed_step
        sched.wake(world, thread, now_ns, 0)


@compiled
def _end_interruptible_wait(world, thread, now_ns):
    """End a wait for a userfaultfd. In kernel mode the fault would only queue again at once."""
    row = world.threads[thread]
    if row.state != ThreadState.BLOCKED or row.cause != Cause.USERFAULTFD:
        return
    if not (row.in_fault and row.kernel_mode):
        _leave_line(world, thread, now_ns)
        row.step = row.killed_step
        sched.wake(world, thread, now_ns, 0)


@compiled
def _is_in_user_mode(row):
    """Whether a thread runs its program, or was cut off in it."""
    if row.in_fault or row.in_operation:
        return False
    if row.step == Step.RESUME:
        return row.cut_step == Step.PROGRAM
    return row.state == ThreadState.RUNNING and row.step == Step.PROGRAM


@compiled
def _leave_line(world, thread, now_ns):
    row = world.threads[thread]
    if row.cause == Cause.MMAP_LOCK:
        mmap_lock.leave_queue(world, thread, now_ns)
    elif row.cause == Cause.THROTTLE:
        row.timer = -1
    elif row.cause == Cause.USERFAULTFD:
        userfaultfd.leave(world, thread)
    else:
        assert row.cause == Cause.FOLIO or row.cause == Cause.DEVICE, "a wait that can be killed"
        folio_lock.leave(world.folios[row.folio], world.threads, thread)
