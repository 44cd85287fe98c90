"""madvise(MADV_DONTNEED): the pages of a range are unmapped under mmap_lock for read.

The wait for the lock cannot be killed.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space, page_table
from faultlane_server.engine.ops import entry
from faultlane_server.engine.world import Step


@compiled
def lock(world, thread, now_ns):
    """Take mmap_lock for read."""
    if mmap_lock.lock_read(world, thread, now_ns, Step.READ_HELD, Step.NOTHING):
        held(world, thread, now_ns)


@compiled
def held(world, thread, now_ns):
    """Pay for the range, with mmap_lock held for read."""
    caller = world.threads[thread]
    cost = world.config.cost
    spent_ns = cost.madvise_ns + (caller.op_end - caller.op_start) * cost.madvise_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.READ_DONE)


@compiled
def apply(world, thread, now_ns):
    """Unmap the pages, and let go of mmap_lock."""
    caller = world.threads[thread]
    place = address_space.place_of(world, caller.mm, caller.op_start)
    slot = address_space.slot_at(world, caller.mm, place)
    while slot != NOBODY and world.vmas[slot].start < caller.op_end:
        vma = world.vmas[slot]
        page_table.zap(world, vma, max(vma.start, caller.op_start), min(vma.end, caller.op_end))
        place += 1
        slot = address_space.slot_at(world, caller.mm, place)
    mmap_lock.unlock_read(world, thread, now_ns)
    entry.leave(world, thread, now_ns)
