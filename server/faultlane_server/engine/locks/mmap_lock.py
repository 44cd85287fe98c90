"""mmap_lock between the threads that want it: the rwsem, the CPUs and mm_lock_seq.

`rwsem` decides who owns the lock; here that is turned into threads that sleep,
spin and wake up. A writer that spins watches the lock on its CPU: it is asked
again whenever the lock or its owner changes.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock
from faultlane_server.engine import blame, fair, ledger, sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import rwsem
from faultlane_server.engine.locks.rwsem import Wake
from faultlane_server.engine.locks.word import strike
from faultlane_server.engine.tally import acquired, held, mmap_read_released
from faultlane_server.engine.world import Cause, Locks, Step, ThreadState, Waits


@compiled
def lock_read(world, thread, now_ns, step, killed_step):
    """Take mmap_lock for read (M0): on most architectures, first try and then wait for it.

    Returns whether it is held; otherwise the thread sleeps, holds it when it is woken, and
    goes on with `step`; or, after a fatal signal, with `killed_step`, and does not hold it.
    If that is NOTHING no signal ends the wait.
    """
    fault = world.threads[thread]
    mm = world.mms[fault.mm]
    assert fault.held == 0, "no thread waits for mmap_lock while it holds a fault lock"
    fault.asked_ns = now_ns
    strike(world, thread, mm.word, now_ns)
    if rwsem.try_read(mm.mmap_lock, thread):
        _read_held(world, thread, now_ns, False)
        return True
    if world.config.mmap_trylock:
        strike(world, thread, mm.word, now_ns)
    blocker = _in_the_way(mm.mmap_lock, thread)
    timeout_ns = rwsem.timeout_ns(world.config, now_ns)
    is_held = rwsem.read(mm.mmap_lock, world.threads, thread, now_ns, timeout_ns)
    if is_held:
        _read_held(world, thread, now_ns, True)
    elif fault.killed and _can_be_killed(world, fault, killed_step):
        _give_up(world, thread, now_ns, killed_step)
    else:
        kind = np.int64(Waits.MMAP_READ)
        blame.wait_for_rwsem(world, thread, mm.mmap_lock, kind, fault.mm, now_ns)
        sched.block(world, thread, now_ns, Cause.MMAP_LOCK, blocker, step)
        if _can_be_killed(world, fault, killed_step):
            fault.killed_step = killed_step
    _wake_up(world, mm.mmap_lock, thread, now_ns)
    return is_held


@compiled
def _can_be_killed(world, reader, killed_step):
    """Whether a fatal signal ends the wait of a reader: of system calls if they say so."""
    if killed_step == Step.NOTHING:
        return False
    return reader.in_operation != 0 or world.config.mmap_killable != 0


@compiled
def try_lock_read(world, thread, now_ns):
    """Take mmap_lock for read as the fault lock, if it can be had at once."""
    fault = world.threads[thread]
    mm = world.mms[fault.mm]
    fault.asked_ns = now_ns
    strike(world, thread, mm.word, now_ns)
    if not rwsem.try_read(mm.mmap_lock, thread):
        return False
    _read_held(world, thread, now_ns, False)
    return True


@compiled
def pass_read(world, thread, now_ns):
    """Take mmap_lock for read and let it go again, if it can be had at once.

    The VMA lock is held.
    """
    reader = world.threads[thread]
    mm = world.mms[reader.mm]
    strike(world, thread, mm.word, now_ns)
    if not rwsem.try_read(mm.mmap_lock, thread):
        return False
    strike(world, thread, mm.word, now_ns)
    must_wake = rwsem.release_read(mm.mmap_lock)
    assert not must_wake, "nobody waits for a lock that can be had at once"
    reader.mmap_reads += 1
    acquired(world, Locks.MMAP_READ, 0, False)
    return True


@compiled
def try_walk(world, thread, mm, now_ns):
    """Take the mmap_lock of any process for read to walk its page tables, if it can be had at once.

    The thread may hold a fault lock, that very lock even.
    """
    row = world.mms[mm]
    strike(world, thread, row.word, now_ns)
    if not rwsem.try_read(row.mmap_lock, thread):
        return False
    acquired(world, Locks.MMAP_READ, 0, False)
    return True


@compiled
def end_walk(world, thread, mm, now_ns):
    """Let go of the mmap_lock of a process whose page tables were walked."""
    row = world.mms[mm]
    strike(world, thread, row.word, now_ns)
    must_wake = rwsem.release_read(row.mmap_lock)
    blame.rwsem_changed(world, row.mmap_lock, now_ns)
    _spinners_look(world, mm, now_ns)
    if must_wake:
        _wake_waiters(world, mm, thread, now_ns, Wake.ANY)


@compiled
def unlock_read(world, thread, now_ns):
    """Let go of mmap_lock for read."""
    reader = world.threads[thread]
    mm = world.mms[reader.mm]
    mmap_read_released(world, thread, now_ns)
    reader.held = 0
    strike(world, thread, mm.word, now_ns)
    must_wake = rwsem.release_read(mm.mmap_lock)
    blame.ends_to_hold(world, mm.mmap_lock, thread, blame.FAULT_LOCK)
    blame.rwsem_changed(world, mm.mmap_lock, now_ns)
    _spinners_look(world, reader.mm, now_ns)
    if must_wake:
        _wake_waiters(world, reader.mm, thread, now_ns, Wake.ANY)


@compiled
def lock_write(world, thread, now_ns):
    """Take mmap_lock for write.

    Returns whether it is held; otherwise the thread spins or sleeps, and goes on
    with WRITE_HELD when it has the lock, or with WRITE_QUEUE or WRITE_WOKEN.
    """
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    lock = mm.mmap_lock
    assert writer.held == 0, "no thread waits for mmap_lock while it holds a fault lock"
    writer.asked_ns = now_ns
    strike(world, thread, mm.word, now_ns)
    if rwsem.try_write(lock, thread):
        _write_held(world, thread, now_ns)
        return True
    must_queue = sched.is_asked_to_leave(world, thread)
    if must_queue or not rwsem.may_spin(lock, _is_running(world, lock.writer)):
        return queue_write(world, thread, now_ns)
    kind = np.int64(Waits.MMAP_WRITE)
    blame.wait_for_rwsem(world, thread, lock, kind, writer.mm, now_ns)
    sched.wait_spinning(world, thread, now_ns, Cause.MMAP_LOCK, _in_the_way(lock, thread))
    rwsem.join_spinners(lock, world.threads, thread)
    _spinners_look(world, writer.mm, now_ns)
    return False


@compiled
def queue_write(world, thread, now_ns):
    """Wait for mmap_lock for write in its queue; returns whether it is held at once."""
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    strike(world, thread, mm.word, now_ns)
    blocker = _in_the_way(mm.mmap_lock, thread)
    timeout_ns = -1 if fair.is_real_time(writer) else rwsem.timeout_ns(world.config, now_ns)
    is_held = rwsem.queue_write(mm.mmap_lock, world.threads, thread, now_ns, timeout_ns)
    if is_held:
        _write_held(world, thread, now_ns)
    else:
        _wait_queued(world, thread, now_ns, blocker)
    _wake_up(world, mm.mmap_lock, thread, now_ns)
    return is_held


@compiled
def retry_write(world, thread, now_ns):
    """Try again, as a writer in the queue that was woken; returns whether it is held."""
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    strike(world, thread, mm.word, now_ns)
    if rwsem.retry_write(mm.mmap_lock, world.threads, thread, now_ns):
        _write_held(world, thread, now_ns)
        _spinners_look(world, writer.mm, now_ns)
        return True
    _wait_queued(world, thread, now_ns, _in_the_way(mm.mmap_lock, thread))
    return False


@compiled
def _wait_queued(world, thread, now_ns, blocker):
    """Sleep in the queue, or watch a running owner if the lock will be handed over."""
    writer = world.threads[thread]
    lock = world.mms[writer.mm].mmap_lock
    if writer.killed and writer.op_killable:
        _give_up(world, thread, now_ns, Step.WRITE_KILLED)
        return
    kind = np.int64(Waits.MMAP_WRITE)
    blame.wait_for_rwsem(world, thread, lock, kind, writer.mm, now_ns)
    if _watches_owner(world, thread, lock):
        sched.wait_spinning(world, thread, now_ns, Cause.MMAP_LOCK, blocker)
    else:
        sched.block(world, thread, now_ns, Cause.MMAP_LOCK, blocker, Step.WRITE_WOKEN)
        if writer.op_killable:
            writer.killed_step = Step.WRITE_KILLED


@compiled
def _watches_owner(world, thread, lock):
    """Whether the head of the queue spins: the lock is promised to it, and its owner runs."""
    if not world.threads[thread].handoff_set or sched.is_asked_to_leave(world, thread):
        return False
    return _is_running(world, lock.writer)


@compiled
def _give_up(world, thread, now_ns, step):
    """Do not wait in the queue: a fatal signal is pending."""
    lock = world.mms[world.threads[thread].mm].mmap_lock
    _wake_up(world, lock, thread, now_ns)
    leave_queue(world, thread, now_ns)
    sched.burst(world, thread, now_ns, 0, step)


@compiled
def leave_queue(world, thread, now_ns):
    """Take a thread that sleeps in the queue out of it: a fatal signal has come."""
    mm = world.threads[thread].mm
    lock = world.mms[mm].mmap_lock
    rwsem.leave_queue(lock, world.threads, thread, now_ns)
    blame.rwsem_changed(world, lock, now_ns)
    _wake_up(world, lock, thread, now_ns)
    _spinners_look(world, mm, now_ns)


@compiled
def unlock_write(world, thread, now_ns):
    """Let go of mmap_lock for write: all write locks of VMAs vanish with it."""
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    _end_write(world, thread, now_ns)
    strike(world, thread, mm.word, now_ns)
    must_wake = rwsem.release_write(mm.mmap_lock)
    blame.rwsem_changed(world, mm.mmap_lock, now_ns)
    _hand_over(world, mm.mmap_lock, now_ns)
    _spinners_look(world, writer.mm, now_ns)
    if must_wake:
        _wake_waiters(world, writer.mm, thread, now_ns, Wake.ANY)


@compiled
def downgrade(world, thread, now_ns):
    """Turn a hold for write into one for read."""
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    _end_write(world, thread, now_ns)
    writer.held = FaultLock.MMAP
    writer.held_since_ns = now_ns
    strike(world, thread, mm.word, now_ns)
    must_wake = rwsem.downgrade(mm.mmap_lock, thread)
    blame.begins_to_hold(world, mm.mmap_lock, thread, blame.FAULT_LOCK)
    blame.rwsem_changed(world, mm.mmap_lock, now_ns)
    _watcher_sleeps(world, mm.mmap_lock, now_ns)
    _spinners_look(world, writer.mm, now_ns)
    if must_wake:
        _wake_waiters(world, writer.mm, thread, now_ns, Wake.READ_OWNED)


@compiled
def spin_expired(world, thread, now_ns):
    """End a writer's spin on readers: from now on writers queue. Returns whether it is held."""
    writer = world.threads[thread]
    lock = world.mms[writer.mm].mmap_lock
    sched.settle_spin(world, thread, now_ns)
    lock.nonspinnable = 1
    lock.spins_on_readers = 0
    rwsem.leave_spinners(lock, world.threads, thread)
    _spinners_look(world, writer.mm, now_ns)
    return queue_write(world, thread, now_ns)


