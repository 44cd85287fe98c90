"""madvise that works on pages: a range is gone through under mmap_lock for read.

The wait for the lock cannot be killed. Later kernels take the VMA lock instead for what zaps
(`madvise_vma_lock`), if the range lies in one VMA. WILLNEED and REMOVE let go of the lock while
they work on the file of a VMA, and take it again for the next one.
"""

from faultlane_server.codes import NOBODY, FileKind, Madvice
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_lock, invalidate_lock, mmap_lock
from faultlane_server.engine.memory import address_space, lru, page_table, readahead
from faultlane_server.engine.memory.page_table import WRITE
from faultlane_server.engine.ops import entry, khugepaged, page_fate, populate
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_PRESENT,
    PTE_ZERO,
    VM_LOCKED,
    Counter,
    Step,
)

READ_AT_ONCE_BYTES = 2 * 2**20  # by force_page_cache_ra


@compiled
def lock(world, thread, now_ns):
    """Take the lock under which the pages are gone through."""
    caller = world.threads[thread]
    caller.op_first, caller.op_last = caller.op_start, caller.op_end
    if caller.op_populates:
        populate.begin(world, thread, now_ns)
    elif caller.op_advice == Madvice.COLLAPSE:
        khugepaged.scan(world, thread, now_ns)
    elif _try_vma(world, thread, now_ns):
        held(world, thread, now_ns)
    elif mmap_lock.lock_read(world, thread, now_ns, Step.READ_HELD, Step.NOTHING):
        held(world, thread, now_ns)


@compiled
def _try_vma(world, thread, now_ns):
    """Take the lock of the one VMA that has all of the range, if the kernel does that."""
    caller = world.threads[thread]
    if not world.config.madvise_vma_lock or not _zaps(caller.op_advice):
        return False
    slot = address_space.find(world, caller.mm, caller.op_start)
    if slot != NOBODY and world.vmas[slot].end >= caller.op_end:
        caller.vma = slot
        if fault_lock.try_vma(world, thread, slot, now_ns):
            return True
    count(world, Counter.VMA_LOCK_ABORT, 1)
    count(world, Counter.MADVISE_ABORTS, 1)
    return False


@compiled
def _zaps(advice):
    if advice == Madvice.DONTNEED or advice == Madvice.DONTNEED_LOCKED:
        return True
    return advice == Madvice.FREE


@compiled
def held(world, thread, now_ns):
    """Pay for the range, with the lock held."""
    caller = world.threads[thread]
    cost = world.config.cost
    spent_ns = cost.madvise_ns
    advice = caller.op_advice
    if _zaps(advice):
        spent_ns += (caller.op_end - caller.op_start) * cost.madvise_page_ns
    elif advice == Madvice.COLD:
        spent_ns += _walk_ns(world, caller) + _present(world, caller) * cost.cold_page_ns
    elif advice == Madvice.PAGEOUT:
        lru.drain(world, caller.cpu)
        spent_ns += _walk_ns(world, caller) + _present(world, caller) * cost.pageout_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.READ_DONE)


@compiled
def _walk_ns(world, caller):
    """Return what it costs to look at all entries of the range."""
    return (caller.op_end - caller.op_start) * world.config.cost.walk_page_ns


@compiled
def _present(world, caller):
    """Return how many pages of the range are mapped."""
    present = 0
    page = caller.op_start
    slot = address_space.next_in(world, caller.mm, page, caller.op_end)
    while slot != NOBODY:
        vma = world.vmas[slot]
        start, end = max(vma.start, page), min(vma.end, caller.op_end)
        present += page_table.count_present(world, vma.pte + (start - vma.start), end - start)
        page = vma.end
        slot = address_space.next_in(world, caller.mm, page, caller.op_end)
    return present


@compiled
def apply(world, thread, now_ns):
    """Do what was advised, with the lock held, and let go of it."""
    caller = world.threads[thread]
    advice = caller.op_advice
    if advice == Madvice.WILLNEED or advice == Madvice.REMOVE:
        _work_on_file(world, thread, now_ns)
        return
    slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_end)
    while slot != NOBODY and _is_welcome(advice, world.vmas[slot]):
        vma = world.vmas[slot]
        start, end = max(vma.start, caller.op_start), min(vma.end, caller.op_end)
        _apply_to(world, thread, slot, start, end, now_ns)
        caller.op_at = vma.end
        slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_end)
    fault_lock.release(world, thread, now_ns)
    entry.leave(world, thread, now_ns)


@compiled
def _is_welcome(advice, vma):
    """Whether a VMA may be treated so; otherwise it ends the call (EINVAL)."""
    if advice == Madvice.FREE:
        return vma.open == NOBODY
    return advice == Madvice.DONTNEED_LOCKED or not vma.traits & VM_LOCKED


