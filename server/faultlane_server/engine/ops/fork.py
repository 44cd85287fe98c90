"""fork: every VMA of the parent is write-locked, one after another, and stays so to the end.

dup_mmap drains the readers of a VMA, duplicates it, and copies the entries of its anonymous
memory, which the parent shares from then on. The child has its copy for some time, and does
nothing with it.
"""

from faultlane_server.codes import NOBODY, ForkSkips
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, hugetlb, page_table
from faultlane_server.engine.world import VM_DONTCOPY, VM_WIPEONFORK


@compiled
def plan(world, thread):
    """Plan the copy of the next VMA; returns whether there is one."""
    caller = world.threads[thread]
    cost = world.config.cost
    slot = _next(world, caller)
    caller.work_ns = cost.fork_ns if caller.op_at == 0 else 0
    caller.locks_count = 0
    if slot == NOBODY:
        return caller.op_at == 0
    vma = world.vmas[slot]
    if not vma.traits & VM_DONTCOPY:
        caller.work_ns += cost.fork_vma_ns
    if _has_its_pages_copied(vma):
        copied = page_table.count_anonymous(world, vma.pte, vma.end - vma.start)
        caller.work_ns += copied * cost.fork_page_ns
    if not _is_skipped(world.config.fork_skips, vma):
        caller.locks[0] = slot
        caller.locks_count = 1
    return True


@compiled
def _next(world, caller):
    place = address_space.place_of(world, caller.mm, caller.op_at)
    return address_space.slot_at(world, caller.mm, place)


@compiled
def _has_its_pages_copied(vma):
    """Whether the child gets the pages of a VMA that are anonymous memory (vma_needs_copy)."""
    return vma.anon_vma != 0 and not vma.traits & (VM_DONTCOPY | VM_WIPEONFORK)


@compiled
def _is_skipped(skips, vma):
    """Whether a VMA is not write-locked, in kernels that nobody has built."""
    if skips == ForkSkips.NOTHING or vma.open == NOBODY:
        return False
    return skips == ForkSkips.ALL_BUT_ANONYMOUS or vma.anon_vma == 0


@compiled
def apply(world, thread, now_ns):
    """Share the memory of the VMA with the child."""
    caller = world.threads[thread]
    mm = world.mms[caller.mm]
    hugetlb.take_back_from_children(world, caller.mm)
    mm.children_until_ns = max(mm.children_until_ns, now_ns + caller.op_child_ns)
    slot = _next(world, caller)
    if slot == NOBODY:
        caller.op_at = 1  # there was nothing to copy
        return
    vma = world.vmas[slot]
    if _has_its_pages_copied(vma):
        page_table.share(world, vma.pte, vma.end - vma.start)
    caller.op_at = vma.end