@compiled
def owner_left_cpu(world, mm, now_ns):
    """Tell the writers that watch an owner that it sleeps: they queue, or sleep too."""
    lock = world.mms[mm].mmap_lock
    _spinners_look(world, mm, now_ns)
    _watcher_sleeps(world, lock, now_ns)


@compiled
def stop_watching(world, thread, now_ns):
    """Let a spinning writer queue, or sleep in the queue: it is to make room on its CPU."""
    mm = world.threads[thread].mm
    lock = world.mms[mm].mmap_lock
    if lock.first == thread:
        _watcher_sleeps(world, lock, now_ns)
        return
    rwsem.leave_spinners(lock, world.threads, thread)
    sched.stop_spinning(world, thread, now_ns, Step.WRITE_QUEUE)
    _spinners_look(world, mm, now_ns)


@compiled
def _watcher_sleeps(world, lock, now_ns):
    """Let the head of the queue try and sleep: who has the lock is no running writer any more."""
    if lock.first != NOBODY and world.threads[lock.first].state == ThreadState.SPINNING:
        sched.stop_spinning(world, lock.first, now_ns, Step.WRITE_WOKEN)


@compiled
def _is_running(world, thread):
    """Whether a thread is on a CPU."""
    if thread == NOBODY:
        return False
    state = world.threads[thread].state
    return state == ThreadState.RUNNING or state == ThreadState.SPINNING


