"""Operations on a userfaultfd: resolving faults, write-protecting pages, and closing it.

Registering stands in `flags`, with the other operations that change the flags of VMAs.
"""

from faultlane_server.codes import NOBODY, OperationKind
from faultlane_server.engine import sched, userfaultfd
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_lock, mmap_lock
from faultlane_server.engine.memory import address_space, charges, memcg, page_table
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import UFFD_MISSING, UFFD_WP, Cause, Counter, Step

PAGE_END = 1 << 62  # behind all page numbers


@compiled
def read(world, thread, now_ns):
    """Read of the next fault, or wait for one; a signal ends the wait."""
    caller = world.threads[thread]
    fault = userfaultfd.next_unread(world, thread)
    if fault != NOBODY:
        world.threads[fault].uffd_is_read = 1
        caller.op_start = world.threads[fault].page
        caller.op_end = caller.op_start + 1
        spent_ns = world.config.cost.userfaultfd_read_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.UFFD_LOCK)
    elif caller.killed or caller.signalled:
        entry.leave(world, thread, now_ns)
    else:
        userfaultfd.join_readers(world, thread)
        sched.block(world, thread, now_ns, Cause.USERFAULTFD, NOBODY, Step.UFFD_READ)
        caller.killed_step = Step.UFFD_READ_ENDED


@compiled
def lock(world, thread, now_ns):
    """Take the VMA lock for a copy, if the kernel does so and it is to be had; else mmap_lock."""
    if world.config.uffd_vma_lock and _is_copy(world.threads[thread]):
        if _try_vma(world, thread, now_ns):
            pay(world, thread, now_ns)
            return
    if mmap_lock.lock_read(world, thread, now_ns, Step.UFFD_LOCKED, Step.NOTHING):
        locked(world, thread, now_ns)


@compiled
def _try_vma(world, thread, now_ns):
    """Try to lock the VMA of a page; one without an anon_vma will not do (uffd_lock_vma)."""
    caller = world.threads[thread]
    caller.vma = address_space.find(world, caller.mm, caller.op_start)
    if caller.vma == NOBODY or not fault_lock.try_vma(world, thread, caller.vma, now_ns):
        count(world, Counter.VMA_LOCK_ABORT, 1)
        count(world, Counter.USERFAULTFD_ABORTS, 1)
        return False
    if world.vmas[caller.vma].anon_vma:
        return True
    fault_lock.release(world, thread, now_ns)
    return False


@compiled
def locked(world, thread, now_ns):
    """Go on with mmap_lock held for read. A copy exchanges it for the VMA lock: nobody writes."""
    caller = world.threads[thread]
    caller.vma = address_space.find(world, caller.mm, caller.op_start)
    if world.config.uffd_vma_lock and _is_copy(caller) and caller.vma != NOBODY:
        _prepare_anon_vma(world, thread)
        fault_lock.release(world, thread, now_ns)
        is_held = fault_lock.try_vma(world, thread, caller.vma, now_ns)
        assert is_held, "without a writer a VMA can be locked"
    pay(world, thread, now_ns)


@compiled
def _prepare_anon_vma(world, thread):
    vma = world.vmas[world.threads[thread].vma]
    if not vma.anon_vma:
        world.anon_vmas += 1
        vma.anon_vma = world.anon_vmas
        sched.owe(world, thread, world.config.cost.anon_vma_ns)


@compiled
def pay(world, thread, now_ns):
    """Pay for what is done, with the lock held; a copy needs a page."""
    caller = world.threads[thread]
    cost = world.config.cost
    if _is_copy(caller):
        outcome = memcg.charge(world, thread, now_ns, Step.UFFD_CHARGE)
        if outcome == memcg.WAITS:
            return
        if outcome == memcg.FAILED:  # ENOMEM
            fault_lock.release(world, thread, now_ns)
            entry.leave(world, thread, now_ns)
            return
        spent_ns = cost.userfaultfd_copy_ns
    else:
        pages = caller.op_end - caller.op_start
        spent_ns = cost.userfaultfd_writeprotect_ns + pages * cost.userfaultfd_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.UFFD_RESOLVE)


