"""Where a wish for another thread on a CPU becomes a switch."""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.ops import writer
from faultlane_server.engine.world import Cause, ThreadState


@compiled
def make_room(world, cpu, now_ns):
    """Let another thread have a CPU, if it is to and the one that runs can be left here.

    Returns whether that was all there was to do: otherwise the thread does its step.
    """
    row = world.cpus[cpu]
    if now_ns == row.until_ns:
        if not sched.may_give_way(world, row.thread) or not sched.is_to_leave(world, cpu, now_ns):
            return False
        _give_way(world, row.thread, now_ns)
        return True
    if not row.need_resched:
        if sched.tick_waits(world, cpu, now_ns):
            return True
        sched.tick(world, cpu, now_ns)
    if not sched.is_to_leave(world, cpu, now_ns):
        sched.carry_on(world, cpu, now_ns)
    elif world.threads[row.thread].state == ThreadState.SPINNING:
        _stop_watching(world, row.thread, now_ns)
    elif sched.can_be_cut_off(world, row.thread, now_ns):
        sched.cut_off(world, row.thread, now_ns)
        _give_way(world, row.thread, now_ns)
    else:
        sched.finish_burst(world, cpu)
    return True


@compiled
def _give_way(world, thread, now_ns):
    """Let a thread wait for a CPU; who spins because it runs learns that it does not."""
    mm = world.threads[thread].mm
    sched.give_way(world, thread, now_ns)
    if mm != NOBODY and world.mms[mm].mmap_lock.writer == thread:
        mmap_lock.owner_left_cpu(world, mm, now_ns)


@compiled
def _stop_watching(world, thread, now_ns):
    """Let a writer that spins see that it is to make room: it goes on to sleep."""
    if world.threads[thread].cause == Cause.VMA:
        writer.drain_expired(world, thread, now_ns)
    else:
        mmap_lock.stop_watching(world, thread, now_ns)
