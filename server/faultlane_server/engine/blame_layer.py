"""Lays what blame begins with: the ends of all chains, and nobody who waits."""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.blame import HIGHEST
from faultlane_server.engine.world import (
    ACTIVITIES_MAX,
    GROUPS_MAX,
    NODES_DIRECT,
    NODES_FIRST,
    NODES_UNKNOWN,
    Activity,
    Cause,
    Leaf,
    Waits,
)

NO_THREADS = GROUPS_MAX - 1  # the group of who is no thread

# Waits that no thread is to blame for: who is to blame instead, and the cause that they have.
DIRECT = {
    Waits.FOLIO_FILE: (Activity.DEVICE, Cause.DEVICE),
    Waits.FOLIO_ANON: (Activity.DEVICE, Cause.DEVICE),
    Waits.FOLIO_SWAP: (Activity.DEVICE, Cause.DEVICE),
    Waits.WRITEBACK: (Activity.DEVICE, Cause.WRITEBACK),
    Waits.THROTTLE: (Activity.PAUSE, Cause.THROTTLE),
    Waits.RECLAIM: (Activity.PAUSE, Cause.RECLAIM),
    Waits.USERFAULTFD: (Activity.MONITOR, Cause.USERFAULTFD),
}


def lay_blame(world: np.record, crowds: list[range]) -> None:
    """Lay the first nodes, and give each group of threads its number.

    Groups for which there are no numbers have the last one together.
    """
    world.blame.slot_free = NOBODY
    nodes = world.blame.nodes
    nodes["key"][:NODES_FIRST] = -1
    nodes["lowest"][:NODES_FIRST] = HIGHEST
    nodes["priority"][:NODES_FIRST] = HIGHEST
    for kind in Waits:
        unknown, direct = nodes[NODES_UNKNOWN + kind], nodes[NODES_DIRECT + kind]
        unknown.kind = direct.kind = kind
        unknown.holder = NO_THREADS * ACTIVITIES_MAX + Activity.UNKNOWN
        unknown.tail = Leaf.NO_ROOM
        holder, direct.tail = DIRECT.get(kind, (Activity.UNKNOWN, Leaf.NO_ROOM))
        direct.holder = NO_THREADS * ACTIVITIES_MAX + holder
    for number, crowd in enumerate(crowds):
        group = min(number, NO_THREADS - 1)
        world.threads["group"][crowd.start : crowd.stop] = group


def no_waits(threads: np.ndarray) -> None:
    """Let threads wait for nothing, and be to blame for nothing."""
    threads["slot"] = NOBODY
    threads["blamed_first"] = NOBODY
