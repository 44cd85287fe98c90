"""What changes the flags of VMAs: mprotect, mlock, mbind, prctl, UFFDIO_REGISTER, some advice.

For each VMA of the range (vma_modify_flags, mprotect_fixup): what changes is merged into
a neighbour that is like it, else it is split off. Every VMA that is changed, absorbed or
moved is write-locked first; one whose flags stay as they are is not touched, but by mbind, which
looks at the pages of all. There is no downgrade.
"""

from faultlane_server.codes import NOBODY, Madvice, OperationKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, page_table
from faultlane_server.engine.memory.page_table import WRITE
from faultlane_server.engine.ops import populate
from faultlane_server.engine.world import VM_LOCKED


@compiled
def plan(world, thread):
    """Plan the change of the next VMA; returns whether there is one."""
    caller = world.threads[thread]
    cost = world.config.cost
    base_ns = _base_ns(cost, caller.op_kind) if caller.op_at == caller.op_start else 0
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
    caller.work_ns = base_ns + merges * address_space.merge_ns(world, slot)
    caller.work_ns += _pages_ns(world, caller, slot)
    if merges == 0 and _changes(world, caller, world.vmas[slot]):
        cuts = address_space.cuts(world.vmas[slot], caller.op_start, caller.op_end)
        caller.work_ns += cuts * address_space.split_ns(world, slot)
    return True


@compiled
def _base_ns(cost, kind):
    """Return what a call costs without its VMAs."""
    if kind == OperationKind.MPROTECT:
        return cost.mprotect_ns
    if kind == OperationKind.MLOCK:
        return cost.mlock_ns
    if kind == OperationKind.MUNLOCK:
        return cost.munlock_ns
    if kind == OperationKind.MBIND:
        return cost.mbind_ns
    if kind == OperationKind.USERFAULTFD_REGISTER:
        return cost.userfaultfd_register_ns
    return cost.prctl_ns if kind == OperationKind.PRCTL else cost.madvise_ns


@compiled
def _pages_ns(world, caller, slot):
    """Return what it costs to go through the pages of the range in a VMA."""
    cost = world.config.cost
    vma = world.vmas[slot]
    start, end = max(vma.start, caller.op_start), min(vma.end, caller.op_end)
    pte = vma.pte + (start - vma.start)
    kind = caller.op_kind
    if kind == OperationKind.MBIND:
        return (end - start) * cost.mbind_page_ns
    if kind == OperationKind.MLOCK or kind == OperationKind.MUNLOCK:
        return page_table.count_present(world, pte, end - start) * cost.mlock_page_ns
    if kind != OperationKind.MPROTECT:
        return 0
    spent_ns = page_table.count_present(world, pte, end - start) * cost.mprotect_page_ns
    if _is_to_be_populated(caller, vma):
        for at in range(pte, pte + end - start):
            spent_ns += populate.page_ns(world, vma, at, True)
    return spent_ns


@compiled
def _is_to_be_populated(caller, vma):
    """Whether mprotect gets a VMA its own pages: a private one that mlock keeps in memory."""
    if caller.op_kind != OperationKind.MPROTECT or not vma.traits & VM_LOCKED:
        return False
    becomes_writable = caller.op_protection & ~vma.protection & WRITE != 0
    return becomes_writable and vma.private != 0


@compiled
def _is_mprotect(caller):
    return caller.op_kind == OperationKind.MPROTECT


@compiled
def _new_protection(caller, vma):
    return caller.op_protection if _is_mprotect(caller) else vma.protection


@compiled
def _new_advice(caller, vma):
    is_advised = caller.op_kind == OperationKind.MADVISE and caller.op_advice <= Madvice.SEQUENTIAL
    return caller.op_advice if is_advised else vma.advice


@compiled
def _new_uffd(caller, vma):
    is_register = caller.op_kind == OperationKind.USERFAULTFD_REGISTER
    return vma.uffd | caller.op_modes if is_register else vma.uffd


@compiled
def _new_traits(world, caller, vma):
    asked = world.instructions[caller.op_pc]
    return vma.traits & ~asked.clears | asked.sets


@compiled
def _changes(world, caller, vma):
    """Whether the operation changes the flags of a VMA."""
    if _new_protection(caller, vma) != vma.protection:
        return True
    if _new_uffd(caller, vma) != vma.uffd:
        return True
    if _new_traits(world, caller, vma) != vma.traits:
        return True
    return _new_advice(caller, vma) != vma.advice


@compiled
def _is_refused(caller, vma):
    """Whether a VMA ends the call: only anonymous memory is named, or wiped on fork."""
    if caller.op_kind == OperationKind.PRCTL:
        return vma.open != NOBODY
    is_wipe = caller.op_kind == OperationKind.MADVISE and caller.op_advice == Madvice.WIPEONFORK
    return is_wipe and vma.open != NOBODY


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
        if _is_refused(caller, world.vmas[slot]):
            return -1
        if caller.op_kind == OperationKind.MBIND or _changes(world, caller, world.vmas[slot]):
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
    if not _changes(world, caller, vma) or other.traits != _new_traits(world, caller, vma):
        return NOBODY
    if other.uffd != _new_uffd(caller, vma):
        return NOBODY
    is_alike = other.protection == _new_protection(caller, vma) and other.advice == _new_advice(
        caller, vma
    )
    return neighbour if is_alike else NOBODY


@compiled
def apply(world, thread, now_ns):
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
    is_populated = _is_to_be_populated(caller, vma)
    if _is_mprotect(caller):
        page_table.protect(world, vma, pte, end - start, caller.op_protection)
    if world.instructions[caller.op_pc].moves:
        caller.op_migrates += page_table.count_present(world, pte, end - start)
    if _changes(world, caller, vma):
        _reshape(world, caller, place, slot, start, end)
    if is_populated:
        _populate(world, thread, start, end, now_ns)
    caller.op_at = end


@compiled
def _populate(world, thread, start, end, now_ns):
    """Give a range pages of its own, with mmap_lock held for write."""
    slot = address_space.find(world, world.threads[thread].mm, start)
    vma = world.vmas[slot]
    pte = vma.pte + (start - vma.start)
    for at in range(pte, pte + end - start):
        populate.map_now(world, thread, slot, at, now_ns)


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
        vma.traits = _new_traits(world, caller, vma)
