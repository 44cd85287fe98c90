"""Faults on pages that are in swap (do_swap_page): S2 to S8 are its steps.

A synchronous device (zram), and zswap, are read with the fault lock held; any other device is
waited for at S4, and there the lock may be let go (folio_lock_or_retry).
"""

import numpy as np

from faultlane_server.codes import NOBODY, Access, RetryReason, VmFault
from faultlane_server.engine import blame, device, sched
from faultlane_server.engine.fault import retry, wp
from faultlane_server.engine.fault.attempt import (
    drop,
    end_in_retry,
    fail_without_memory,
    pte_of,
)
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import (
    anon_page,
    charges,
    lru,
    memcg,
    page_cache,
    page_table,
    swap,
    swap_readahead,
    workingset,
)
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    BUSY,
    DIRTY,
    LOCKED,
    PRESENT,
    PTE_SHARED,
    PTE_SWAP,
    PTE_UFFD_WP,
    READAHEAD,
    SWAP_CACHE,
    SWAPPED,
    UPTODATE,
    WRITEBACK,
    Cause,
    Counter,
    Step,
    ThreadState,
    Waits,
)

COLLISION_JIFFIES = 2  # schedule_timeout_uninterruptible(1): up to two, by the rounding of timers


@compiled
def attempt(world, thread, now_ns, spent_ns):
    """Look the page up in the swap cache (S2)."""
    sched.owe(world, thread, spent_ns + world.config.cost.swap_lookup_ns)
    look_up(world, thread, now_ns)


@compiled
def look_up(world, thread, now_ns):
    """Find the page in the swap cache, or read it (S2, S3); also after a wait for memory."""
    fault = world.threads[thread]
    pte = pte_of(world, fault)
    bits = np.int64(world.ptes[pte])
    fault.folio = anon_page.number_of(world, pte)
    folio = world.folios[fault.folio]
    if not bits & PTE_SWAP:
        _leave(world, thread, now_ns)
    elif folio.state & SWAP_CACHE:
        charges.give_back(world, thread)
        swap_readahead.note_hit(world, fault.vma, fault.page, folio)
        page_cache.get(world, thread)
        _lock_or_retry(world, thread, now_ns)
    elif swap.is_read_at_once(world, folio) and not bits & PTE_SHARED:
        _read_at_once(world, thread, now_ns)
    else:
        _read_ahead(world, thread, now_ns)


@compiled
def _leave(world, thread, now_ns):
    """End the attempt: the entry is not what it was, and the access is made again (S5, S6)."""
    charges.give_back(world, thread)
    sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def _read_at_once(world, thread, now_ns):
    """Charge a page and read into it, unless somebody else does so already."""
    outcome = memcg.charge(world, thread, now_ns, Step.SWAP_LOOKUP)
    if outcome == memcg.WAITS:
        return
    if outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)
        return
    cost = world.config.cost
    folio = world.folios[world.threads[thread].folio]
    sched.owe(world, thread, cost.anon_page_ns)
    if folio.state & BUSY:
        _collide(world, thread, np.int64(folio.holder), now_ns)
        return
    folio.state |= BUSY
    folio.holder = thread
    spent_ns = swap.read_ns(world, thread, world.threads[thread].folio)
    sched.burst(world, thread, now_ns, spent_ns, Step.SWAP_READ_AT_ONCE)


