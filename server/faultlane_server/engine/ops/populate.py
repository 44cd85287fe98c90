"""Populating a range: its pages are mapped in order, under mmap_lock for read (__mm_populate).

Pages of a file are mapped if they are in the page cache and up to date; others are left out, as
nothing here waits for a read. A hole, or a VMA that allows no access, ends it.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind
from faultlane_server.engine import sched
from faultlane_server.engine.fault import hugetlb as huge
from faultlane_server.engine.fault.attempt import give_anon_vma
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_mutex, mmap_lock
from faultlane_server.engine.memory import address_space, anon_page, charges, memcg, page_table
from faultlane_server.engine.memory.page_table import WRITE
from faultlane_server.engine.ops import entry
from faultlane_server.engine.world import (
    LOCKED,
    PRESENT,
    PTE_PRESENT,
    PTE_WRITE,
    UPTODATE,
    Populates,
    Step,
)

PAGES_AT_ONCE = 32  # mapped in one burst
ENTRIES_AT_ONCE = 512  # looked at for that


@compiled
def begin(world, thread, now_ns):
    """Take mmap_lock for read, to populate the range of an operation. The wait is not killable."""
    caller = world.threads[thread]
    caller.op_at = caller.op_start
    if mmap_lock.lock_read(world, thread, now_ns, Step.POPULATE_HELD, Step.NOTHING):
        held(world, thread, now_ns)


@compiled
def held(world, thread, now_ns):
    """Pay for the next pages, with mmap_lock held for read; or let go of it, and leave."""
    caller = world.threads[thread]
    spent_ns = 0 if caller.killed else _plan(world, thread)
    if caller.killed or caller.op_next == caller.op_at:
        mmap_lock.unlock_read(world, thread, now_ns)
        entry.leave(world, thread, now_ns)
        return
    sched.burst(world, thread, now_ns, spent_ns, Step.POPULATED)


@compiled
def _plan(world, thread):
    """Choose the next pages up to `op_next`, and return what they cost."""
    caller = world.threads[thread]
    caller.op_next = caller.op_at
    slot = address_space.find(world, caller.mm, caller.op_at)
    if slot == NOBODY or caller.op_at >= caller.op_end or world.vmas[slot].protection == 0:
        return 0
    vma = world.vmas[slot]
    end = min(vma.end, caller.op_end)
    end = min(end, caller.op_at + ENTRIES_AT_ONCE)
    spent_ns = 0
    pages = 0
    pages_at_once = PAGES_AT_ONCE if vma.file_kind == FileKind.HUGETLB else 1
    while caller.op_next < end and pages < PAGES_AT_ONCE:
        ns = page_ns(
            world, vma, vma.pte + (caller.op_next - vma.start), _writes(vma, caller.op_populates)
        )
        caller.op_next += 1
        spent_ns += ns
        pages += pages_at_once if ns > 0 else 0
    return spent_ns


@compiled
def mapped(world, thread, now_ns):
    """Map the pages that were paid for, and go on."""
    caller = world.threads[thread]
    slot = address_space.find(world, caller.mm, caller.op_at)
    vma = world.vmas[slot]
    while caller.op_at < caller.op_next:
        pte = vma.pte + (caller.op_at - vma.start)
        outcome = _charge(world, thread, vma, pte, now_ns)
        if outcome == memcg.WAITS:
            return
        if outcome == memcg.FAILED or not _map_next(world, thread, slot, pte):
            caller.op_end = caller.op_at
            break
        caller.op_at += 1
    held(world, thread, now_ns)


@compiled
def _charge(world, thread, vma, pte, now_ns):
    """Charge the next page, if it is to be one of its own."""
    how = world.threads[thread].op_populates
    if vma.file_kind == FileKind.HUGETLB or not _needs_own(world, vma, pte, how):
        return memcg.GOT
    return memcg.charge(world, thread, now_ns, Step.POPULATED)


@compiled
def _map_next(world, thread, slot, pte):
    """Map the next page; returns whether it could be had. A huge page that faults is left to it."""
    vma = world.vmas[slot]
    how = world.threads[thread].op_populates
    if vma.file_kind != FileKind.HUGETLB:
        _map_page(world, thread, slot, pte, how)
        return True
    file = world.opens[vma.open].file
    if not fault_mutex.is_free(world, file, vma.offset + (pte - vma.pte)):
        return True
    return huge.populate(world, thread, slot, pte, _writes(vma, how))


@compiled
def page_ns(world, vma, pte, writes):
    """Return what it costs to map a page, or to copy one that may be written to: 0 if neither."""
    cost = world.config.cost
    if vma.file_kind == FileKind.HUGETLB:
        return huge.populate_ns(world, vma, pte, writes)
    bits = world.ptes[pte]
    if bits & PTE_PRESENT:
        is_copied = writes and not bits & PTE_WRITE
        return cost.anon_page_ns + cost.copy_page_ns + cost.map_page_ns if is_copied else 0
    if vma.open == NOBODY:
        spent_ns = cost.anon_page_ns + cost.clear_page_ns if writes else 0
        return spent_ns + cost.map_anon_ns
    if not _is_ready(world, vma, pte):
        return 0
    return cost.map_page_ns + (cost.anon_page_ns + cost.copy_page_ns if writes else 0)


@compiled
def _writes(vma, how):
    """Whether a VMA is populated as by writes: private memory that may be written to."""
    return vma.private != 0 and vma.protection & WRITE != 0 and how != Populates.AS_BY_READS


@compiled
def _is_ready(world, vma, pte):
    """Whether the page of a file can be mapped without waiting for anything."""
    file = world.files[world.opens[vma.open].file]
    page = vma.offset + (pte - vma.pte)
    if page >= file.pages:
        return False
    return world.folios[file.first + page].state & (PRESENT | UPTODATE | LOCKED) == (
        PRESENT | UPTODATE
    )


@compiled
def map_now(world, thread, slot, pte, now_ns):
    """Map a page as it is, if there is memory for it."""
    vma = world.vmas[slot]
    how = np.int64(Populates.AS_IT_IS)
    if _needs_own(world, vma, pte, how) and not memcg.charge_weakly(world, thread, now_ns):
        return
    _map_page(world, thread, slot, pte, how)


@compiled
def _needs_own(world, vma, pte, how):
    """Whether a page of its own is to be mapped."""
    return _writes(vma, how) and _is_wanted(world, vma, pte, how)


@compiled
def _map_page(world, thread, slot, pte, how):
    """Map a page, unless somebody has done it or it is not ready any more."""
    vma = world.vmas[slot]
    if not _is_wanted(world, vma, pte, how):
        charges.give_back(world, thread)
    elif _writes(vma, how):
        give_anon_vma(world, vma)
        page_table.make_own(world, thread, slot, pte)
    elif vma.open == NOBODY:
        page_table.map_zero_page(world, slot, pte)
    else:
        file = world.files[world.opens[vma.open].file]
        folio = world.folios[file.first + vma.offset + (pte - vma.pte)]
        bits = page_table.entry(world, vma, vma.protection)
        page_table.map_folio(world, slot, pte, folio, bits)


@compiled
def _is_wanted(world, vma, pte, how):
    """Whether a page is to be mapped, or copied, and can be without waiting for anything."""
    bits = world.ptes[pte]
    if bits & PTE_PRESENT:
        return _writes(vma, how) and not bits & PTE_WRITE and _is_free(world, vma, pte)
    if bits != 0 or not _is_free(world, vma, pte):
        return False
    return vma.open == NOBODY or _is_ready(world, vma, pte)


@compiled
def _is_free(world, vma, pte):
    """Whether nothing is still being done with a page that the entry had before."""
    if not vma.private:
        return True
    return not anon_page.is_busy(world.folios[anon_page.number_of(world, pte)])
