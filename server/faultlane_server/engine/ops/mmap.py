"""mmap of private anonymous memory, at a place of its own or beside a neighbour.

A new VMA is inserted write-locked, and nothing else is. One that merges becomes part of its
neighbours (vma_merge_new_range): they are write-locked, which waits for their readers.
"""

from faultlane_server.codes import NOBODY, Advice, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space

READ_WRITE = (1 << Protection.READ) | (1 << Protection.WRITE)


@compiled
def plan(world, thread):
    """Plan the one change; returns whether it is still to be made."""
    caller = world.threads[thread]
    caller.work_ns = world.config.cost.mmap_ns
    caller.locks_count = 0
    for neighbour in (_before(world, caller), _after(world, caller)):
        if neighbour != NOBODY:
            caller.locks[caller.locks_count] = neighbour
            caller.locks_count += 1
            caller.work_ns += world.config.cost.vma_merge_ns
    return caller.op_at < caller.op_end


@compiled
def _before(world, caller):
    """Return the VMA that ends where the new one begins, if they become one, or NOBODY."""
    place = address_space.place_of(world, caller.mm, caller.op_start)
    slot = address_space.slot_at(world, caller.mm, place - 1)
    if slot == NOBODY or world.vmas[slot].end != caller.op_start:
        return NOBODY
    return slot if _is_alike(world, caller, world.vmas[slot]) else NOBODY


@compiled
def _after(world, caller):
    """Return the VMA that begins where the new one ends, if they become one, or NOBODY.

    It stays by itself if the one before has other pages of anonymous memory (anon_vma).
    """
    place = address_space.place_of(world, caller.mm, caller.op_end)
    slot = address_space.slot_at(world, caller.mm, place)
    if slot == NOBODY or world.vmas[slot].start != caller.op_end:
        return NOBODY
    before = _before(world, caller)
    if before != NOBODY and not address_space.may_share(world, before, slot):
        return NOBODY
    return slot if _is_alike(world, caller, world.vmas[slot]) else NOBODY


@compiled
def _is_alike(world, caller, vma):
    """Whether a neighbour may become one with the new VMA."""
    if not caller.op_merges or vma.open != NOBODY:
        return False
    is_next = vma.pte + (caller.op_start - vma.start) == caller.op_pte
    if vma.uffd or vma.lowest >= 0:
        return False
    return is_next and vma.protection == READ_WRITE and vma.advice == Advice.NORMAL


@compiled
def apply(world, thread):
    """Insert the new VMA, or let its neighbours grow."""
    caller = world.threads[thread]
    before = _before(world, caller)
    after = _after(world, caller)
    caller.op_at = caller.op_end
    if before != NOBODY and after != NOBODY:
        end = world.vmas[after].end
        address_space.share_anon_vma(world, after, before)
        address_space.remove(world, after)
        world.vmas[before].end = end
    elif before != NOBODY:
        world.vmas[before].end = caller.op_end
    elif after != NOBODY:
        address_space.move_start(world, after, caller.op_start)
    else:
        _insert(world, caller)


@compiled
def _insert(world, caller):
    slot = address_space.new_slot(world)
    vma = world.vmas[slot]
    vma.mm = caller.mm
    vma.start = caller.op_start
    vma.end = caller.op_end
    vma.open = NOBODY
    vma.private = 1
    vma.file_kind = 0
    vma.offset = 0
    vma.pte = caller.op_pte
    vma.protection = READ_WRITE
    vma.advice = Advice.NORMAL
    vma.seq = world.mms[caller.mm].seq
    address_space.insert(world, slot)
