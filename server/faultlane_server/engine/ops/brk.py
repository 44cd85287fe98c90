"""brk: the end of the heap moves, up as an mmap of anonymous memory, or down as a munmap."""

from faultlane_server.codes import NOBODY, Advice
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space
from faultlane_server.engine.memory.page_table import READ, WRITE
from faultlane_server.engine.ops import munmap


@compiled
def plan(world, thread):
    """Plan the next change; returns whether there is one."""
    caller = world.threads[thread]
    if not caller.op_resolved:
        _resolve(world, caller)
        if not caller.op_downgrades:
            _plan_growth(world, caller)
            return True
    return caller.op_downgrades != 0 and munmap.plan(world, thread)


@compiled
def _resolve(world, caller):
    """Find out, with mmap_lock held, where the heap ends: what lies between is to change."""
    region = world.regions[caller.op_region]
    pages = world.instructions[caller.op_pc].new_pages
    start = caller.op_base + region.shift
    caller.op_start = start + min(pages, region.pages)
    caller.op_end = start + max(pages, region.pages)
    caller.op_at = caller.op_start
    if pages < region.pages:
        caller.op_downgrades = 1
        region.pages = pages
    caller.op_resolved = 1


@compiled
def _plan_growth(world, caller):
    """Plan to expand the VMA that the heap ends with, if it can be expanded."""
    caller.work_ns = world.config.cost.brk_ns
    caller.locks_count = 0
    slot = _before(world, caller)
    if slot != NOBODY and _is_free(world, caller):
        caller.locks[0] = slot
        caller.locks_count = 1


@compiled
def _is_free(world, caller):
    """Whether the heap grows, and nothing is mapped where it grows to."""
    if caller.op_end == caller.op_start:
        return False
    return address_space.next_in(world, caller.mm, caller.op_start, caller.op_end) == NOBODY


@compiled
def _before(world, caller):
    """Return the VMA that the heap ends with, if it is as a heap is at first, or NOBODY."""
    slot = address_space.find(world, caller.mm, caller.op_start - 1)
    if slot == NOBODY:
        return NOBODY
    vma = world.vmas[slot]
    is_heap = vma.open == NOBODY and vma.pte + (caller.op_start - vma.start) == _pte(world, caller)
    is_plain = vma.advice == Advice.NORMAL and vma.traits == 0
    return slot if is_heap and is_plain and vma.protection == READ | WRITE else NOBODY


@compiled
def _pte(world, caller):
    """Return the page-table entry where the heap ended."""
    region = world.regions[caller.op_region]
    return caller.op_pte + (caller.op_start - (caller.op_base + region.shift))


@compiled
def apply(world, thread):
    """Expand the heap, or make a new VMA behind it; or cut what is to be unmapped."""
    caller = world.threads[thread]
    if caller.op_downgrades:
        munmap.apply(world, thread)
        return
    if not _is_free(world, caller):
        return
    slot = _before(world, caller)
    if slot == NOBODY:
        _insert(world, caller)
    else:
        world.vmas[slot].end = caller.op_end
    world.regions[caller.op_region].pages += caller.op_end - caller.op_start


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
    vma.pte = _pte(world, caller)
    vma.protection = READ | WRITE
    vma.advice = Advice.NORMAL
    vma.seq = world.mms[caller.mm].seq
    address_space.insert(world, slot)