@compiled
def _apply_to(world, thread, slot, start, end, now_ns):
    """Treat the pages of a part of a VMA."""
    vma = world.vmas[slot]
    advice = world.threads[thread].op_advice
    if advice == Madvice.DONTNEED or advice == Madvice.DONTNEED_LOCKED:
        page_table.zap(world, vma, start, end)
        return
    for pte in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        bits = world.ptes[pte]
        if not bits & PTE_PRESENT:
            continue
        if advice == Madvice.COLD:
            page_fate.make_cold(world, vma, pte)
        elif advice == Madvice.PAGEOUT:
            page_fate.page_out(world, thread, vma, pte, now_ns)
        elif bits & (PTE_ANON | PTE_ZERO) == PTE_ANON:
            page_fate.free_lazily(world, pte)


@compiled
def _work_on_file(world, thread, now_ns):
    """Let go of mmap_lock, and work on the file of the next VMA; or leave."""
    caller = world.threads[thread]
    slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_last)
    while slot != NOBODY and caller.op_advice == Madvice.WILLNEED and _has_no_device(world, slot):
        caller.op_at = world.vmas[slot].end
        slot = address_space.next_in(world, caller.mm, caller.op_at, caller.op_last)
    is_over = slot == NOBODY or not _may_work_on(caller.op_advice, world.vmas[slot])
    if not is_over:
        _find_in_file(world, caller, slot)
    mmap_lock.unlock_read(world, thread, now_ns)
    if is_over:
        caller.op_start, caller.op_end = caller.op_first, caller.op_last
        entry.leave(world, thread, now_ns)
    elif caller.op_advice == Madvice.REMOVE:
        sched.burst(world, thread, now_ns, 0, Step.FILE_OPERATION)
    else:
        read_ahead(world, thread, now_ns)


@compiled
def _has_no_device(world, slot):
    vma = world.vmas[slot]
    return vma.open == NOBODY or vma.file_kind != FileKind.REGULAR


@compiled
def _may_work_on(advice, vma):
    """Whether a VMA does not end the call: REMOVE wants a shared mapping that can be written to."""
    if advice == Madvice.WILLNEED:
        return True
    if vma.open == NOBODY or vma.file_kind == FileKind.SPECIAL or vma.traits & VM_LOCKED:
        return False
    return vma.private == 0 and vma.protection & WRITE != 0


@compiled
def _find_in_file(world, caller, slot):
    """Turn the part of the range in a VMA into one of its file."""
    vma = world.vmas[slot]
    start = max(vma.start, caller.op_first)
    end = min(vma.end, caller.op_last)
    caller.op_next = end
    caller.op_file = world.opens[vma.open].file
    caller.file = caller.op_file
    caller.op_start = vma.offset + (start - vma.start)
    caller.op_end = vma.offset + (end - vma.start)
    caller.op_at = caller.op_start


@compiled
def read_ahead(world, thread, now_ns):
    """Take invalidate_lock to read the next pages of the file, or go on with the next VMA."""
    caller = world.threads[thread]
    end = min(caller.op_end, world.files[caller.op_file].pages)
    if caller.op_at >= end:
        sched.burst(world, thread, now_ns, 0, Step.ADVICE_RELOCK)
        return
    pages = max(1, READ_AT_ONCE_BYTES >> world.config.page_shift)
    caller.ra_start = caller.op_at
    caller.ra_end = min(end, caller.op_at + pages)
    caller.ra_marker = -1
    if invalidate_lock.lock_shared(world, thread, now_ns, Step.ADVICE_READ_LOCKED):
        read_locked(world, thread, now_ns)


@compiled
def read_locked(world, thread, now_ns):
    """Begin to read pages: the file may have been cut short meanwhile."""
    caller = world.threads[thread]
    caller.ra_end = max(caller.ra_start, min(caller.ra_end, world.files[caller.op_file].pages))
    readahead.begin(world, thread, now_ns, Step.ADVICE_READ)


@compiled
def read(world, thread, now_ns):
    """Read the pages, and go on."""
    caller = world.threads[thread]
    if readahead.go_on(world, thread, now_ns, Step.ADVICE_READ):
        caller.op_at = max(caller.ra_end, caller.op_at + 1)
        invalidate_lock.unlock_shared(world, thread, now_ns)
        read_ahead(world, thread, now_ns)


@compiled
def relock(world, thread, now_ns):
    """Take mmap_lock for read again, for the next VMA."""
    caller = world.threads[thread]
    caller.op_at = caller.op_next
    if mmap_lock.lock_read(world, thread, now_ns, Step.ADVICE_RELOCKED, Step.NOTHING):
        relocked(world, thread, now_ns)


@compiled
def relocked(world, thread, now_ns):
    """Go on with the next VMA."""
    world.threads[thread].op_start = world.threads[thread].op_first
    _work_on_file(world, thread, now_ns)