@compiled
def _is_copy(caller):
    return caller.op_kind == OperationKind.USERFAULTFD_COPY


@compiled
def resolve(world, thread, now_ns):
    """Change the entries, let go of the lock, and wake whose faults are resolved."""
    caller = world.threads[thread]
    if _is_copy(caller):
        _copy(world, thread)
    else:
        _change_protection(world, caller)
    charges.give_back(world, thread)
    fault_lock.release(world, thread, now_ns)
    if caller.op_modes:
        start, end = caller.op_start, caller.op_end
        woken = userfaultfd.wake(world, thread, caller.mm, start, end, now_ns)
        count(world, Counter.USERFAULTS_RESOLVED, woken)
    entry.leave(world, thread, now_ns)


@compiled
def _copy(world, thread):
    """Map a page (mfill_atomic_install_pte), unless there is one, or nobody asks for one."""
    caller = world.threads[thread]
    if caller.vma == NOBODY:
        return
    vma = world.vmas[caller.vma]
    pte = vma.pte + (caller.op_start - vma.start)
    if vma.uffd & UFFD_MISSING and not world.ptes[pte]:
        _prepare_anon_vma(world, thread)
        page_table.make_own(world, thread, caller.vma, pte)


@compiled
def _change_protection(world, caller):
    """Write-protect a range where that is asked for, or let the writes to it go on."""
    place = address_space.place_of(world, caller.mm, caller.op_start)
    slot = address_space.slot_at(world, caller.mm, place)
    while slot != NOBODY and world.vmas[slot].start < caller.op_end:
        vma = world.vmas[slot]
        start, end = max(vma.start, caller.op_start), min(vma.end, caller.op_end)
        if caller.op_modes:
            page_table.allow_writes(world, vma, start, end)
        elif vma.uffd & UFFD_WP:
            page_table.write_protect(world, vma, start, end)
        place += 1
        slot = address_space.slot_at(world, caller.mm, place)


@compiled
def close(world, thread, now_ns):
    """Let nobody wait any more, and take mmap_lock for write (userfaultfd_release)."""
    world.mms[world.threads[thread].mm].uffd_released += 1
    world.threads[thread].op_at = 0
    sched.burst(world, thread, now_ns, 0, Step.WRITE_LOCK)


@compiled
def plan(world, thread):
    """Plan to take the next VMA from the userfaultfd; returns whether there is one."""
    caller = world.threads[thread]
    caller.work_ns = world.config.cost.userfaultfd_close_ns
    caller.locks_count = 0
    slot = _next(world, caller)
    if slot == NOBODY:
        return False
    caller.locks[0] = slot
    caller.locks_count = 1
    return True


@compiled
def _next(world, caller):
    """Return the next VMA that is registered, or NOBODY."""
    place = address_space.place_of(world, caller.mm, caller.op_at)
    slot = address_space.slot_at(world, caller.mm, place)
    while slot != NOBODY and world.vmas[slot].uffd == 0:
        place += 1
        slot = address_space.slot_at(world, caller.mm, place)
    return slot


@compiled
def apply(world, thread):
    """Take a VMA from the userfaultfd, and its protection from the pages."""
    caller = world.threads[thread]
    vma = world.vmas[_next(world, caller)]
    vma.uffd = 0
    page_table.allow_writes(world, vma, vma.start, vma.end)
    caller.op_at = vma.end


@compiled
def closed(world, thread, now_ns):
    """Wake all who wait."""
    caller = world.threads[thread]
    world.mms[caller.mm].uffd_released -= 1
    userfaultfd.wake(world, thread, caller.mm, 0, PAGE_END, now_ns)
