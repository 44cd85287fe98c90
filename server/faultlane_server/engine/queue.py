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
    hole = queue.entries
    queue.entries += 1
    heap = queue.heap
    while hole > 0:
        parent = (hole - 1) >> 2
        if not _sooner(time_ns, key, heap[parent]):
            break
        heap[hole].time_ns = heap[parent].time_ns
        heap[hole].key = heap[parent].key
        hole = parent
    heap[hole].time_ns = time_ns
    heap[hole].key = key
    return key


@compiled
def pop(queue):
    """Take the soonest entry out: its time and its key."""
    heap = queue.heap
    time_ns, key = heap[0].time_ns, heap[0].key
    queue.entries -= 1
    _sink(heap, queue.entries)
    return time_ns, key


@compiled
def _sink(heap, entries):
    """Put the last entry where it belongs, from the root down."""
    moved = heap[entries]
    hole = 0
    child = 1
    while child < entries:
        soonest = child
        for other in range(child + 1, min(child + 4, entries)):
            if _sooner(heap[other].time_ns, heap[other].key, heap[soonest]):
                soonest = other
        if not _sooner(heap[soonest].time_ns, heap[soonest].key, moved):
            break
        heap[hole].time_ns = heap[soonest].time_ns
        heap[hole].key = heap[soonest].key
        hole = soonest
        child = 4 * hole + 1
    heap[hole].time_ns = moved.time_ns
    heap[hole].key = moved.key


@compiled
def _sooner(time_ns, key, entry):
    return time_ns < entry.time_ns or (time_ns == entry.time_ns and key < entry.key)
