"""Locks outside a world, and a rwsem that is driven by hand: for stories about locks."""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.locks import rwsem
from faultlane_server.engine.locks.rwsem import Wake
from faultlane_server.engine.world import Folio, Rwsem, Thread, Vma, free_rwsem

TIMEOUT_NS = 4_000_000


def idle_threads(count):
    return np.zeros(count, Thread).view(np.recarray)


def a_free_rwsem():
    lock = np.zeros(1, Rwsem).view(np.recarray)[0]
    free_rwsem(lock)
    return lock


def a_free_vma():
    vma = np.zeros(1, Vma).view(np.recarray)[0]
    vma.seq = -1
    vma.drainer = vma.reader = NOBODY
    return vma


def a_free_folio():
    folio = np.zeros(1, Folio).view(np.recarray)[0]
    folio.holder = folio.first = folio.last = NOBODY
    return folio


def some(thread):
    """Return a thread as a number, and NOBODY as None."""
    return None if thread == NOBODY else int(thread)


def line(threads, first):
    """Return who stands in the line that begins with `first`."""
    found = []
    while first != NOBODY:
        found.append(int(first))
        first = threads[first].behind
    return found


def woken(lock, threads):
    """Return whom the last call on a rwsem woke: readers that hold it, or one writer."""
    if lock.woken == NOBODY or threads[lock.woken].wants_write == 1:
        return [] if lock.woken == NOBODY else [int(lock.woken)]
    return line(threads, lock.woken)


class RwsemStory:
    """A rwsem, its threads and a clock. What wakes returns who was woken."""

    def __init__(self, threads=16):
        self.lock = a_free_rwsem()
        self.threads = idle_threads(threads)
        self.now_ns = 0

    def wait_longer_than_the_timeout(self):
        self.now_ns += TIMEOUT_NS + 1

    @property
    def state(self):
        """R, flags and [queue]: the notation of the kernel model."""
        lock = self.lock
        flags = {
            "W": lock.writer != NOBODY,
            "WAIT": lock.first != NOBODY,
            "HO": lock.handoff == 1,
            "NONSPINNABLE": lock.nonspinnable == 1,
        }
        queue = line(self.threads, lock.first)
        return int(lock.readers), " ".join(name for name in flags if flags[name]), queue

    @property
    def owner(self):
        return some(self.lock.owner), "READER_OWNED" if self.lock.reader_owned else ""

    @property
    def woken(self):
        return woken(self.lock, self.threads)

    def handoff_set(self, thread):
        return self.threads[thread].handoff_set == 1

    def down_read(self, thread):
        return rwsem.read(self.lock, self.threads, thread, self.now_ns, TIMEOUT_NS)

    def try_read(self, thread):
        return rwsem.try_read(self.lock, thread)

    def up_read(self):
        return self.wake() if rwsem.release_read(self.lock) else []

    def try_write(self, thread):
        return rwsem.try_write(self.lock, thread)

    def steal(self, thread):
        return rwsem.steal_write(self.lock, thread)

    def queue_write(self, thread):
        return rwsem.queue_write(self.lock, self.threads, thread, self.now_ns, TIMEOUT_NS)

    def retry(self, thread):
        return rwsem.retry_write(self.lock, self.threads, thread, self.now_ns)

    def up_write_without_wake(self):
        return rwsem.release_write(self.lock)

    def up_write(self):
        return self.wake() if self.up_write_without_wake() else []

    def downgrade(self, thread):
        return self.wake(Wake.READ_OWNED) if rwsem.downgrade(self.lock, thread) else []

    def wake(self, kind=Wake.ANY):
        rwsem.wake(self.lock, self.threads, self.now_ns, kind)
        return self.woken

    def kill(self, thread):
        rwsem.leave_queue(self.lock, self.threads, thread, self.now_ns)
        return self.woken

    def may_spin(self, owner_runs):
        return rwsem.may_spin(self.lock, owner_runs)

    def spin(self, thread):
        rwsem.join_spinners(self.lock, self.threads, thread)

    def stop_spinning(self, thread):
        rwsem.leave_spinners(self.lock, self.threads, thread)
