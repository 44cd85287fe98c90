"""hugetlb_fault_mutex_table: one fault at a time on each huge page, and on all of one hash.

Who lets go of a mutex hands it to who has waited longest; nobody spins for one or steals it,
which the kernel's mutexes let them. No wait for one can be killed, and the fault lock is held
meanwhile.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine import blame, sched
from faultlane_server.engine.draw import mix
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import Cause, Waits

FILE_SHIFT = 40  # of the file's number, above that of the page


@compiled
def number_of(world, file, file_page):
    """Return the mutex of a page of a file (hugetlb_fault_mutex_hash)."""
    word = mix(np.uint64((file << FILE_SHIFT) + file_page))
    return np.int64(word & np.uint64(world.config.fault_mutexes - 1))


@compiled
def lock(world, thread, now_ns, step):
    """Take the mutex of the fault's page; returns whether it is held.

    Otherwise the thread sleeps, holds it when it is woken, and goes on with `step`.
    """
    fault = world.threads[thread]
    number = number_of(world, fault.file, fault.file_page)
    mutex = world.hugetlb.mutexes[number]
    fault.fault_mutex = number + 1
    if mutex.holder == NOBODY:
        mutex.holder = thread
        return True
    fault.behind = NOBODY
    if mutex.first == NOBODY:
        mutex.first = thread
    else:
        world.threads[mutex.last].behind = thread
    mutex.last = thread
    kind = np.int64(Waits.FAULT_MUTEX)
    blame.wait_for_thread(world, thread, kind, np.int64(mutex.holder), now_ns)
    sched.block(world, thread, now_ns, Cause.FAULT_MUTEX, mutex.holder, step)
    return False


@compiled
def unlock(world, thread, now_ns):
    """Hand the mutex of the fault on to who has waited longest for it."""
    fault = world.threads[thread]
    mutex = world.hugetlb.mutexes[fault.fault_mutex - 1]
    assert mutex.holder == thread, "a fault mutex is let go by who holds it"
    fault.fault_mutex = 0
    heir = mutex.first
    mutex.holder = heir
    if heir != NOBODY:
        mutex.first = world.threads[heir].behind
        blame.handed_over(world, np.int64(mutex.first), np.int64(heir), now_ns)
        sched.wake_from(world, heir, thread, now_ns)


@compiled
def is_free(world, file, file_page):
    """Whether no fault is under way on a page, nor on another one of its hash."""
    return world.hugetlb.mutexes[number_of(world, file, file_page)].holder == NOBODY
