"""When nothing can be reclaimed: a process is killed (mm/oom_kill.c).

The victim has the most pages that the memcg is charged for, or the machine. It is killed at once,
its memory is free when its threads have ended. Nobody is killed while a victim is still dying.
"""

import numpy as np

from faultlane_server.codes import NOBODY, SignalKind
from faultlane_server.engine import signals
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import EVERYBODY, Counter, ThreadState


@compiled
def kill(world, thread, short, now_ns):
    """Kill a process, or wait for the one that is dying; returns whether there is any."""
    count(world, Counter.MEMCG_OOM, 1)
    if _is_dying(world, short):
        return True
    victim = _victim(world, short)
    if victim == NOBODY:
        return False
    count(world, Counter.MEMCG_OOM_KILL, 1)
    for other in range(world.config.threads):
        if world.threads[other].mm == victim:
            signals.send(world, other, SignalKind.FATAL, now_ns)
    return True


@compiled
def _is_dying(world, short):
    for thread in range(world.config.threads):
        row = world.threads[thread]
        if row.killed and row.state != ThreadState.DONE and _is_in(world, row.mm, short):
            return True
    return False


@compiled
def _is_in(world, mm, short):
    return short == EVERYBODY or world.mms[mm].memcg == short


@compiled
def _victim(world, short):
    """Return the process with the most pages, among those that may be killed, or NOBODY."""
    victim = NOBODY
    most = -1
    for mm in range(world.config.processes):
        row = world.mms[mm]
        if not row.unkillable and row.users > 0 and _is_in(world, mm, short):
            if row.pages > most:
                most = row.pages
                victim = mm
    return np.int64(victim)
