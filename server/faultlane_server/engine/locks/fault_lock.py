"""The fault lock: whichever of the VMA lock and mmap_lock an attempt runs under."""

from faultlane_server.codes import FaultLock
from faultlane_server.engine import blame, sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock, vma_lock
from faultlane_server.engine.locks.word import strike
from faultlane_server.engine.tally import acquired, held
from faultlane_server.engine.world import Drain, Locks, Step


@compiled
def try_vma(world, thread, slot, now_ns):
    """Try to lock a VMA for read; it never waits."""
    fault = world.threads[thread]
    vma = world.vmas[slot]
    mm_seq = world.mms[fault.mm].seq
    if vma_lock.is_write_locked(vma, mm_seq):
        assert mm_seq & 1, "a VMA is write-locked only while mmap_lock is held for write"
    else:
        strike(world, thread, vma.word, now_ns)
    if not vma_lock.start_read(vma, mm_seq, thread):
        world.tally.locks[Locks.VMA_READ].contended += 1
        return False
    fault.held = FaultLock.VMA
    fault.held_since_ns = now_ns
    acquired(world, Locks.VMA_READ, 0, False)
    return True


@compiled
def release(world, thread, now_ns):
    """Let go of the fault lock."""
    if world.threads[thread].held == FaultLock.VMA:
        _release_vma(world, thread, now_ns)
    else:
        mmap_lock.unlock_read(world, thread, now_ns)


@compiled
def _release_vma(world, thread, now_ns):
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    held(world, Locks.VMA_READ, now_ns - fault.held_since_ns)
    fault.held = 0
    blame.leaves_vma(world, vma, thread)
    strike(world, thread, vma.word, now_ns)
    if not vma_lock.end_read(vma):
        if vma.drain != Drain.NONE:
            blame.vma_changed(world, vma, now_ns)
        return
    writer = vma.drainer
    world.threads[writer].waits_for = thread
    if vma.drain == Drain.SPINNING:
        vma_lock.stamp(vma, world.mms[vma.mm].seq)
        sched.stop_spinning(world, writer, now_ns, Step.DRAINED)
    else:
        sched.wake_from(world, writer, thread, now_ns)
