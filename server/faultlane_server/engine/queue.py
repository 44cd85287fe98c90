"""What will happen, soonest first: a tournament between the CPUs, and a heap for all else.

A CPU has one event at most, so each has a place of its own: a leaf of a binary tree in
which every node holds the sooner one of the two below it. A new event of a CPU is played
against its neighbours up to the top, which moves nothing and guesses nothing. It takes
the place of the one before, if that was given up. Reads and timers stand in a flat 4-ary
heap.

An entry's key holds the number of its push, then what it is and whose: so two
entries never compare equal, and what was scheduled first happens first. A test may
choose another entry, once: of those that are due at the same time, or a later one that
goes past them.

What stands in the heap reaches the CPUs by interrupts. These may be held up, until a time
that can be moved (`opens_ns`): what is due before happens then.
"""

from enum import IntEnum

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled, lesser
from faultlane_server.engine.world import QUEUE_MAX

ID_BITS = 24
KIND_BITS = 2
KEY_BITS = ID_BITS + KIND_BITS
PUSHES_MAX = 1 << (63 - KEY_BITS)
NEVER_NS = (1 << 63) - 1
NO_CHOICE = -1  # less than any key


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


def prepare(queue, cpus):
    """Make an empty queue for some CPUs."""
    queue.leaves = 1 << (cpus - 1).bit_length()
    queue.tree["time_ns"] = NEVER_NS
    queue.heap[0].time_ns = NEVER_NS
    queue.free_cpu = NOBODY
    queue.chosen = NO_CHOICE


@compiled
def push(queue, time_ns, kind, ident):
    """Schedule an event, and return its key. A CPU's event replaces the one that it had."""
    assert queue.pushes < PUSHES_MAX, "more events than keys"
    key = (queue.pushes << KEY_BITS) | (kind << ID_BITS) | ident
    queue.pushes += 1
    if kind == Kind.CPU:
        if queue.free_cpu == ident:
            queue.free_cpu = NOBODY
        _play(queue.tree, queue.leaves + ident, time_ns, key)
    else:
        _add(queue, time_ns, key)
    return key


@compiled
def pop(queue):
    """Take the soonest entry out: its time and its key."""
    soonest_ns(queue)
    return take(queue)


@compiled
def take(queue):
    """Take the entry out whose time `soonest_ns` has told: its time and its key.

    Its place stays free until the next push, which mostly follows at once.
    """
    if queue.chosen != NO_CHOICE:
        return _take_chosen(queue)
    of_cpu, top = queue.tree[1], queue.heap[0]
    time_ns = max(top.time_ns, queue.opens_ns)
    if _sooner(of_cpu.time_ns, of_cpu.key, time_ns, top.key):
        queue.free_cpu = id_of(of_cpu.key)
        return of_cpu.time_ns, of_cpu.key
    queue.entries -= 1
    queue.top_is_free = 1
    return time_ns, top.key


@compiled
def _take_chosen(queue):
    """Take out the entry that a test has chosen: it happens when the soonest one would."""
    key = queue.chosen
    queue.chosen = NO_CHOICE
    time_ns = soonest_ns(queue)
    if kind_of(key) == Kind.CPU:
        queue.free_cpu = id_of(key)
        assert queue.tree[queue.leaves + id_of(key)].key == key, "what is chosen is scheduled"
        return time_ns, key
    place = 0
    while place < queue.entries - 1 and queue.heap[place].key != key:
        place += 1
    assert queue.heap[place].key == key, "what is chosen is scheduled"
    _rise(queue.heap, place, time_ns, NO_CHOICE)
    queue.entries -= 1
    queue.top_is_free = 1
    return time_ns, key


@compiled
def soonest_ns(queue):
    """Return the time of the soonest entry, or NEVER_NS if there is none."""
    if queue.free_cpu != NOBODY:
        _play(queue.tree, queue.leaves + queue.free_cpu, NEVER_NS, 0)
        queue.free_cpu = NOBODY
    if queue.top_is_free:
        _fill_top(queue)
    return min(queue.tree[1].time_ns, max(queue.heap[0].time_ns, queue.opens_ns))


@compiled
def _play(tree, place, time_ns, key):
    """Put an entry into its place, and let the sooner one of each pair go up."""
    tree[place].time_ns = time_ns
    tree[place].key = key
    while place > 1:
        other = tree[place ^ 1]
        time_ns, key = lesser(time_ns, key, other.time_ns, other.key)
        place >>= 1
        tree[place].time_ns = time_ns
        tree[place].key = key


@compiled
def _add(queue, time_ns, key):
    """Put an entry into the heap."""
    assert queue.entries < QUEUE_MAX, "the queue of events is full"
    queue.entries += 1
    if queue.top_is_free:
        queue.top_is_free = 0
        _sink(queue.heap, queue.entries, time_ns, key)
    else:
        _rise(queue.heap, queue.entries - 1, time_ns, key)


@compiled
def _fill_top(queue):
    """Let the last entry of the heap fill its free top."""
    queue.top_is_free = 0
    last = queue.heap[queue.entries]
    _sink(queue.heap, queue.entries, last.time_ns, last.key)
    if queue.entries == 0:
        queue.heap[0].time_ns = NEVER_NS


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
