"""mremap of a whole mapping: it grows where it is, moves, or is cut short as munmap does.

A move takes the entries of all its pages along, one by one, under mmap_lock for write: the old
VMA is write-locked, the new one is inserted so, and the old one goes without a downgrade. Here
entries stay where they are kept, and only the address of their VMA changes.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, page_table
from faultlane_server.engine.ops import munmap


@compiled
def plan(world, thread):
    """Plan the next change; returns whether there is one."""
    caller = world.threads[thread]
    if not caller.op_resolved:
        _resolve(world, caller)
        if not caller.op_downgrades:
            _plan_change(world, caller)
            return True
    return caller.op_downgrades != 0 and munmap.plan(world, thread)


@compiled
def _asked(world, caller):
    return world.instructions[caller.op_pc]


@compiled
def _resolve(world, caller):
    """Find out, with mmap_lock held, what the name stands for, and what is to be done with it."""
    region = world.regions[caller.op_region]
    asked = _asked(world, caller)
    pages = asked.new_pages if asked.new_pages > 0 else region.pages
    caller.op_start = caller.op_base + region.shift
    caller.op_end = caller.op_start + region.pages
    caller.op_at = caller.op_start
    if pages < region.pages and not asked.moves:
        caller.op_start += pages
        caller.op_at = caller.op_start
        caller.op_downgrades = 1
        region.pages = pages
    caller.op_next = caller.op_base + region.shift + pages
    caller.op_resolved = 1


@compiled
def _plan_change(world, caller):
    """Plan to grow or move the one VMA that there is, or to fail."""
    cost = world.config.cost
    slot = _found(world, caller)
    caller.locks_count = 0
    caller.work_ns = cost.mremap_ns
    if slot == NOBODY:
        return
    caller.locks[0] = slot
    caller.locks_count = 1
    if not _asked(world, caller).moves:
        return
    vma = world.vmas[slot]
    pages = caller.op_end - caller.op_start
    present = page_table.count_present(world, vma.pte + (caller.op_start - vma.start), pages)
    splits = address_space.cuts(vma, caller.op_start, caller.op_end)
    caller.work_ns += present * cost.mremap_page_ns + splits * cost.vma_split_ns


@compiled
def _found(world, caller):
    """Return the VMA that has all of the mapping and can change as asked, or NOBODY.

    Nothing else may lie where it grows to; what moves leaves nothing of its name behind.
    """
    region = world.regions[caller.op_region]
    slot = address_space.find(world, caller.mm, caller.op_start)
    if slot == NOBODY or world.vmas[slot].end < caller.op_end or region.pages == 0:
        return NOBODY
    moves = _asked(world, caller).moves
    if not moves and caller.op_next == caller.op_end:
        return NOBODY
    end = caller.op_start + region.room if moves else caller.op_next
    in_the_way = address_space.next_in(world, caller.mm, caller.op_end, end)
    return slot if in_the_way == NOBODY else NOBODY


@compiled
def apply(world, thread):
    """Grow or move the VMA; or cut what is to be unmapped."""
    caller = world.threads[thread]
    if caller.op_downgrades:
        munmap.apply(world, thread)
        return
    slot = _found(world, caller)
    if slot == NOBODY:
        return
    region = world.regions[caller.op_region]
    if _asked(world, caller).moves:
        _move(world, caller, slot, region)
    else:
        world.vmas[slot].end = caller.op_next
    region.pages = caller.op_next - caller.op_start


@compiled
def _move(world, caller, slot, region):
    """Let a new VMA at the other place have the entries, as many as there is room for."""
    slot = address_space.cut_to(world, slot, caller.op_start, caller.op_end)
    old = world.vmas[slot]
    if caller.op_next < caller.op_end:
        page_table.zap(world, old, caller.op_next, caller.op_end)
    shift = region.away if region.shift == 0 else 0
    by = shift - region.shift
    moved = address_space.new_slot(world)
    vma = world.vmas[moved]
    address_space.copy(vma, old)
    vma.start = caller.op_start + by
    vma.end = caller.op_next + by
    address_space.remove(world, slot)
    address_space.insert(world, moved)
    region.shift = shift
