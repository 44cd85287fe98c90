"""What blame has found, written down: who waited for whom, how often, how long, and through what.

Tables of fixed length, looked up by hashing. The first row of each is for what there is no room
for, so no wait is lost. Nothing here decides anything: a run would go the same way without it.

Waits count if their fault or operation began after the warm-up, as in the logs.
"""

import numpy as np

from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import (
    ACTIVITIES_MAX,
    CHAINS_MAX,
    EDGES_MAX,
    INSTANCES_MAX,
    NODES_FIRST,
    NODES_MAX,
    NODES_UNKNOWN,
    Cause,
    ThreadState,
)

PROBES_MAX = 32
NO_ROOM = 0  # the row for what there is no room for
KEPT_BITS = (1 << 28) - 1
ODD = 0x9E3779B1  # scatters 28 bits over 60
CLASS_BITS = 14
KIND_BITS = 4
NODE_BITS = 12
INSTANCE_BITS = 32


@compiled
def place_of(rows, key, first, places):
    """Return the row of a key among a power of two of places, which may be free, or NO_ROOM."""
    spread = ((key ^ (key >> 17)) & KEPT_BITS) * ODD
    at = spread >> 16
    for probe in range(PROBES_MAX):
        place = first + (at + probe & places - 1)
        if rows[place].key == key or rows[place].key == 0:
            return place
    return NO_ROOM


@compiled
def counts(world, row):
    """Whether the waits of a thread are part of what was measured."""
    if not (row.in_fault or row.in_operation):
        return False
    return row.begin_ns >= world.config.warmup_ns


@compiled
def chain(world, waiter, node, ns, is_aside):
    """Write down that a class waited for so long, and what was in its way all the time.

    Returns the row of the chain.
    """
    key = 1 + (waiter << NODE_BITS | node)
    place = place_of(world.blame.chains, key, 1, CHAINS_MAX)
    row = world.blame.chains[place]
    if row.key == 0:
        row.key = key
        row.waiter = waiter
        row.node = node
    _add(row, ns)
    if is_aside:
        row.aside_waits += 1
        row.aside_ns += ns
    return place


@compiled
def _add(row, ns):
    """Count a wait, or a part of one."""
    row.waits += 1
    row.wait_ns += ns
    row.wait_ns_max = max(row.wait_ns_max, ns)


@compiled
def direct(world, thread, waiter, node, now_ns, ns):
    """Write down a wait that no thread is to blame for: its chain tells all there is to tell."""
    if chain(world, waiter, node, ns, False) == NO_ROOM:
        in_full(world, thread, waiter, node, now_ns, ns)


@compiled
def in_full(world, thread, waiter, node, now_ns, ns):
    """Write down a wait that had one chain, beside the chain."""
    link = world.blame.nodes[node]
    edge(world, waiter, link.kind, link.holder, ns)
    wait(world, thread, waiter, now_ns, ns, 0)


@compiled
def edge(world, waiter, kind, holder, ns):
    """Write down for how long a class waited for another one."""
    key = 1 + ((waiter << KIND_BITS | kind) << CLASS_BITS | holder)
    row = world.blame.edges[place_of(world.blame.edges, key, 1, EDGES_MAX)]
    if row.key == 0:
        row.key = key
        row.waiter = waiter
        row.kind = kind
        row.holder = holder
    _add(row, ns)


@compiled
def wait(world, thread, waiter, now_ns, ns, inverted_ns):
    """Write down what a wait was to who waited."""
    sleeper = world.threads[thread]
    row = world.blame.waiters[waiter]
    _add(row, ns)
    if sleeper.state == ThreadState.BLOCKED and sleeper.cause != Cause.USERFAULTFD:
        row.asleep_ns += ns
        row.asleep_ns_max = max(row.asleep_ns_max, now_ns - sleeper.blocked_ns)
    row.inverted_ns += inverted_ns
    if inverted_ns > row.inverted_ns_max:
        row.inverted_ns_max = inverted_ns
        row.inverted_thread = thread


@compiled
def contended(world, lock, instance, waited_ns):
    """Write down how long was waited for one of many locks, until it was acquired."""
    if not world.warm:
        return
    key = 1 + (lock << INSTANCE_BITS | instance)
    row = world.blame.instances[place_of(world.blame.instances, key, 1, INSTANCES_MAX)]
    if row.key == 0:
        row.key = key
        row.lock = lock
        row.instance = instance
    row.contended += 1
    row.wait_ns += waited_ns
    row.wait_ns_max = max(row.wait_ns_max, waited_ns)


@compiled
def node_of(world, kind, holder, priority, tail):
    """Return the node of a lock, of what its holder does, and of what is in its way.

    When there is no room for another one, this is where the chain ends.
    """
    key = 1 + (((holder << KIND_BITS | kind) << NODE_BITS | tail) << 8 | priority)
    nodes = world.blame.nodes
    place = place_of(nodes, key, NODES_FIRST, NODES_MAX)
    if place == NO_ROOM:
        return np.int64(NODES_UNKNOWN + kind)
    row = nodes[place]
    if row.key == 0:
        row.key = key
        row.kind = kind
        row.holder = holder
        row.priority = priority
        row.lowest = min(priority, nodes[tail].lowest)
        row.tail = tail
        row.depth = nodes[tail].depth + 1
    return np.int64(place)


@compiled
def class_of(group, activity):
    return np.int64(group * ACTIVITIES_MAX + activity)
