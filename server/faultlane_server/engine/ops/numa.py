"""A scan of NUMA balancing (task_numa_work): pages that are mapped become hints.

mmap_lock is only tried: if it cannot be had for read at once, nothing is done.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import PTE_NUMA, PTE_PRESENT, Counter, Step


@compiled
def scan(world, thread, now_ns):
    """Try mmap_lock for read, and pay for the range."""
    caller = world.threads[thread]
    if not mmap_lock.try_lock_read(world, thread, now_ns):
        entry.leave(world, thread, now_ns)
        return
    cost = world.config.cost
    spent_ns = cost.numa_scan_ns + (caller.op_end - caller.op_start) * cost.numa_scan_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.NUMA_SCANNED)


@compiled
def scanned(world, thread, now_ns):
    """Make the hints, and let go of mmap_lock."""
    caller = world.threads[thread]
    slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_end)
    while slot != NOBODY:
        vma = world.vmas[slot]
        start, end = max(vma.start, caller.op_at), min(vma.end, caller.op_end)
        if vma.protection:
            _hint(world, vma.pte + (start - vma.start), end - start)
        caller.op_at = vma.end
        slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_end)
    mmap_lock.unlock_read(world, thread, now_ns)
    entry.leave(world, thread, now_ns)


@compiled
def _hint(world, first, pages):
    for pte in range(first, first + pages):
        if world.ptes[pte] & (PTE_PRESENT | PTE_NUMA) == PTE_PRESENT:
            world.ptes[pte] |= PTE_NUMA
            count(world, Counter.NUMA_HINTS, 1)