@compiled
def _in_the_way(lock, thread):
    """Return whom a thread waits for: the writer, else the queue's head, else a reader."""
    if lock.writer != NOBODY:
        return lock.writer
    if lock.first != NOBODY and lock.first != thread:
        return lock.first
    return lock.owner


@compiled
def _read_held(world, thread, now_ns, contended):
    reader = world.threads[thread]
    reader.held = FaultLock.MMAP
    reader.held_since_ns = now_ns
    reader.mmap_reads += 1
    lock = world.mms[reader.mm].mmap_lock
    blame.begins_to_hold(world, lock, thread, blame.FAULT_LOCK)
    blame.rwsem_changed(world, lock, now_ns)
    waited_ns = now_ns - reader.asked_ns
    acquired(world, Locks.MMAP_READ, waited_ns, contended)
    if contended:
        ledger.contended(world, np.int64(Locks.MMAP_READ), reader.mm, waited_ns)


@compiled
def _write_held(world, thread, now_ns):
    writer = world.threads[thread]
    mm = world.mms[writer.mm]
    mm.seq += 1
    assert mm.seq & 1, "mm_lock_seq is odd while mmap_lock is held for write"
    mm.write_since_ns = now_ns
    waited_ns = now_ns - writer.asked_ns
    acquired(world, Locks.MMAP_WRITE, waited_ns, waited_ns > 0)
    if waited_ns > 0:
        ledger.contended(world, np.int64(Locks.MMAP_WRITE), writer.mm, waited_ns)
    blame.rwsem_changed(world, mm.mmap_lock, now_ns)


