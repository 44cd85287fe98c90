"""Charging pages to memcgs and to the machine, and what happens when there are no more.

A page is charged before it is used; who has it in hand goes on at once. Over memory.max, and
when the machine is short, the thread that asks reclaims. What it reclaims is gone at once, and
the time that takes is owed. When nothing can be reclaimed it asks again when that is over; if the
machine is short, or pages have to be written first, it sleeps before.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import charges, mglru, oom, reclaim
from faultlane_server.engine.memory.charges import BATCH
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import EVERYBODY, NOT_SHORT, Cause, Counter

# What asking for a page comes to.
WAITS = 0  # the thread pays for what it has done, or sleeps, and asks again
GOT = 1  # it has the page in hand
FAILED = 2  # there is none

RETRIES_MAX = 16  # MAX_RECLAIM_RETRIES
CLUSTER = 32  # SWAP_CLUSTER_MAX
AGINGS_MAX = 4  # in a row: by then all that can be evicted has been looked at (MAX_NR_GENS)
PRECISION_SHIFT = 20  # MEMCG_DELAY_PRECISION_SHIFT
SCALING_SHIFT = 14  # MEMCG_DELAY_SCALING_SHIFT
OVERAGE_MAX = 1 << 30  # a thousand times the limit: its square still fits
DELAY_SECONDS_MAX = 2  # MEMCG_MAX_HIGH_DELAY_JIFFIES is 2 HZ
NS_IN_SECOND = 10**9
FORGIVEN_PART = 100  # a penalty of HZ / 100 or less is forgiven


@compiled
def charge(world, thread, now_ns, step):
    """Charge one page to the memcg of a thread, with all that takes (try_charge_memcg).

    Returns GOT, FAILED or WAITS. In the last case the thread does `step` next, which asks again.
    """
    row = world.threads[thread]
    if world.config.limits_memory == 0 or row.in_hand:
        return GOT
    short = charges.take(world, thread, now_ns)
    while short != NOT_SHORT:
        if row.killed:
            charges.take_by_force(world, thread)
            break
        outcome = _make_room(world, thread, short, now_ns, step)
        if outcome != GOT:
            return outcome
        short = charges.take(world, thread, now_ns)
    row.in_hand = 1
    row.charge_tries = 0
    row.stocks_drained = 0
    if row.over_high > BATCH and throttle(world, thread, now_ns, step):
        return WAITS
    return GOT


@compiled
def _make_room(world, thread, short, now_ns, step):
    """Reclaim where pages are short; GOT means that it is worth asking again."""
    row = world.threads[thread]
    if reclaim.shrink(world, thread, short, CLUSTER, now_ns) > 0:
        row.agings = 0
        return GOT
    aged = mglru.memcg_to_age(world, short)
    if aged != NOBODY and row.agings < AGINGS_MAX:
        row.agings += 1
        return GOT if mglru.age(world, thread, aged, now_ns, step) else WAITS
    row.agings = 0
    if not row.stocks_drained:
        row.stocks_drained = 1
        charges.drain_all_stocks(world)
        return GOT
    row.charge_tries += 1
    if row.charge_tries > RETRIES_MAX:
        row.charge_tries = 0
        row.stocks_drained = 0
        if not oom.kill(world, thread, short, now_ns):
            return FAILED
        _sleep_a_jiffy(world, thread, now_ns, step)
    elif short == EVERYBODY or row.met_writeback or row.reclaim_owed_ns == 0:
        _sleep_a_jiffy(world, thread, now_ns, step)
    else:
        sched.burst(world, thread, now_ns, 0, step)
    return WAITS


@compiled
def _sleep_a_jiffy(world, thread, now_ns, step):
    """Sleep because nothing could be reclaimed, or while a victim is dying (reclaim_throttle).

    Who reclaims in a memcg sleeps only if that is congested with pages that have to be written,
    and goes on at once otherwise (shrink_node, consider_reclaim_throttle); but not on a machine
    where looking costs nothing, as it would look for ever.
    """
    until_ns = now_ns + world.config.jiffy_ns
    world.threads[thread].timer = push(world.queue, until_ns, Kind.TIMER, thread)
    sched.block(world, thread, now_ns, Cause.RECLAIM, NOBODY, step)


@compiled
def charge_weakly(world, thread, now_ns):
    """Charge one page for readahead (__GFP_NORETRY): two passes of reclaim at most, no sleep.

    Returns whether the thread has it in hand.
    """
    if world.config.limits_memory == 0:
        return True
    assert world.threads[thread].in_hand == 0, "a page in hand is used before the next is charged"
    short = charges.take(world, thread, now_ns)
    if short != NOT_SHORT:
        reclaim.shrink(world, thread, short, CLUSTER, now_ns)
        short = charges.take(world, thread, now_ns)
    if short != NOT_SHORT:
        charges.drain_all_stocks(world)
        reclaim.shrink(world, thread, short, CLUSTER, now_ns)
        short = charges.take(world, thread, now_ns)
    if short != NOT_SHORT:
        count(world, Counter.READAHEAD_STOPPED, 1)
        return False
    world.threads[thread].in_hand = 1
    return True


@compiled
def throttle(world, thread, now_ns, step):
    """Make a thread pay for charging over memory.high (mem_cgroup_handle_over_high).

    It reclaims, and sleeps if that was not enough. Returns whether it sleeps; it does `step`
    next.
    """
    row = world.threads[thread]
    memcg = world.mms[row.mm].memcg
    pages = row.over_high
    row.over_high = 0
    tries = RETRIES_MAX
    freed = reclaim.shrink(world, thread, memcg, max(pages, CLUSTER), now_ns)
    delay_ns = _delay_ns(world, memcg, pages)
    while delay_ns > NS_IN_SECOND // FORGIVEN_PART and (freed > 0 or tries > 0):
        if freed == 0:
            tries -= 1
        freed = reclaim.shrink(world, thread, memcg, CLUSTER, now_ns)
        delay_ns = _delay_ns(world, memcg, pages)
    if delay_ns <= NS_IN_SECOND // FORGIVEN_PART or row.killed:
        return False
    count(world, Counter.HIGH_DELAYS, 1)
    row.timer = push(world.queue, now_ns + delay_ns, Kind.TIMER, thread)
    sched.block(world, thread, now_ns, Cause.THROTTLE, NOBODY, step)
    row.killed_step = step
    return True


@compiled
def _delay_ns(world, memcg, pages):
    """Return how long charging some pages over memory.high is punished (calculate_high_delay)."""
    group = world.memcgs[memcg]
    if group.usage <= group.pages_high:
        return 0
    overage = ((group.usage - group.pages_high) << PRECISION_SHIFT) // max(group.pages_high, 1)
    overage = min(overage, OVERAGE_MAX)
    hz = NS_IN_SECOND // world.config.jiffy_ns
    jiffies = (overage * overage >> PRECISION_SHIFT) * hz >> SCALING_SHIFT
    jiffies = min(jiffies * pages // BATCH, DELAY_SECONDS_MAX * hz)
    return jiffies * world.config.jiffy_ns
