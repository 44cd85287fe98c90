"""kswapd: a kernel thread that frees pages while there are fewer than the high watermark.

It runs on the CPUs like any other thread, behind those of the scenario.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import mglru, reclaim
from faultlane_server.engine.world import EVERYBODY, Cause, Step

CLUSTER = 32  # SWAP_CLUSTER_MAX
FAILURES_MAX = 16  # MAX_RECLAIM_RETRIES: then it sleeps, and leaves it to those who allocate


@compiled
def run(world, thread, now_ns):
    """Reclaim a little, or sleep until somebody finds that pages are short."""
    row = world.threads[thread]
    if world.frames_free >= world.config.frames_high or row.charge_tries >= FAILURES_MAX:
        row.charge_tries = 0
        row.idle = 1
        sched.block(world, thread, now_ns, Cause.PROGRAM, NOBODY, Step.KSWAPD)
        return
    freed = reclaim.shrink(world, thread, EVERYBODY, CLUSTER, now_ns)
    if freed > 0:
        row.charge_tries = 0
    else:
        row.charge_tries += 1
        aged = mglru.memcg_to_age(world, EVERYBODY)
        if aged != NOBODY and not mglru.age(world, thread, aged, now_ns, Step.KSWAPD):
            return
    sched.burst(world, thread, now_ns, 0, Step.KSWAPD)
