"""Writes to pages that are mapped read-only (do_wp_page)."""

from faultlane_server.codes import (
    NOBODY,
    FaultLock,
    FileKind,
    RetryReason,
    VmaLockFaults,
    VmFault,
)
from faultlane_server.engine import sched
from faultlane_server.engine.fault import finish
from faultlane_server.engine.fault.attempt import (
    fail_without_memory,
    locate,
    prepare_anon_vma,
    pte_of,
    retry_at_once,
    waits_for_old_page,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import anon_page, memcg, page_cache, page_table
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_PRESENT,
    PTE_SHARED,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_ZERO,
    Step,
)


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Copy the page, make its entry writable, or let the file system know first."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    if vma.open != NOBODY:
        locate(world, thread)
    if vma.private:
        _private(world, thread, now_ns, spent_ns)
    elif vma.file_kind == FileKind.REGULAR:
        _shared(world, thread, now_ns, spent_ns)
    elif vma.file_kind == FileKind.TMPFS:
        page_cache.get(world, thread)
        sched.burst(
            world, thread, now_ns, spent_ns + world.config.cost.make_writable_ns, Step.MKWRITE_FOLIO
        )
    else:
        _reuse(world, thread, now_ns, spent_ns)


@compiled
def _shared(world, thread, now_ns, spent_ns):
    """Call page_mkwrite (wp_page_shared)."""
    fault = world.threads[thread]
    is_supported = world.config.vma_lock_faults == VmaLockFaults.ALL
    if fault.lock == FaultLock.VMA and not is_supported:
        retry_at_once(world, thread, now_ns, spent_ns, RetryReason.UNSUPPORTED)
        return
    page_cache.get(world, thread)
    sched.owe(world, thread, spent_ns)
    finish.mkwrite(world, thread, now_ns)


@compiled
def _private(world, thread, now_ns, spent_ns):
    """Copy the page (wp_page_copy), unless it is the process's own and nobody else has it."""
    cost = world.config.cost
    pte = world.ptes[pte_of(world, world.threads[thread])]
    if is_own(world, thread, pte, now_ns):
        _reuse(world, thread, now_ns, spent_ns)
    elif prepare_anon_vma(world, thread, now_ns):
        copy_ns = cost.clear_page_ns if pte & PTE_ZERO else cost.copy_page_ns
        sched.owe(world, thread, spent_ns + cost.anon_page_ns + copy_ns)
        get_copy(world, thread, now_ns)
    else:
        retry_at_once(world, thread, now_ns, spent_ns, RetryReason.ANON_VMA)


@compiled
def get_copy(world, thread, now_ns):
    """Charge the page to copy to."""
    if waits_for_old_page(world, thread, now_ns, Step.WP_CHARGE):
        return
    outcome = memcg.charge(world, thread, now_ns, Step.WP_CHARGE)
    if outcome == memcg.GOT:
        sched.burst(world, thread, now_ns, world.config.cost.map_page_ns, Step.WP_COPY)
    elif outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)


@compiled
def is_own(world, thread, pte, now_ns):
    """Whether a page is anonymous memory that no child has as well."""
    if pte & (PTE_ANON | PTE_ZERO) != PTE_ANON:
        return False
    children_until_ns = world.mms[world.threads[thread].mm].children_until_ns
    return not pte & PTE_SHARED or now_ns >= children_until_ns


@compiled
def _reuse(world, thread, now_ns, spent_ns):
    """Make the entry writable as it is (wp_page_reuse)."""
    spent_ns += world.config.cost.make_writable_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.WP_REUSE)


@compiled
def copied(world, thread):
    """Map the copy, if the entry is still what it was."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    if world.ptes[pte] & (PTE_PRESENT | PTE_WRITE | PTE_UFFD_WP) == PTE_PRESENT:
        if anon_page.is_busy(world.folios[anon_page.number_of(world, pte)]):
            return  # it is being written to swap: the access is made again
        page_table.make_own(world, thread, fault.vma, pte)


@compiled
def reuse(world, thread):
    """Make the entry writable, if it is still there."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    bits = world.ptes[pte]
    if bits & (PTE_PRESENT | PTE_UFFD_WP) != PTE_PRESENT:
        fault.result = VmFault.NOPAGE
    elif bits & PTE_ANON:
        world.ptes[pte] = page_table.copied_entry(world, vma)
    else:
        world.ptes[pte] = page_table.written_entry(world, vma)