@compiled
def _collide(world, thread, holder, now_ns):
    """Sleep until any reader of a synchronous device is done, or for a jiffy (swapcache_wq)."""
    row = world.threads[thread]
    count(world, Counter.SWAP_COLLISIONS, 1)
    row.behind = world.swap_line
    world.swap_line = thread
    row.in_swap_line = 1
    jiffy_ns = world.config.jiffy_ns
    until_ns = (now_ns // jiffy_ns + COLLISION_JIFFIES) * jiffy_ns
    row.timer = push(world.queue, until_ns, Kind.TIMER, thread)
    blame.wait_for_thread(world, thread, np.int64(Waits.SWAP_CACHE), holder, now_ns)
    sched.block(world, thread, now_ns, Cause.SWAP_CACHE, holder, Step.SWAP_COLLIDED)


@compiled
def collided(world, thread, now_ns):
    """Let the access be made again: by now somebody else has the page."""
    row = world.threads[thread]
    if row.in_swap_line:
        _leave_line(world, thread)
    _leave(world, thread, now_ns)


@compiled
def _leave_line(world, thread):
    row = world.threads[thread]
    row.in_swap_line = 0
    if world.swap_line == thread:
        world.swap_line = row.behind
        return
    at = world.swap_line
    while world.threads[at].behind != thread:
        at = world.threads[at].behind
    world.threads[at].behind = row.behind


@compiled
def _wake_line(world, thread, now_ns):
    """Wake all who wait for any reader of a synchronous device.

    A thread that its timer has woken stands in the line until it runs.
    """
    other = world.swap_line
    world.swap_line = NOBODY
    while other != NOBODY:
        row = world.threads[other]
        behind = row.behind
        row.in_swap_line = 0
        row.timer = -1
        if row.state == ThreadState.BLOCKED:
            sched.wake_from(world, other, thread, now_ns)
        other = behind


@compiled
def read_at_once(world, thread, now_ns):
    """Map a page that was read with the fault lock held; it never was in the swap cache."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    is_claimed = folio.state & BUSY != 0 and np.int64(folio.holder) == thread
    _wake_line(world, thread, now_ns)
    count(world, Counter.PGMAJFAULT, 1)
    count(world, Counter.PSWPIN, 1)
    fault.result |= VmFault.MAJOR
    if not is_claimed:  # the page went away meanwhile
        _leave(world, thread, now_ns)
        return
    folio.state ^= BUSY
    folio.holder = NOBODY
    _bring_in(world, thread, fault.folio, UPTODATE)
    swap.free_slot(world, folio)
    _set_entry(world, thread)
    sched.burst(world, thread, now_ns, world.config.cost.map_anon_ns, Step.RELEASE)


@compiled
def _bring_in(world, thread, number, state):
    """Make the page in hand the memory of a page that is in swap."""
    folio = world.folios[number]
    folio.state |= PRESENT | state
    folio.refs = 0
    folio.vma = world.threads[thread].vma
    if world.config.limits_memory:
        charges.hand_over(world, thread, number)
        lru.mark_used(world, folio, thread)
        workingset.refaulted(world, thread, number)
    lru.add(world, thread, number)


@compiled
def _read_ahead(world, thread, now_ns):
    """Charge the page, and pay for the window around it (swapin_readahead)."""
    outcome = memcg.charge(world, thread, now_ns, Step.SWAP_LOOKUP)
    if outcome == memcg.WAITS:
        return
    if outcome == memcg.FAILED:
        fail_without_memory(world, thread, now_ns)
        return
    pages = swap_readahead.plan(world, thread)
    cost = world.config.cost
    spent_ns = pages * (cost.swap_page_ns + cost.submit_ns)
    sched.burst(world, thread, now_ns, spent_ns, Step.SWAP_READ_AHEAD)


@compiled
def read_ahead(world, thread, now_ns):
    """Submit the reads of the window, and lock the page (S3, S4).

    It is major even if another thread has put the page into the swap cache meanwhile.
    """
    fault = world.threads[thread]
    count(world, Counter.PGMAJFAULT, 1)
    fault.result |= VmFault.MAJOR
    if not world.ptes[pte_of(world, fault)] & PTE_SWAP:
        _leave(world, thread, now_ns)
        return
    if not world.folios[fault.folio].state & (SWAP_CACHE | BUSY):
        _submit(world, thread, fault.folio, 0, now_ns)
    charges.give_back(world, thread)
    for pte in range(fault.ra_start, fault.ra_end):
        _read_neighbour(world, thread, pte, now_ns)
    if not world.folios[fault.folio].state & SWAP_CACHE:
        _leave(world, thread, now_ns)
        return
    page_cache.get(world, thread)
    _lock_or_retry(world, thread, now_ns)


@compiled
def _read_neighbour(world, thread, pte, now_ns):
    number = anon_page.number_of(world, pte)
    if not world.ptes[pte] & PTE_SWAP or world.folios[number].state & (SWAP_CACHE | BUSY):
        return
    if memcg.charge_weakly(world, thread, now_ns):
        count(world, Counter.SWAP_RA, 1)
        _submit(world, thread, number, READAHEAD, now_ns)


@compiled
def _submit(world, thread, number, marker, now_ns):
    """Put a page into the swap cache, locked, and read it."""
    folio = world.folios[number]
    count(world, Counter.PSWPIN, 1)
    if swap.is_read_at_once(world, folio):
        sched.owe(world, thread, swap.read_ns(world, thread, number))
        _bring_in(world, thread, number, SWAP_CACHE | UPTODATE | marker)
        return
    _bring_in(world, thread, number, SWAP_CACHE | LOCKED | marker)
    folio.holder = NOBODY
    device.read(world, thread, world.config.swap_device, number, 1, now_ns)


@compiled
def _lock_or_retry(world, thread, now_ns):
    """Lock the folio, or let go of the fault lock and wait until it is unlocked (S4)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    rule = world.config.rules[fault.fault_class]
    fault.rounds = 0
    fault.wait_is_killable = 1
    if page_cache.try_lock(world, thread, folio, now_ns):
        _locked(world, thread, now_ns)
        return
    sched.owe(world, thread, world.config.cost.folio_wait_ns)
    if retry.waits_directly(rule, folio):
        fault.wait_is_killable = rule.uptodate_killable
    elif retry.may_drop(rule, fault.lock, fault.tried):
        drop(world, thread, now_ns)
        if fault.killed:
            waited(world, thread, now_ns)
            return
        page_cache.wait_for(world, thread, folio, False, now_ns, Step.SWAP_WAITED)
        fault.killed_step = Step.SWAP_WAITED
        return
    _wait(world, thread, now_ns)


@compiled
def waited(world, thread, now_ns):
    """Retry: the folio was unlocked, or a fatal signal has come; nobody has locked it since."""
    fault = world.threads[thread]
    fault.waited_for = 1
    page_cache.put(world, thread)
    end_in_retry(world, thread, now_ns, RetryReason.S4)


@compiled
def _wait(world, thread, now_ns):
    """Wait for the folio with the fault lock held."""
    fault = world.threads[thread]
    if fault.killed and fault.wait_is_killable:
        killed(world, thread, now_ns)
        return
    folio = world.folios[fault.folio]
    page_cache.wait_for(world, thread, folio, True, now_ns, Step.SWAP_WOKEN)
    if fault.wait_is_killable:
        fault.killed_step = Step.SWAP_KILLED


@compiled
def woken(world, thread, now_ns):
    """Own the folio that was waited for, or wait again."""
    fault = world.threads[thread]
    if not page_cache.is_same(world, thread):
        _leave(world, thread, now_ns)
    elif page_cache.own(world, thread, world.folios[fault.folio], now_ns):
        _locked(world, thread, now_ns)
    else:
        _wait(world, thread, now_ns)


@compiled
def killed(world, thread, now_ns):
    """Give the wait up, because of a fatal signal."""
    drop(world, thread, now_ns)
    page_cache.put(world, thread)
    end_in_retry(world, thread, now_ns, RetryReason.KILLED)


@compiled
def _locked(world, thread, now_ns):
    """Look at the page with its folio locked (S5, S6)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    if not folio.state & SWAP_CACHE or not world.ptes[pte_of(world, fault)] & PTE_SWAP:
        page_cache.unlock_and_put(world, thread, now_ns)
        _leave(world, thread, now_ns)
    elif not folio.state & UPTODATE:
        page_cache.unlock_and_put(world, thread, now_ns)
        fault.result = VmFault.SIGBUS
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)
    else:
        sched.burst(world, thread, now_ns, world.config.cost.map_anon_ns, Step.SWAP_MAP)


@compiled
def map_page(world, thread, now_ns):
    """Map the page, and free its slot if that is to be done early (S7, S8)."""
    fault = world.threads[thread]
    folio = world.folios[fault.folio]
    is_shared = world.ptes[pte_of(world, fault)] & PTE_SHARED
    if not world.ptes[pte_of(world, fault)] & PTE_SWAP:
        page_cache.unlock_and_put(world, thread, now_ns)
        _leave(world, thread, now_ns)
        return
    if _frees_slot(world, fault, folio, is_shared):
        swap.free_slot(world, folio)
        folio.state |= DIRTY
    _set_entry(world, thread)
    page_cache.unlock_and_put(world, thread, now_ns)
    if fault.access == Access.WRITE and is_shared:
        wp.attempt(world, thread, now_ns, 0)
    else:
        sched.burst(world, thread, now_ns, 0, Step.RELEASE)


@compiled
def _frees_slot(world, fault, folio, is_shared):
    """Whether a slot is freed early (should_try_to_free_swap): nobody else may need it."""
    if is_shared or folio.state & WRITEBACK:
        return False
    is_own_write = fault.access == Access.WRITE and folio.refs == 1
    return swap.is_filling_up(world) or is_own_write


@compiled
def _set_entry(world, thread):
    """Let the entry map the page: writable after a write to a page that nobody else has."""
    fault = world.threads[thread]
    vma = world.vmas[fault.vma]
    pte = pte_of(world, fault)
    folio = world.folios[fault.folio]
    kept = np.int64(world.ptes[pte]) & (PTE_SHARED | PTE_UFFD_WP)
    is_written = fault.access == Access.WRITE and kept == 0
    world.ptes[pte] = page_table.swapped_in_entry(world, vma, is_written) | kept
    folio.mapcount = 1
    folio.vma = fault.vma
    world.mms[vma.mm].pages += 1
    if not folio.state & SWAPPED:
        folio.state |= DIRTY
