"""Interrupts that wait for an emulator.

A guest's timers and devices reach it through a thread of its emulator. If there are as many CPUs
of the guest as of the host, that thread has none while all of them work: then interrupts, ticks
too, wait until a CPU of the guest is idle or interrupts another one (for a wake-up, or to flush
its TLB), or until chance gives the thread one. `interrupt_wait` is how long chance takes, on
average. It is assumed to have no memory, so that time is exponential. Where it is 0, interrupts
strike when they are due.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import draw
from faultlane_server.engine.draw import Purpose
from faultlane_server.engine.jit import compiled


@compiled
def can_wait(world):
    """Whether interrupts ever wait on this machine."""
    return world.config.cost.interrupt_wait_ns > 0


@compiled
def are_shut_out(world, next_ns):
    """Let interrupts wait from now on, if all CPUs work and those that were due are through.

    Returns whether that was so: then what happens next may be something else.
    """
    if world.idle_first != NOBODY or next_ns <= world.queue.opens_ns:
        return False
    world.times_shut_out += 1
    bits = draw.word(world.config.seed, Purpose.INTERRUPT, 0, world.times_shut_out)
    wait_ns = draw.exponential(bits, world.config.cost.interrupt_wait_ns)
    world.queue.opens_ns = world.now_ns + wait_ns
    return True
