"""Faults on huge pages of hugetlb (hugetlb_fault), which wait for nothing but their fault mutex.

It is taken with the fault lock held, and held while a page is taken from the pool and zeroed
(hugetlb_no_page) or copied (hugetlb_wp). A private mapping needs an anon_vma for its own pages, and
under the VMA lock that takes mmap_lock at once or ends the attempt, as in anonymous memory. The
hugetlb VMA lock is left out: only truncation and the sharing of page tables take it for write.
"""

import numpy as np

from faultlane_server.codes import Access, FaultKind, FaultLock, RetryReason, VmFault
from faultlane_server.engine import sched
from faultlane_server.engine.fault.attempt import (
    give_anon_vma,
    locate,
    prepare_anon_vma,
    pte_of,
    retry_at_once,
)
from faultlane_server.engine.fault.wp import is_own
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import fault_mutex
from faultlane_server.engine.memory import hugetlb, page_table
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PRESENT,
    PTE_ANON,
    PTE_PRESENT,
    PTE_SHARED,
    PTE_WRITE,
    VM_NORESERVE,
    Counter,
    Step,
)


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Take the fault mutex; kernels before 6.9 want mmap_lock for all that."""
    fault = world.threads[thread]
    fault.kind = FaultKind.HUGETLB
    if fault.lock == FaultLock.VMA and not world.config.hugetlb_vma_lock:
        retry_at_once(world, thread, now_ns, spent_ns, RetryReason.UNSUPPORTED)
        return
    locate(world, thread)
    sched.owe(world, thread, spent_ns + world.config.cost.hugetlb_ns)
    if fault_mutex.lock(world, thread, now_ns, Step.HUGETLB_LOCKED):
        locked(world, thread, now_ns)


@compiled
def locked(world, thread, now_ns):
    """Decide by the entry what there is to do."""
    fault = world.threads[thread]
    bits = np.int64(world.ptes[pte_of(world, fault)])
    if bits == 0:
        _no_page(world, thread, now_ns)
    elif fault.access == Access.WRITE and not bits & PTE_WRITE:
        fault.kind = FaultKind.HUGETLB_WP
        _write_protected(world, thread, bits, now_ns)
    else:
        sched.burst(world, thread, now_ns, world.config.cost.young_ns, Step.HUGETLB_YOUNG)


@compiled
def _no_page(world, thread, now_ns):
    """Map the page that the file has, or take a new one and zero it (hugetlb_no_page)."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    cost = world.config.cost
    if world.folios[fault.folio].state & PRESENT:
        if vma.private and fault.access == Access.WRITE:
            _copy(world, thread, 0, now_ns)
        else:
            sched.burst(world, thread, now_ns, cost.map_page_ns, Step.HUGETLB_MAP)
    elif vma.private and not prepare_anon_vma(world, thread, now_ns):
        _retry(world, thread, now_ns)
    elif hugetlb.take(world, thread, _reserved_at(world, fault)):
        spent_ns = cost.hugetlb_page_ns + world.config.huge_page_pages * cost.clear_page_ns
        sched.burst(world, thread, now_ns, spent_ns + cost.map_page_ns, Step.HUGETLB_MAP)
    else:
        _fail(world, thread, now_ns)


@compiled
def _reserved_at(world, fault):
    """Return the folio at which a page may be reserved for the fault."""
    return hugetlb.folio_for(world, world.vmas[fault.vma], pte_of(world, fault))


@compiled
def _write_protected(world, thread, bits, now_ns):
    """Make the entry writable, or copy the page for it (hugetlb_wp)."""
    if world.vmas[world.threads[thread].vma].private and not is_own(world, thread, bits, now_ns):
        _copy(world, thread, bits, now_ns)
        return
    spent_ns = world.config.cost.make_writable_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.HUGETLB_REUSE)


@compiled
def _copy(world, thread, bits, now_ns):
    """Take a page to copy to. If there is none, who has reserved takes it away from its children.

    The page comes before the anon_vma, so a pool that is empty is found out first.
    """
    fault = world.threads[thread]
    cost = world.config.cost
    number = _reserved_at(world, fault)
    if not hugetlb.take(world, thread, number):
        if bits & PTE_SHARED and not world.vmas[fault.vma].traits & VM_NORESERVE:
            count(world, Counter.HUGETLB_TAKEN_BACK, 1)
            spent_ns = cost.hugetlb_unmap_ns + cost.make_writable_ns
            sched.burst(world, thread, now_ns, spent_ns, Step.HUGETLB_REUSE)
        else:
            _fail(world, thread, now_ns)
    elif not prepare_anon_vma(world, thread, now_ns):
        hugetlb.give_back(world, thread, number)
        _retry(world, thread, now_ns)
    else:
        spent_ns = cost.hugetlb_page_ns + world.config.huge_page_pages * cost.copy_page_ns
        sched.burst(world, thread, now_ns, spent_ns + cost.map_page_ns, Step.HUGETLB_COPIED)


