"""What will happen, soonest first: a flat 4-ary heap.

An entry's key holds the number of its push, then what it is and whose: so two
entries never compare equal, and what was scheduled first happens first.
"""

from enum import IntEnum

from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import QUEUE_MAX

ID_BITS = 24
KIND_BITS = 2
KEY_BITS = ID_BITS + KIND_BITS
PUSHES_MAX = 1 << (63 - KEY_BITS)


class Kind(IntEnum):
    """What an entry is."""

    CPU = 0  # the burst of a CPU ends
    READ = 1  # a read completes; the id is that of its first folio
    TIMER = 2  # a sleep ends; the id is that of the thread
    WRITE = 3  # a write completes; the id is that of its first folio


@compiled
def kind_of(key):
    return (key >> ID_BITS) & ((1 << KIND_BITS) - 1)


@compiled
def id_of(key):
    return key & ((1 << ID_BITS) - 1)


@compiled
def push(queue, time_ns, kind, ident):
    """Schedule an event, and return its key."""
    assert queue.entries < QUEUE_MAX, "the queue of events is full"
    assert queue.pushes < PUSHES_MAX, "more events than keys"
    key = (queue.pushes << KEY_BITS) | (kind << ID_BITS) | ident
    queue.pushes += 1
    queue.entries += 1
    if queue.top_is_free:
        queue.top_is_free = 0
        _sink(queue.heap, queue.entries, time_ns, key)
    else:
        _rise(queue.heap, queue.entries - 1, time_ns, key)
    return key


@compiled
def pop(queue):
    """Take the soonest entry out: its time and its key.

    Its place stays free until the next push, which mostly follows at once.
    """
    soonest_ns(queue)
    top = queue.heap[0]
    queue.entries -= 1
    queue.top_is_free = 1
    return top.time_ns, top.key


@compiled
def soonest_ns(queue):
    """Return the time of the soonest entry; there has to be one."""
    if queue.top_is_free:
        queue.top_is_free = 0
        last = queue.heap[queue.entries]
        _sink(queue.heap, queue.entries, last.time_ns, last.key)
    return queue.heap[0].time_ns


@compiled
def _rise(heap, hole, time_ns, key):
    """Put an entry where it belongs, from a free place at the end up."""
    while hole > 0:
        parent = (hole - 1) >> 2
        if not _sooner(time_ns, key, heap[parent].time_ns, heap[parent].key):
            break
        heap[hole].time_ns = heap[parent].time_ns
        heap[hole].key = heap[parent].key
        hole = parent
    heap[hole].time_ns = time_ns
    heap[hole].key = key


@compiled
def _sink(heap, entries, time_ns, key):
    """Put an entry where it belongs, from the free top down."""
    hole = 0
    child = 1
    while child < entries:
        soonest = child
        for other in range(child + 1, min(child + 4, entries)):
            if _is_sooner(heap[other], heap[soonest]):
                soonest = other
        if _sooner(time_ns, key, heap[soonest].time_ns, heap[soonest].key):
            break
        heap[hole].time_ns = heap[soonest].time_ns
        heap[hole].key = heap[soonest].key
        hole = soonest
        child = 4 * hole + 1
    heap[hole].time_ns = time_ns
    heap[hole].key = key


@compiled
def _is_sooner(one, other):
    return _sooner(one.time_ns, one.key, other.time_ns, other.key)


@compiled
def _sooner(time_ns, key, other_ns, other_key):
    return time_ns < other_ns or (time_ns == other_ns and key < other_key)
