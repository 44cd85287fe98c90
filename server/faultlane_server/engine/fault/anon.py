"""Faults on anonymous memory whose page is not mapped (do_anonymous_page).

A read maps the zero page, and takes nothing but the page-table lock. A write needs an anon_vma,
and a page that is allocated, charged and cleared with the fault lock held.
"""

from faultlane_server.codes import Access, RetryReason
from faultlane_server.engine import sched
from faultlane_server.engine.fault.attempt import prepare_anon_vma, pte_of, retry_at_once
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import page_table
from faultlane_server.engine.world import Step


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Get a page, if the access is a write, and map it."""
    cost = world.config.cost
    if world.threads[thread].access == Access.WRITE:
        if not prepare_anon_vma(world, thread, now_ns):
            retry_at_once(world, thread, now_ns, spent_ns, RetryReason.ANON_VMA)
            return
        spent_ns += cost.anon_page_ns + cost.clear_page_ns
    sched.burst(world, thread, now_ns, spent_ns + cost.map_anon_ns, Step.ANON_MAP)


@compiled
def map_page(world, thread):
    """Set the page-table entry, unless another thread was quicker."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    if world.ptes[pte]:
        return
    if fault.access == Access.WRITE:
        world.ptes[pte] = page_table.copied_entry(world, vma)
    else:
        world.ptes[pte] = page_table.zero_entry(world, vma)