@compiled
def _retry(world, thread, now_ns):
    """End the attempt in VM_FAULT_RETRY: mmap_lock was not to be had for the anon_vma."""
    fault_mutex.unlock(world, thread, now_ns)
    retry_at_once(world, thread, now_ns, 0, RetryReason.ANON_VMA)


@compiled
def _fail(world, thread, now_ns):
    """End the attempt in SIGBUS: the pool is empty, but for what others have reserved."""
    count(world, Counter.HUGETLB_EMPTY, 1)
    world.threads[thread].result = VmFault.SIGBUS
    fault_mutex.unlock(world, thread, now_ns)
    sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def map_page(world, thread, now_ns):
    """Set the entry, with the page in hand or with that of the file."""
    fault = world.threads[thread]
    assert world.ptes[pte_of(world, fault)] == 0, "the fault mutex keeps others from mapping it"
    map_now(world, thread, fault.vma, pte_of(world, fault), fault.access == Access.WRITE)
    fault_mutex.unlock(world, thread, now_ns)


@compiled
def map_now(world, thread, slot, pte, writes):
    """Let a clear entry map the page in hand, or that of the file."""
    vma = world.vmas[slot]
    bits = page_table.written_entry(world, vma)
    if vma.private or not writes:
        bits = page_table.entry(world, vma, vma.protection)
    number = hugetlb.folio_of_file(world, vma, pte)
    if vma.private and world.threads[thread].huge_in_hand:
        number = hugetlb.folio_for(world, vma, pte)
        bits |= PTE_ANON
        if writes:
            bits = page_table.copied_entry(world, vma)
    if world.threads[thread].huge_in_hand:
        hugetlb.use(world, thread, number)
    world.folios[number].mapcount += 1
    world.ptes[pte] = bits


@compiled
def copied(world, thread, now_ns):
    """Map the copy, unless the entry was cleared meanwhile; its old page may be a child's."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    bits = np.int64(world.ptes[pte])
    if fault.kind == FaultKind.HUGETLB_WP and bits == 0:
        hugetlb.give_back(world, thread, _reserved_at(world, fault))
    else:
        _replace(world, thread, vma, pte)
    fault_mutex.unlock(world, thread, now_ns)


@compiled
def _replace(world, thread, vma, pte):
    """Let an entry map the page in hand, which is a copy of its own."""
    bits = np.int64(world.ptes[pte])
    if bits & PTE_ANON:
        hugetlb.leave_to_children(world, vma)
    elif bits:
        world.folios[hugetlb.folio_of_file(world, vma, pte)].mapcount -= 1
    number = hugetlb.folio_for(world, vma, pte)
    hugetlb.use(world, thread, number)
    world.folios[number].mapcount = 1
    world.ptes[pte] = page_table.copied_entry(world, vma)


@compiled
def reuse(world, thread, now_ns):
    """Make the entry writable, if it is still there."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    if not world.ptes[pte] & PTE_PRESENT:
        fault.result = VmFault.NOPAGE
    elif vma.private:
        world.ptes[pte] = page_table.copied_entry(world, vma)
    else:
        world.ptes[pte] = page_table.written_entry(world, vma)
    fault_mutex.unlock(world, thread, now_ns)


@compiled
def make_young(world, thread, now_ns):
    """Make the entry young, if it is still there."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    if world.ptes[pte] & PTE_PRESENT:
        page_table.make_young(world, world.vmas[fault.vma], pte)
    fault_mutex.unlock(world, thread, now_ns)


@compiled
def populate_ns(world, vma, pte, writes):
    """Return what it costs to map a huge page before it is touched: 0 if there is nothing to do."""
    cost = world.config.cost
    bits = np.int64(world.ptes[pte])
    if bits and (bits & PTE_WRITE or not writes):
        return 0
    page_ns = cost.clear_page_ns
    if bits or world.folios[hugetlb.folio_of_file(world, vma, pte)].state & PRESENT:
        page_ns = cost.copy_page_ns if writes else 0
    return cost.hugetlb_ns + world.config.huge_page_pages * page_ns + cost.map_page_ns


@compiled
def populate(world, thread, slot, pte, writes):
    """Map a huge page at once, as a fault would; returns whether it could be had."""
    vma = world.vmas[slot]
    bits = np.int64(world.ptes[pte])
    if bits and (bits & PTE_WRITE or not writes):
        return True
    is_cached = world.folios[hugetlb.folio_of_file(world, vma, pte)].state & PRESENT != 0
    if bits == 0 and is_cached and not writes:
        map_now(world, thread, slot, pte, False)
        return True
    if bits and is_own(world, thread, bits, world.now_ns):
        world.ptes[pte] = page_table.copied_entry(world, vma)
        return True
    if not hugetlb.take(world, thread, hugetlb.folio_for(world, vma, pte)):
        return False
    if vma.private:
        give_anon_vma(world, vma)
    if bits or is_cached:
        _replace(world, thread, vma, pte)
    else:
        map_now(world, thread, slot, pte, writes)
    return True
