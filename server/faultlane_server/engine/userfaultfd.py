"""The userfaultfd of a process: the faults that it was handed, and who waits to read of them.

Both are lines of threads in the record of the mm. A fault stays in its line until it is
resolved, or until a signal ends its wait; somebody may have read of it by then.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled


@compiled
def join(world, thread, now_ns):
    """Hand a fault over, and wake somebody who waits to read of one like it."""
    fault = world.threads[thread]
    mm = world.mms[fault.mm]
    fault.uffd_is_read = 0
    fault.behind = NOBODY
    if mm.uffd_first == NOBODY:
        mm.uffd_first = thread
    else:
        world.threads[mm.uffd_last].behind = thread
    mm.uffd_last = thread
    reader = _reader_of(world, mm, fault)
    if reader != NOBODY:
        leave_readers(world, reader)
        sched.wake_from(world, reader, thread, now_ns)


@compiled
def _reader_of(world, mm, fault):
    """Return who has waited longest to read of a fault like this one, or NOBODY."""
    reader = mm.uffd_readers_first
    while reader != NOBODY and not _is_for(world.threads[reader], fault):
        reader = world.threads[reader].behind
    return reader


@compiled
def _is_for(caller, fault):
    """Whether an operation is to resolve a fault."""
    return caller.op_modes == fault.uffd_mode and caller.op_start <= fault.page < caller.op_end


@compiled
def next_unread(world, thread):
    """Return the first fault that an operation is to resolve and nobody has read of, or NOBODY."""
    caller = world.threads[thread]
    fault = world.mms[caller.mm].uffd_first
    while fault != NOBODY:
        row = world.threads[fault]
        if not row.uffd_is_read and _is_for(caller, row):
            return fault
        fault = row.behind
    return fault


@compiled
def join_readers(world, thread):
    """Line up to read of a fault."""
    mm = world.mms[world.threads[thread].mm]
    world.threads[thread].behind = NOBODY
    if mm.uffd_readers_first == NOBODY:
        mm.uffd_readers_first = thread
    else:
        world.threads[mm.uffd_readers_last].behind = thread
    mm.uffd_readers_last = thread


@compiled
def leave(world, thread):
    """Take a thread out of the line that it waits in."""
    if world.threads[thread].in_fault:
        _leave_faults(world, thread)
    else:
        leave_readers(world, thread)


@compiled
def _leave_faults(world, thread):
    mm = world.mms[world.threads[thread].mm]
    before = _before(world, mm.uffd_first, thread)
    behind = world.threads[thread].behind
    if before == NOBODY:
        mm.uffd_first = behind
    else:
        world.threads[before].behind = behind
    if behind == NOBODY:
        mm.uffd_last = before


@compiled
def leave_readers(world, thread):
    """Take a thread out of the line of those who wait to read of a fault."""
    mm = world.mms[world.threads[thread].mm]
    before = _before(world, mm.uffd_readers_first, thread)
    behind = world.threads[thread].behind
    if before == NOBODY:
        mm.uffd_readers_first = behind
    else:
        world.threads[before].behind = behind
    if behind == NOBODY:
        mm.uffd_readers_last = before


@compiled
def _before(world, first, thread):
    """Return who stands before a thread in its line, or NOBODY."""
    before = NOBODY
    at = first
    while at != thread:
        assert at != NOBODY, "the thread stands in this line"
        before = at
        at = world.threads[at].behind
    return before


@compiled
def wake(world, thread, mm, start, end, now_ns):
    """Wake all whose faults on a range are resolved, at the expense of a thread (wake_userfault).

    Returns how many.
    """
    woken = 0
    fault = world.mms[mm].uffd_first
    while fault != NOBODY:
        behind = world.threads[fault].behind
        if start <= world.threads[fault].page < end:
            _leave_faults(world, fault)
            sched.wake_from(world, fault, thread, now_ns)
            woken += 1
        fault = behind
    return woken
