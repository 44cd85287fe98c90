"""Faults that a userfaultfd wants to know of (handle_userfault).

Whatever the policy, the fault lock is let go, and the attempt ends in VM_FAULT_RETRY when the
fault is resolved, or when a signal ends the wait. FAULT_FLAG_TRIED does not keep a later attempt
from doing so again.
"""

from faultlane_server.codes import NOBODY, Access, FaultKind, RetryReason
from faultlane_server.engine import sched, userfaultfd
from faultlane_server.engine.fault.attempt import (
    drop,
    end_in_retry,
    prepare_anon_vma,
    pte_of,
    retry_at_once,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PTE_UFFD_WP,
    UFFD_MISSING,
    UFFD_WP,
    Cause,
    Counter,
    Step,
)


@compiled
def missing(world, thread, now_ns, spent_ns):
    """Hand over a fault on a page that is not there; a write has allocated one by then."""
    cost = world.config.cost
    fault = world.threads[thread]
    if fault.access == Access.WRITE:
        if not prepare_anon_vma(world, thread, now_ns):
            retry_at_once(world, thread, now_ns, spent_ns, RetryReason.ANON_VMA)
            return
        spent_ns += cost.anon_page_ns + cost.clear_page_ns
    fault.uffd_mode = UFFD_MISSING
    sched.burst(world, thread, now_ns, spent_ns + cost.userfaultfd_ns, Step.UFFD_QUEUE)


@compiled
def wants_write(vma, pte):
    """Whether the userfaultfd wants to know of a write to a page (userfaultfd_pte_wp)."""
    return vma.uffd & UFFD_WP != 0 and pte & PTE_UFFD_WP != 0


@compiled
def write_protected(world, thread, now_ns, spent_ns):
    """Hand over a write to a page that it has write-protected."""
    world.threads[thread].uffd_mode = UFFD_WP
    spent_ns += world.config.cost.userfaultfd_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.UFFD_QUEUE)


@compiled
def queue(world, thread, now_ns):
    """Queue the fault and wait, unless it was resolved meanwhile, or nobody will resolve it."""
    fault = world.threads[thread]
    if not _is_as_it_was(world, fault):
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)
        return
    fault.kind = FaultKind.USERFAULTFD
    drop(world, thread, now_ns)
    if world.mms[fault.mm].uffd_released > 0 or _has_signal(fault):
        woken(world, thread, now_ns)
        return
    count(world, Counter.USERFAULTS, 1)
    userfaultfd.join(world, thread, now_ns)
    sched.block(world, thread, now_ns, Cause.USERFAULTFD, NOBODY, Step.UFFD_WOKEN)
    fault.killed_step = Step.UFFD_WOKEN


@compiled
def _is_as_it_was(world, fault):
    pte = world.ptes[pte_of(world, fault)]
    return pte == 0 if fault.uffd_mode == UFFD_MISSING else pte & PTE_UFFD_WP != 0


@compiled
def _has_signal(fault):
    """Whether a signal keeps the fault from waiting; in kernel mode only a fatal one does."""
    return fault.killed or (fault.signalled and not fault.kernel_mode)


@compiled
def woken(world, thread, now_ns):
    """Try again."""
    world.threads[thread].uffd_mode = 0
    end_in_retry(world, thread, now_ns, RetryReason.USERFAULTFD)
