"""mapping->invalidate_lock: faults that fill the page cache share it, truncation excludes them.

A rw_semaphore like mmap_lock, but plain: nobody tries it first, no wait for it can be killed,
and its writers queue without spinning, which the kernel's do.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine import blame, sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import rwsem
from faultlane_server.engine.locks.rwsem import Wake
from faultlane_server.engine.world import Cause, Step, ThreadState, Waits


@compiled
def lock_shared(world, thread, now_ns, step):
    """Take the lock of the fault's file shared; returns whether it is held.

    Otherwise the thread sleeps, holds it when it is woken, and goes on with `step`.
    """
    fault = world.threads[thread]
    lock = world.files[fault.file].invalidate_lock
    blocker = _in_the_way(lock)
    timeout_ns = rwsem.timeout_ns(world.config, now_ns)
    fault.invalidate_held = 1
    is_held = rwsem.read(lock, world.threads, thread, now_ns, timeout_ns)
    if is_held:
        _shares(world, lock, thread, now_ns)
    else:
        kind = np.int64(Waits.INVALIDATE_READ)
        blame.wait_for_rwsem(world, thread, lock, kind, fault.file, now_ns)
        sched.block(world, thread, now_ns, Cause.INVALIDATE_LOCK, blocker, step)
    _wake_up(world, lock, thread, now_ns)
    return is_held


@compiled
def unlock_shared(world, thread, now_ns):
    """Let go of the lock of the fault's file."""
    fault = world.threads[thread]
    lock = world.files[fault.file].invalidate_lock
    fault.invalidate_held = 0
    must_wake = rwsem.release_read(lock)
    blame.ends_to_hold(world, lock, thread, blame.INVALIDATE_LOCK)
    blame.rwsem_changed(world, lock, now_ns)
    if must_wake:
        rwsem.wake(lock, world.threads, now_ns, Wake.ANY)
        _wake_up(world, lock, thread, now_ns)


@compiled
def lock_exclusive(world, thread, now_ns):
    """Take the lock of the operation's file; returns whether it is held.

    Otherwise the thread sleeps, and has to `retry_exclusive` when it is woken.
    """
    lock = world.files[world.threads[thread].op_file].invalidate_lock
    if rwsem.try_write(lock, thread):
        blame.rwsem_changed(world, lock, now_ns)
        return True
    blocker = _in_the_way(lock)
    timeout_ns = rwsem.timeout_ns(world.config, now_ns)
    is_held = rwsem.queue_write(lock, world.threads, thread, now_ns, timeout_ns)
    if is_held:
        blame.rwsem_changed(world, lock, now_ns)
    else:
        _sleep(world, thread, now_ns, blocker)
    _wake_up(world, lock, thread, now_ns)
    return is_held


@compiled
def retry_exclusive(world, thread, now_ns):
    """Try again, as a writer in the queue that was woken; returns whether the lock is held."""
    lock = world.files[world.threads[thread].op_file].invalidate_lock
    if rwsem.retry_write(lock, world.threads, thread, now_ns):
        blame.rwsem_changed(world, lock, now_ns)
        return True
    _sleep(world, thread, now_ns, _in_the_way(lock))
    return False


@compiled
def unlock_exclusive(world, thread, now_ns):
    """Let go of the lock of the operation's file."""
    lock = world.files[world.threads[thread].op_file].invalidate_lock
    must_wake = rwsem.release_write(lock)
    blame.rwsem_changed(world, lock, now_ns)
    if must_wake:
        rwsem.wake(lock, world.threads, now_ns, Wake.ANY)
        _wake_up(world, lock, thread, now_ns)


@compiled
def _shares(world, lock, thread, now_ns):
    blame.begins_to_hold(world, lock, thread, blame.INVALIDATE_LOCK)
    blame.rwsem_changed(world, lock, now_ns)


@compiled
def _sleep(world, thread, now_ns, blocker):
    file = world.threads[thread].op_file
    lock = world.files[file].invalidate_lock
    kind = np.int64(Waits.INVALIDATE_WRITE)
    blame.wait_for_rwsem(world, thread, lock, kind, file, now_ns)
    sched.block(world, thread, now_ns, Cause.INVALIDATE_LOCK, blocker, Step.INVALIDATE_WOKEN)


@compiled
def _in_the_way(lock):
    return lock.owner if lock.writer == NOBODY else lock.writer


@compiled
def _wake_up(world, lock, waker, now_ns):
    """Wake whom the rwsem has chosen: readers that own the lock, or one writer that may try."""
    thread = lock.woken
    lock.woken = NOBODY
    if thread == NOBODY:
        return
    if world.threads[thread].wants_write:
        if world.threads[thread].state == ThreadState.BLOCKED:  # else it is about to try
            world.threads[thread].waits_for = waker
            sched.wake_from(world, thread, waker, now_ns)
        return
    while thread != NOBODY:
        behind = world.threads[thread].behind
        sched.wake_from(world, thread, waker, now_ns)
        _shares(world, lock, thread, now_ns)
        thread = behind
