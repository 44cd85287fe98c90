"""mmap_lock and invalidate_lock: the kernel's rw_semaphore (kernel/locking/rwsem.c).

Not for PREEMPT_RT, and without real-time tasks. What the kernel does to the lock
word and to its owner at once is one call here. The word's bits are columns: W is
`writer`, WAIT is `first != NOBODY`, and the handoff bit is `handoff`.

`read`, `queue_write`, `wake` and `leave_queue` say in `lock.woken` whom they woke:

* a reader, the first of a chain linked by `behind`. All of them hold the lock from
  this instant, before they run.
* a writer (`wants_write` is 1). It is still queued, so its `behind` is not to be
  followed, and it may be awake already. It holds nothing: when it runs, it has to
  `retry_write`, and others may be quicker.

A thread is in one line at a time: it leaves the spinners before it queues.
"""

from enum import IntEnum

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled

READERS_WOKEN_MAX = 256  # by one call: MAX_READERS_WAKEUP


class Wake(IntEnum):
    """Who may be woken, by what the caller knows of the lock: enum rwsem_wake_type."""

    ANY = 1
    READERS = 2  # the lock is held for read
    READ_OWNED = 3  # the caller holds it for read


@compiled
def try_read(lock, thread):
    """Take the lock for read if nobody writes or waits; never wait."""
    if lock.writer != NOBODY or lock.first != NOBODY or lock.handoff == 1:
        return False
    _hold_read(lock, thread)
    return True


@compiled
def read(lock, threads, thread, now_ns, timeout_ns):
    """Take the lock for read, or queue for it.

    A free lock is taken past those who queue for it. Of a lock that is read, new
    readers get no share while somebody queues: it may be a writer.

    Returns
    -------
    bool
        True if the thread holds the lock on return, False if it waits.
    """
    lock.woken = NOBODY
    if try_read(lock, thread):
        return True
    if _may_steal(lock):
        _hold_read(lock, thread)
        wake(lock, threads, now_ns, Wake.READ_OWNED)
        return True
    assert lock.first != NOBODY or lock.writer != NOBODY, "a reader queues behind something"
    _queue(lock, threads, thread, 0, now_ns + timeout_ns)
    _wake_if_not_written(lock, threads, now_ns)
    return _remove_from_woken(lock, threads, thread)


@compiled
def release_read(lock):
    """Release the lock for read; `owner` stays. True if wake(ANY) has to follow."""
    assert lock.readers > 0, "released for read, but nobody reads"
    lock.readers -= 1
    if lock.readers > 0 or lock.first == NOBODY:
        return False
    lock.nonspinnable = 0
    return True


@compiled
def try_write(lock, thread):
    """Take the lock for write if its word is zero: nobody holds it and nobody waits."""
    if lock.first != NOBODY:
        return False
    return steal_write(lock, thread)


@compiled
def steal_write(lock, thread):
    """Take the lock for write if it is free, past those who queue: a spinner's try."""
    if not _may_steal(lock):
        return False
    _hold_write(lock, thread)
    return True


@compiled
def queue_write(lock, threads, thread, now_ns, timeout_ns):
    """Queue for write, and try at once; True if the thread holds the lock."""
    lock.woken = NOBODY
    _queue(lock, threads, thread, 1, now_ns + timeout_ns)
    if lock.first != thread:
        _wake_if_not_written(lock, threads, now_ns)
    return retry_write(lock, threads, thread, now_ns)


@compiled
def retry_write(lock, threads, thread, now_ns):
    """Try from within the queue; True if the thread holds the lock and has left the queue.

    Whoever fails after its deadline asks for a handoff, on behalf of the head of the
    queue: from then on nobody passes the head.
    """
    assert threads[thread].wants_write == 1, "a queued writer tries"
    if lock.handoff == 1 and threads[lock.first].handoff_set == 1 and lock.first != thread:
        return False
    if lock.readers > 0 or lock.writer != NOBODY:
        if lock.handoff == 0 and now_ns > threads[thread].deadline_ns:
            _ask_for_handoff(lock, threads)
        return False
    _dequeue(lock, threads, thread)
    lock.handoff = 0
    _hold_write(lock, thread)
    return True


@compiled
def release_write(lock):
    """Release the lock for write. True if wake(ANY) has to follow."""
    assert lock.writer != NOBODY, "released for write, but nobody writes"
    lock.writer = NOBODY
    lock.owner = NOBODY
    lock.nonspinnable = 0
    return lock.first != NOBODY


@compiled
def downgrade(lock, thread):
    """Go on reading instead of writing. True if wake(READ_OWNED) has to follow."""
    assert lock.writer == thread, "the writer downgrades"
    lock.writer = NOBODY
    _hold_read(lock, thread)
    return lock.first != NOBODY


@compiled
def wake(lock, threads, now_ns, kind):
    """Wake whom the head of the queue stands for: a writer, or readers anywhere in the queue.

    Readers at the head that find the lock stolen by a writer ask for a handoff once
    their deadline is past.
    """
    lock.woken = NOBODY
    head = lock.first
    if head == NOBODY:
        return
    if threads[head].wants_write == 1:
        if kind == Wake.ANY:
            lock.woken = head
    elif lock.writer != NOBODY:
        assert kind != Wake.READ_OWNED, "the caller reads, so nobody writes"
        if now_ns > threads[head].deadline_ns:
            _ask_for_handoff(lock, threads)
    else:
        if kind != Wake.READ_OWNED:
            lock.owner = head
            lock.reader_owned = 1
        _grant_readers(lock, threads)
        lock.handoff = 0


