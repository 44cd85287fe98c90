"""munmap: every VMA of the range is drained and detached, then its pages are zapped.

The second part runs under the downgraded lock (vms_complete_munmap_vmas). The entries are
cleared when the VMA is detached, and the time that takes is spent afterwards.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, hugetlb, page_table


@compiled
def plan(world, thread):
    """Plan the next VMA of the range; returns whether there is one."""
    caller = world.threads[thread]
    base_ns = world.config.cost.munmap_ns
    if plan_next(world, thread):
        if caller.op_at == caller.op_start:
            caller.work_ns += base_ns
        return True
    caller.work_ns = base_ns  # of a call that found nothing to unmap, once
    return caller.op_at == caller.op_start


@compiled
def plan_next(world, thread):
    """Plan to cut the next VMA to the range; returns whether there is one."""
    caller = world.threads[thread]
    caller.locks_count = 0
    slot = next_of(world, caller)
    if slot == NOBODY:
        return False
    splits = address_space.cuts(world.vmas[slot], caller.op_start, caller.op_end)
    caller.locks[0] = slot
    caller.locks_count = 1
    caller.work_ns = splits * address_space.split_ns(world, slot)
    return True


@compiled
def next_of(world, caller):
    """Return the next VMA that lies in the range, or NOBODY."""
    return address_space.next_in(world, caller.mm, caller.op_at, caller.op_end)


@compiled
def apply(world, thread):
    """Cut the VMA to the range."""
    caller = world.threads[thread]
    slot = next_of(world, caller)
    if slot == NOBODY:
        caller.op_at = caller.op_end
        return
    slot = address_space.cut_to(world, slot, caller.op_start, caller.op_end)
    caller.op_at = world.vmas[slot].end


@compiled
def detach(world, thread):
    """Take all VMAs of the range out; returns whether there were any."""
    caller = world.threads[thread]
    caller.op_at = caller.op_start
    slot = next_of(world, caller)
    any_were = slot != NOBODY
    while slot != NOBODY:
        vma = world.vmas[slot]
        page_table.zap(world, vma, vma.start, vma.end)
        page_table.free_tables(world, vma)
        hugetlb.release(world, vma)
        address_space.remove(world, slot)
        slot = next_of(world, caller)
    return any_were


@compiled
def zap_ns(world, thread):
    """Return what clearing the pages of the range costs."""
    caller = world.threads[thread]
    cost = world.config.cost
    return cost.munmap_zap_ns + (caller.op_end - caller.op_start) * cost.munmap_page_ns
