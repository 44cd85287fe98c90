"""Faults on anonymous memory whose page is not mapped (do_anonymous_page).

A read maps the zero page, and takes nothing but the page-table lock. A write needs an anon_vma,
and a page that is allocated, charged and cleared with the fault lock held.
"""

from faultlane_server.codes import Access, RetryReason
from faultlane_server.engine import sched
from faultlane_server.engine.fault.attempt import (
    fail_without_memory,
    prepare_anon_vma,
    pte_of,
    retry_at_once,
    waits_for_old_page,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import memcg, page_table
from faultlane_server.engine.world import Step


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Get a page, if the access is a write, and map it."""
    if world.threads[thread].access != Access.WRITE:
        sched.burst(world, thread, now_ns, spent_ns + world.config.cost.map_anon_ns, Step.ANON_MAP)
    elif prepare_anon_vma(world, thread, now_ns):
        sched.owe(world, thread, spent_ns)
        get_page(world, thread, now_ns)
    else:
        retry_at_once(world, thread, now_ns, spent_ns, RetryReason.ANON_VMA)


@compiled
def get_page(world, thread, now_ns):
    """Charge a page and clear it."""
    if waits_for_old_page(world, thread, now_ns, Step.ANON_CHARGE):
        return
    outcome = memcg.charge(world, thread, now_ns, Step.ANON_CHARGE)
    cost = world.config.cost
    if outcome == memcg.GOT:
        spent_ns = cost.anon_page_ns + cost.clear_page_ns + cost.map_anon_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.ANON_MAP)
    elif outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)


@compiled
def map_page(world, thread):
    """Set the page-table entry, unless another thread was quicker."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    if world.ptes[pte] != 0:
        return
    if fault.access == Access.WRITE:
        page_table.make_own(world, thread, fault.vma, pte)
    else:
        page_table.map_zero_page(world, fault.vma, pte)
