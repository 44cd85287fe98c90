"""Cold caches: a CPU that has not done some kind of work for a while does it more slowly.

The less lately a CPU handled a fault, the more of what the next one needs was displaced from its
caches and TLBs; the same holds for operations on the address space. What that costs grows as a
power of the time since it left off (the power law of cache misses; Hartstein et al., "Cache miss
behavior: is it sqrt(2)?", 2006), and is paid with the first work after the switch. The power is
1/4: direct reads of null block devices that take 0.1 to 16 ms, the calibration of the parallel
guest, are late by 80 to 130 us, whichever of them it is, which a square root would not allow.
"""

from faultlane_server.engine.jit import compiled

AWAY_MAX_NS = 1 << 24  # after about 17 ms nothing that is needed is left in a cache
ROOT_SHIFT = 10  # the fourth root is taken times 2^5
ROOT_OF_A_MILLISECOND = 1011  # of its nanoseconds


@compiled
def switched(cost, cpu, thread, now_ns, ns):
    """Note that a CPU begins to work for a thread; returns how much longer the switch takes.

    How cold the CPU is depends on when it did such work last.
    """
    kind = thread.operates
    away_ns = min(now_ns - cpu.worked_ns[kind], AWAY_MAX_NS)
    thread.cold_left_ns = cost.cold_work_ns
    thread.cold_ns = cost.cold_ns * _fourth_root(away_ns) // ROOT_OF_A_MILLISECOND
    return ns * thread.cold_ns // cost.cold_work_ns


@compiled
def left_off(cpu, thread, now_ns):
    """Note that a CPU has worked for a thread until now."""
    cpu.worked_ns[thread.operates] = now_ns


@compiled
def extra_ns(cost, thread, ns):
    """Return how much longer some work takes because the caches are cold."""
    cold_ns = min(ns, thread.cold_left_ns)
    thread.cold_left_ns -= cold_ns
    return cold_ns * thread.cold_ns // cost.cold_work_ns


@compiled
def _fourth_root(number):
    return _root(_root(number) << ROOT_SHIFT)


@compiled
def _root(number):
    """Return the integer square root of a number below 2^26."""
    root = 0
    bit = 1 << 12
    while bit > 0:
        if (root + bit) * (root + bit) <= number:
            root += bit
        bit >>= 1
    return root