@compiled
def _end_write(world, thread, now_ns):
    mm = world.mms[world.threads[thread].mm]
    assert mm.mmap_lock.writer == thread, "who lets go of mmap_lock for write holds it"
    mm.seq += 1
    hold_ns = now_ns - mm.write_since_ns
    world.threads[thread].hold_ns += hold_ns
    held(world, Locks.MMAP_WRITE, hold_ns)


@compiled
def _wake_waiters(world, mm, waker, now_ns, kind):
    """Wake whose turn it is; a spinner who was passed by readers begins its watch on them."""
    lock = world.mms[mm].mmap_lock
    rwsem.wake(lock, world.threads, now_ns, kind)
    _wake_up(world, lock, waker, now_ns)
    _spinners_look(world, mm, now_ns)


@compiled
def _wake_up(world, lock, waker, now_ns):
    """Wake whom the rwsem has chosen: readers that own the lock, or one writer that may try."""
    thread = lock.woken
    lock.woken = NOBODY
    if thread == NOBODY:
        return
    if world.threads[thread].wants_write:
        _wake_writer(world, thread, waker, now_ns)
        return
    while thread != NOBODY:
        behind = world.threads[thread].behind
        sched.wake_from(world, thread, waker, now_ns)
        _read_held(world, thread, now_ns, True)
        thread = behind


@compiled
def _wake_writer(world, thread, waker, now_ns):
    writer = world.threads[thread]
    if writer.state == ThreadState.BLOCKED:
        writer.waits_for = waker
        sched.wake_from(world, thread, waker, now_ns)
    elif writer.state == ThreadState.SPINNING:
        sched.stop_spinning(world, thread, now_ns, Step.WRITE_WOKEN)


@compiled
def _hand_over(world, lock, now_ns):
    """Let the head of the queue take a lock that it watches, before anybody else can."""
    thread = lock.first
    if thread == NOBODY or world.threads[thread].state != ThreadState.SPINNING:
        return
    if rwsem.retry_write(lock, world.threads, thread, now_ns):
        _write_held(world, thread, now_ns)
        sched.stop_spinning(world, thread, now_ns, Step.WRITE_HELD)


@compiled
def _spinners_look(world, mm, now_ns):
    """Let the optimistic spinners look at the lock, first come first, until one stays."""
    lock = world.mms[mm].mmap_lock
    while lock.spin_first != NOBODY:
        thread = lock.spin_first
        if rwsem.steal_write(lock, thread):
            step = Step.WRITE_HELD
            _write_held(world, thread, now_ns)
        elif _keeps_spinning(world, lock, thread, now_ns):
            return
        else:
            step = Step.WRITE_QUEUE
        lock.spins_on_readers = 0
        rwsem.leave_spinners(lock, world.threads, thread)
        sched.stop_spinning(world, thread, now_ns, step)


@compiled
def _keeps_spinning(world, lock, thread, now_ns):
    """Whether the head spinner goes on: on a running writer, or for a while on readers."""
    if lock.nonspinnable:
        return False
    if lock.writer != NOBODY:
        lock.spins_on_readers = 0
        sched.spin_on(world, thread)
        return _is_running(world, lock.writer)
    if fair.is_real_time(world.threads[thread]):
        return False
    if not lock.reader_owned:
        return world.threads[lock.first].state != ThreadState.RUNNABLE
    if not lock.spins_on_readers:
        lock.spins_on_readers = 1
        limit_ns = rwsem.reader_spin_ns(lock.readers)
        sched.spin_until(world, thread, now_ns + limit_ns, Step.SPIN_EXPIRED)
    return True
