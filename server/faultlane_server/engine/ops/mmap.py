"""mmap of anonymous memory or of a file, at a place of its own or over what is there (MAP_FIXED).

A new VMA is inserted write-locked, and nothing else is. One that merges becomes part of its
neighbours (vma_merge_new_range): they are write-locked, which waits for their readers. So is
everything that a new VMA lies over, which is unmapped first, without a downgrade.
"""

from faultlane_server.codes import NOBODY, Advice
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, hugetlb
from faultlane_server.engine.ops import munmap
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import VM_NORESERVE, Counter


@compiled
def plan(world, thread):
    """Plan the next change; returns whether there is one."""
    caller = world.threads[thread]
    if caller.op_resolved:
        return False
    if _asked(world, caller).fixed:
        _plan_over(world, thread)
        return True
    caller.work_ns = _insert_ns(world, caller)
    caller.locks_count = 0
    for neighbour in (_before(world, caller), _after(world, caller)):
        if neighbour != NOBODY:
            caller.locks[caller.locks_count] = neighbour
            caller.locks_count += 1
            caller.work_ns += world.config.cost.vma_merge_ns
    return True


@compiled
def _asked(world, caller):
    return world.instructions[caller.op_pc]


@compiled
def _insert_ns(world, caller):
    cost = world.config.cost
    is_file = _asked(world, caller).open != NOBODY
    return cost.mmap_ns + (cost.mmap_file_ns if is_file else 0)


@compiled
def _plan_over(world, thread):
    """Plan to cut the next VMA in the way, or to clear them all away and insert the new one."""
    caller = world.threads[thread]
    if caller.op_at == caller.op_start:
        _look_where_it_is(world, caller)
    if munmap.plan_next(world, thread):
        return
    caller.work_ns = _insert_ns(world, caller)
    if caller.op_at > caller.op_start:
        caller.work_ns += munmap.zap_ns(world, thread)


@compiled
def _look_where_it_is(world, caller):
    """Find the range: what the name stands for may have moved since the call."""
    pages = caller.op_end - caller.op_start
    caller.op_start = caller.op_base + world.regions[caller.op_region].shift
    caller.op_end = caller.op_start + pages
    caller.op_at = caller.op_start


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
    is_plain = vma.advice == Advice.NORMAL and vma.traits == 0
    return is_next and is_plain and vma.protection == caller.op_protection


@compiled
def apply(world, thread):
    """Insert the new VMA, or let its neighbours grow; or cut what is in the way."""
    caller = world.threads[thread]
    if _asked(world, caller).fixed:
        if munmap.next_of(world, caller) != NOBODY:
            munmap.apply(world, thread)
            return
        munmap.detach(world, thread)
        _insert(world, caller)
    else:
        _grow(world, caller)
    caller.op_resolved = 1


@compiled
def _grow(world, caller):
    before = _before(world, caller)
    after = _after(world, caller)
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
    asked = _asked(world, caller)
    if asked.huge_base >= 0 and not _reserve(world, caller):
        return
    slot = address_space.new_slot(world)
    vma = world.vmas[slot]
    vma.mm = caller.mm
    vma.start = caller.op_start
    vma.end = caller.op_end
    vma.open = NOBODY
    vma.private = asked.private
    vma.file_kind = 0
    vma.offset = 0
    vma.pte = caller.op_pte
    vma.protection = caller.op_protection
    vma.advice = Advice.NORMAL
    if asked.open != NOBODY:
        _map_file(world, caller, vma)
    vma.traits = asked.sets
    vma.seq = world.mms[caller.mm].seq
    address_space.insert(world, slot)


@compiled
def _reserve(world, caller):
    """Reserve the huge pages of a new mapping; returns whether there are enough (ENOMEM)."""
    asked = _asked(world, caller)
    if asked.sets & VM_NORESERVE:
        return True
    first = world.config.anon_first + caller.op_pte
    if not asked.private:
        first = world.files[world.opens[asked.open].file].first + asked.offset
    if hugetlb.reserve(world, first, caller.op_end - caller.op_start):
        return True
    count(world, Counter.HUGETLB_REFUSED, 1)
    return False


@compiled
def _map_file(world, caller, vma):
    """Let the new VMA map its file, through a struct file that may be a new one."""
    asked = _asked(world, caller)
    vma.open = asked.open + (caller.index if asked.own_open else 0)
    vma.offset = asked.offset + (caller.index * asked.thread_pages if asked.own_offset else 0)
    opened = world.opens[vma.open]
    vma.file_kind = world.files[opened.file].kind
    if asked.opens:
        opened.ra_start = 0
        opened.ra_size = 0
        opened.ra_async = 0
        opened.mmap_miss = 0
        device_id = world.files[opened.file].device_id
        opened.ra_pages = world.devices[device_id].ra_pages if device_id != NOBODY else 0
