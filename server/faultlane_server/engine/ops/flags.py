"""mprotect, madvise and UFFDIO_REGISTER: VMAs are split and merged as their flags ask for.

For each VMA of the range (vma_modify_flags, mprotect_fixup): what changes is merged into
a neighbour that is like it, else it is split off. Every VMA that is changed, absorbed or
moved is write-locked first; one whose flags stay as they are is not touched. There is no
downgrade.
"""

from faultlane_server.codes import NOBODY, OperationKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, page_table


@compiled
def plan(world, thread):
    """Plan the change of the next VMA; returns whether there is one."""
    caller = world.threads[thread]
    cost = world.config.cost
    base_ns = 0
    if caller.op_at == caller.op_start:
        base_ns = _base_ns(cost, caller)
    place = _next_place(world, caller)
    if place < 0:
        return _plan_nothing(caller, base_ns)
    slot = address_space.slot_at(world, caller.mm, place)
    before = _like_before(world, caller, place)
    after = _like_after(world, caller, place)
    caller.locks_count = 0
    _lock(caller, after)
    _lock(caller, before)
    _lock(caller, slot)
    merges = int(before != NOBODY) + int(after != NOBODY)
    caller.work_ns = base_ns + merges * cost.vma_merge_ns
    if merges == 0:
        cuts = address_space.cuts(world.vmas[slot], caller.op_start, caller.op_end)
        caller.work_ns += cuts * cost.vma_split_ns
    if _is_mprotect(caller):
        caller.work_ns += _present(world, caller, slot) * cost.mprotect_page_ns
    return True


@compiled
def _base_ns(cost, caller):
    if _is_mprotect(caller):
        return cost.mprotect_ns
    return cost.userfaultfd_register_ns if _is_register(caller) else cost.madvise_ns


@compiled
def _is_register(caller):
    return caller.op_kind == OperationKind.USERFAULTFD_REGISTER


@compiled
def _is_mprotect(caller):
    return caller.op_kind == OperationKind.MPROTECT


@compiled
def _new_protection(caller, vma):
    return caller.op_protection if _is_mprotect(caller) else vma.protection


@compiled
def _new_advice(caller, vma):
    return caller.op_advice if caller.op_kind == OperationKind.MADVISE else vma.advice


@compiled
def _new_uffd(caller, vma):
    return vma.uffd | caller.op_modes if _is_register(caller) else vma.uffd


@compiled
def _changes(caller, vma):
    """Whether the operation changes the flags of a VMA."""
    if _new_protection(caller, vma) != vma.protection:
        return True
    if _new_uffd(caller, vma) != vma.uffd:
        return True
    return _new_advice(caller, vma) != vma.advice


@compiled
def _plan_nothing(caller, work_ns):
    """Pay for a call that found nothing to change, once."""
    caller.locks_count = 0
    caller.work_ns = work_ns
    return caller.op_at == caller.op_start


@compiled
def _next_place(world, caller):
    """Return the place of the next VMA in the range whose flags change, or -1.

    A hole ends the call, as ENOMEM ends the kernel's: what lies before it has changed.
    """
    place = address_space.place_of(world, caller.mm, caller.op_at)
    covered = caller.op_at
    while covered < caller.op_end:
        slot = address_space.slot_at(world, caller.mm, place)
        if slot == NOBODY or world.vmas[slot].start > covered:
            return -1
        if _changes(caller, world.vmas[slot]):
            return place
        covered = world.vmas[slot].end
        place += 1
    return -1


@compiled
def _lock(caller, slot):
    if slot != NOBODY:
        caller.locks[caller.locks_count] = slot
        caller.locks_count += 1


@compiled
def _like_before(world, caller, place):
    """Return the VMA before a place if what changes can be merged into it, or NOBODY."""
    slot = address_space.slot_at(world, caller.mm, place)
    before = address_space.slot_at(world, caller.mm, place - 1)
    if world.vmas[slot].start < caller.op_start:
        return NOBODY
    return _if_alike(world, caller, before, slot, slot, before)


@compiled
def _like_after(world, caller, place):
    """Return the VMA behind a place if what changes can be merged into it, or NOBODY."""
    slot = address_space.slot_at(world, caller.mm, place)
    after = address_space.slot_at(world, caller.mm, place + 1)
    if world.vmas[slot].end > caller.op_end:
        return NOBODY
    before = _like_before(world, caller, place)
    if before != NOBODY and after != NOBODY and not address_space.may_share(world, before, after):
        return NOBODY
    return _if_alike(world, caller, slot, after, slot, after)


@compiled
def _if_alike(world, caller, left, right, slot, neighbour):
    if not address_space.continues(world, left, right):
        return NOBODY
    vma, other = world.vmas[slot], world.vmas[neighbour]
    is_alike = (
        other.protection == _new_protection(caller, vma)
        and other.advice == _new_advice(caller, vma)
        and other.uffd == _new_uffd(caller, vma)
    )
    return neighbour if is_alike else NOBODY


@compiled
def _present(world, caller, slot):
    """Return how many pages of the range are mapped in a VMA."""
    vma = world.vmas[slot]
    start = max(vma.start, caller.op_start)
    end = min(vma.end, caller.op_end)
    return page_table.count_present(world, vma.pte + (start - vma.start), end - start)


@compiled
def apply(world, thread):
    """Change the next VMA, as planned."""
    caller = world.threads[thread]
    place = _next_place(world, caller)
    if place < 0:
        caller.op_at = caller.op_end
        return
    slot = address_space.slot_at(world, caller.mm, place)
    vma = world.vmas[slot]
    start = max(vma.start, caller.op_start)
    end = min(vma.end, caller.op_end)
    pte = vma.pte + (start - vma.start)
    if _is_mprotect(caller):
        page_table.protect(world, vma, pte, end - start, caller.op_protection)
    _reshape(world, caller, place, slot, start, end)
    caller.op_at = end


@compiled
def _reshape(world, caller, place, slot, start, end):
    """Merge [start, end) of a VMA into what is like it, or split it off."""
    before = _like_before(world, caller, place)
    after = _like_after(world, caller, place)
    address_space.share_anon_vma(world, slot, before)
    address_space.share_anon_vma(world, slot, after)
    if before != NOBODY and after != NOBODY:
        address_space.share_anon_vma(world, after, before)
        end = world.vmas[after].end
        address_space.remove(world, slot)
        address_space.remove(world, after)
        world.vmas[before].end = end
    elif before != NOBODY:
        address_space.cut_front(world, slot, end)
        world.vmas[before].end = end
    elif after != NOBODY:
        address_space.cut_back(world, slot, start)
        address_space.move_start(world, after, start)
    else:
        if world.vmas[slot].start < start:
            slot = address_space.split(world, slot, start)
        if world.vmas[slot].end > end:
            address_space.split(world, slot, end)
        vma = world.vmas[slot]
        vma.protection, vma.advice = _new_protection(caller, vma), _new_advice(caller, vma)
        vma.uffd = _new_uffd(caller, vma)