@compiled
def leave_queue(lock, threads, thread, now_ns):
    """Take a killed waiter out of the queue; if it was the head, the next one gets a chance."""
    lock.woken = NOBODY
    was_head = lock.first == thread
    _dequeue(lock, threads, thread)
    if lock.first == NOBODY:
        lock.handoff = 0
    elif was_head:
        wake(lock, threads, now_ns, Wake.ANY)


@compiled
def may_spin(lock, owner_runs):
    """Whether a writer spins instead of queueing.

    Parameters
    ----------
    owner_runs
        Whether the writer that owns the lock is on a CPU; of no meaning without one.
    """
    if lock.nonspinnable == 1:
        return False
    return lock.owner == NOBODY or lock.reader_owned == 1 or owner_runs


@compiled
def timeout_ns(config, now_ns):
    """Return for how long a waiter is not expired: jiffies are counted, not nanoseconds."""
    last_jiffy = now_ns // config.jiffy_ns + config.rwsem_timeout_jiffies
    return (last_jiffy + 1) * config.jiffy_ns - 1 - now_ns


@compiled
def reader_spin_ns(readers):
    """Return how long the first spinner watches so many readers."""
    return (20 + min(readers, 30)) * 500


@compiled
def join_spinners(lock, threads, thread):
    """Line up to spin; only the first spinner looks at the lock."""
    threads[thread].behind = NOBODY
    if lock.spin_first == NOBODY:
        lock.spin_first = thread
    else:
        threads[lock.spin_last].behind = thread
    lock.spin_last = thread


@compiled
def leave_spinners(lock, threads, thread):
    """Stop spinning, wherever in the line; a new first spinner starts its own watch."""
    before = _before(threads, lock.spin_first, thread)
    behind = threads[thread].behind
    if before == NOBODY:
        lock.spin_first = behind
        lock.spins_on_readers = 0
    else:
        threads[before].behind = behind
    if behind == NOBODY:
        lock.spin_last = before


@compiled
def _may_steal(lock):
    """Whether the lock is free and not promised to the head of its queue."""
    return lock.readers == 0 and lock.writer == NOBODY and lock.handoff == 0


@compiled
def _hold_read(lock, thread):
    lock.readers += 1
    lock.owner = thread
    lock.reader_owned = 1


@compiled
def _hold_write(lock, thread):
    lock.writer = thread
    lock.owner = thread
    lock.reader_owned = 0
    lock.nonspinnable = 0


@compiled
def _wake_if_not_written(lock, threads, now_ns):
    """Make up for a wake-up that went by before the caller was queued."""
    if lock.writer != NOBODY:
        return
    if lock.readers > 0:
        wake(lock, threads, now_ns, Wake.READERS)
    else:
        lock.nonspinnable = 0
        wake(lock, threads, now_ns, Wake.ANY)


@compiled
def _ask_for_handoff(lock, threads):
    lock.handoff = 1
    threads[lock.first].handoff_set = 1


@compiled
def _grant_readers(lock, threads):
    """Let in the readers of the queue, past its writers, and chain them in `woken`."""
    granted = 0
    granted_last = NOBODY
    stays = NOBODY
    waiter = lock.first
    while waiter != NOBODY and granted < READERS_WOKEN_MAX:
        behind = threads[waiter].behind
        if threads[waiter].wants_write == 1:
            stays = waiter
        else:
            _unlink(lock, threads, stays, waiter)
            if granted_last == NOBODY:
                lock.woken = waiter
            else:
                threads[granted_last].behind = waiter
            granted_last = waiter
            granted += 1
        waiter = behind
    lock.readers += granted


@compiled
def _remove_from_woken(lock, threads, thread):
    """Take the caller out of those who were woken; True if it was one of the readers.

    It is not the first of them: readers are woken with the head of the queue, and the
    caller queued behind somebody.
    """
    if lock.woken == NOBODY or threads[lock.woken].wants_write == 1:
        return False
    before = lock.woken
    while before != NOBODY and threads[before].behind != thread:
        before = threads[before].behind
    if before == NOBODY:
        return False
    threads[before].behind = threads[thread].behind
    return True


@compiled
def _queue(lock, threads, thread, wants_write, deadline_ns):
    threads[thread].wants_write = wants_write
    threads[thread].deadline_ns = deadline_ns
    threads[thread].handoff_set = 0
    threads[thread].behind = NOBODY
    if lock.first == NOBODY:
        lock.first = thread
    else:
        threads[lock.last].behind = thread
    lock.last = thread


@compiled
def _dequeue(lock, threads, thread):
    _unlink(lock, threads, _before(threads, lock.first, thread), thread)


@compiled
def _unlink(lock, threads, before, waiter):
    behind = threads[waiter].behind
    if before == NOBODY:
        lock.first = behind
    else:
        threads[before].behind = behind
    if behind == NOBODY:
        lock.last = before
    threads[waiter].behind = NOBODY


@compiled
def _before(threads, first, thread):
    """Return who stands before a thread in the line that begins with `first`, or NOBODY."""
    before = NOBODY
    at = first
    while at != thread:
        assert at != NOBODY, "the thread stands in this line"
        before = at
        at = threads[at].behind
    return before
