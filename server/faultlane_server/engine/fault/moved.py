"""Faults on pages that are elsewhere: being migrated, or with a device (do_swap_page, S1)."""

import numpy as np

from faultlane_server.codes import FaultKind, FaultLock, RetryReason
from faultlane_server.engine import sched
from faultlane_server.engine.fault.attempt import (
    drop,
    drop_if_allowed,
    end_in_retry,
    fail_without_memory,
    locate,
    pte_of,
    retry_at_once,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import memcg, page_cache, page_table
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_DEVICE_EXCLUSIVE,
    PTE_DEVICE_PRIVATE,
    PTE_MIGRATION,
    PTE_YOUNG,
    Step,
)


@compiled
def attempt(world, thread, now_ns, spent_ns, pte):
    """Wait for the page, or get it back."""
    fault = world.threads[thread]
    if pte & PTE_MIGRATION:
        fault.kind = FaultKind.MIGRATION
        _wait_for_migration(world, thread, now_ns, spent_ns, pte)
    elif pte & PTE_DEVICE_PRIVATE:
        fault.kind = FaultKind.DEVICE_PRIVATE
        _bring_back(world, thread, now_ns, spent_ns)
    else:
        assert pte & PTE_DEVICE_EXCLUSIVE, "an entry of no known kind"
        fault.kind = FaultKind.DEVICE_EXCLUSIVE
        _lock_exclusive(world, thread, now_ns, spent_ns)


@compiled
def _wait_for_migration(world, thread, now_ns, spent_ns, pte):
    """Wait until the folio is unlocked, with the fault lock held; no signal ends it.

    migration_entry_wait does not refer to the folio meanwhile: that would keep it where it is.
    """
    fault = world.threads[thread]
    if pte & PTE_ANON:
        fault.folio = world.config.anon_first + pte_of(world, fault)
    else:
        locate(world, thread)
    folio = world.folios[fault.folio]
    sched.owe(world, thread, spent_ns + world.config.cost.folio_wait_ns)
    page_cache.wait_for(world, thread, folio, False, now_ns, Step.MIGRATION_OVER)


@compiled
def _bring_back(world, thread, now_ns, spent_ns):
    """Let the driver bring a page back (migrate_to_ram), which it can under mmap_lock only."""
    if world.threads[thread].lock == FaultLock.VMA:
        retry_at_once(world, thread, now_ns, spent_ns, RetryReason.DEVICE_PRIVATE)
        return
    sched.owe(world, thread, spent_ns)
    get_page(world, thread, now_ns)


@compiled
def get_page(world, thread, now_ns):
    """Charge the page that it is brought back to."""
    outcome = memcg.charge(world, thread, now_ns, Step.DEVICE_CHARGE)
    if outcome == memcg.GOT:
        sched.burst(world, thread, now_ns, world.config.cost.migrate_to_ram_ns, Step.BROUGHT_BACK)
    elif outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)


@compiled
def brought_back(world, thread):
    """Map the page, unless another thread was quicker."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    if world.ptes[pte] & PTE_DEVICE_PRIVATE:
        bits = np.int64(world.ptes[pte])
        page_table.make_own(world, thread, fault.vma, pte)
        vma = world.vmas[fault.vma]
        entry = page_table.protected(world, vma, bits | PTE_YOUNG, vma.protection)
        world.ptes[pte] = entry


@compiled
def _lock_exclusive(world, thread, now_ns, spent_ns):
    """Lock the folio, or let go of the fault lock and wait (folio_lock_or_retry)."""
    fault = world.threads[thread]
    fault.folio = world.config.anon_first + pte_of(world, fault)
    fault.rounds = 0
    page_cache.get(world, thread)
    sched.owe(world, thread, spent_ns)
    if page_cache.try_lock(world, thread, world.folios[fault.folio], now_ns):
        _make_normal(world, thread, now_ns)
        return
    sched.owe(world, thread, world.config.cost.folio_wait_ns)
    drop_if_allowed(world, thread, now_ns)
    if fault.dropped:
        _wait_for_unlock(world, thread, now_ns)
    else:
        _wait_to_own(world, thread, now_ns)


@compiled
def _wait_for_unlock(world, thread, now_ns):
    fault = world.threads[thread]
    if fault.killed:
        exclusive_waited(world, thread, now_ns)
        return
    folio = world.folios[fault.folio]
    page_cache.wait_for(world, thread, folio, False, now_ns, Step.EXCLUSIVE_WAITED)
    fault.killed_step = Step.EXCLUSIVE_WAITED


@compiled
def exclusive_waited(world, thread, now_ns):
    """Try again: the folio was unlocked, or a fatal signal has ended the wait for that."""
    page_cache.put(world, thread)
    end_in_retry(world, thread, now_ns, RetryReason.DEVICE_EXCLUSIVE)


@compiled
def _wait_to_own(world, thread, now_ns):
    fault = world.threads[thread]
    if fault.killed:
        exclusive_killed(world, thread, now_ns)
        return
    folio = world.folios[fault.folio]
    page_cache.wait_for(world, thread, folio, True, now_ns, Step.EXCLUSIVE_WOKEN)
    fault.killed_step = Step.EXCLUSIVE_KILLED


@compiled
def exclusive_woken(world, thread, now_ns):
    """Own the folio, or be beaten to it and wait again."""
    if page_cache.own(world, thread, world.folios[world.threads[thread].folio], now_ns):
        _make_normal(world, thread, now_ns)
    else:
        _wait_to_own(world, thread, now_ns)


@compiled
def exclusive_killed(world, thread, now_ns):
    """Give the wait up with the fault lock held, because of a fatal signal."""
    drop(world, thread, now_ns)
    exclusive_waited(world, thread, now_ns)


@compiled
def _make_normal(world, thread, now_ns):
    spent_ns = world.config.cost.device_exclusive_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.EXCLUSIVE_RESTORED)


@compiled
def exclusive_restored(world, thread, now_ns):
    """Map the page (restore_exclusive_pte), unless another thread was quicker."""
    fault = world.threads[thread]
    if world.ptes[pte_of(world, fault)] & PTE_DEVICE_EXCLUSIVE:
        page_table.bring_back(world, fault.vma, pte_of(world, fault))
    page_cache.unlock_and_put(world, thread, now_ns)
