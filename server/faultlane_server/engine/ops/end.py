"""The end of an address space, by execve(2) or because its last thread has ended (exit_mmap).

All pages are unmapped under mmap_lock for read, and then the VMAs go under mmap_lock for write;
none of them is write-locked. Nobody else has the address space any more, but for who reads about
it in /proc.
"""

import numpy as np

from faultlane_server.codes import OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space, hugetlb, page_table
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import Counter, Step


@compiled
def begin(world, thread, now_ns):
    """Begin the end of a process: its last thread has ended."""
    caller = world.threads[thread]
    entry.begin_kind(world, thread, np.int64(OperationKind.EXIT), now_ns)
    caller.op_start = 0
    caller.op_end = 0
    sched.burst(world, thread, now_ns, world.config.cost.exit_ns, Step.EXIT_LOCK)


@compiled
def exec_lock(world, thread, now_ns):
    """Take mmap_lock of the old address space for read; a fatal signal ends the wait."""
    sched.owe(world, thread, world.config.cost.exec_ns)
    if mmap_lock.lock_read(world, thread, now_ns, Step.EXEC_HELD, Step.WRITE_KILLED):
        exec_held(world, thread, now_ns)


@compiled
def exec_held(world, thread, now_ns):
    """Hold it for a moment."""
    sched.burst(world, thread, now_ns, world.config.cost.mmap_lock_ns, Step.EXEC_DONE)


@compiled
def exec_done(world, thread, now_ns):
    """Leave the old address space, which ends."""
    mmap_lock.unlock_read(world, thread, now_ns)
    world.threads[thread].op_killable = 0
    sched.burst(world, thread, now_ns, world.config.cost.exit_ns, Step.EXIT_LOCK)


@compiled
def lock(world, thread, now_ns):
    """Take mmap_lock for read."""
    if mmap_lock.lock_read(world, thread, now_ns, Step.EXIT_HELD, Step.NOTHING):
        held(world, thread, now_ns)


@compiled
def held(world, thread, now_ns):
    """Pay for the pages, with mmap_lock held for read."""
    mm = world.threads[thread].mm
    count(world, Counter.ADDRESS_SPACES_ENDED, 1)
    present = 0
    for place in range(world.mms[mm].order_count):
        vma = world.vmas[address_space.slot_at(world, mm, place)]
        present += page_table.count_present(world, vma.pte, vma.end - vma.start)
    spent_ns = present * world.config.cost.exit_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.EXIT_UNMAPPED)


@compiled
def unmapped(world, thread, now_ns):
    """Unmap the pages, let go of mmap_lock, and take it for write."""
    mm = world.threads[thread].mm
    for place in range(world.mms[mm].order_count):
        vma = world.vmas[address_space.slot_at(world, mm, place)]
        page_table.zap(world, vma, vma.start, vma.end)
    mmap_lock.unlock_read(world, thread, now_ns)
    sched.burst(world, thread, now_ns, 0, Step.WRITE_LOCK)


@compiled
def plan(world, thread):
    """Plan to free all VMAs; returns whether there are any."""
    caller = world.threads[thread]
    vmas = world.mms[caller.mm].order_count
    caller.locks_count = 0
    caller.work_ns = vmas * world.config.cost.exit_vma_ns
    return vmas > 0


@compiled
def apply(world, thread):
    """Free all VMAs."""
    mm = world.threads[thread].mm
    while world.mms[mm].order_count > 0:
        place = world.mms[mm].order_count - 1
        slot = address_space.slot_at(world, mm, place)
        vma = world.vmas[slot]
        page_table.zap(world, vma, vma.start, vma.end)
        hugetlb.release(world, vma)
        address_space.remove(world, slot)
