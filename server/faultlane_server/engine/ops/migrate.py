"""Moving pages to other memory, one folio after another (migrate_pages, in its synchronous mode).

A folio is locked, unmapped wherever it is mapped, copied, mapped again and unlocked; who accesses
it meanwhile waits for its lock. One that somebody refers to stays where it is.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space, page_cache, page_table, rmap
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_PRESENT,
    PTE_ZERO,
    WRITEBACK,
    Counter,
    Step,
)


@compiled
def begin(world, thread, now_ns):
    """Begin with the first page of the range."""
    world.threads[thread].rounds = 0
    spent_ns = world.config.cost.migrate_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.MIGRATE_NEXT)


@compiled
def go_on(world, thread, now_ns):
    """Lock the folio of the next page that is mapped, or leave."""
    caller = world.threads[thread]
    while caller.op_at < caller.op_end:
        caller.op_folio = _folio_at(world, caller)
        if caller.op_folio != NOBODY:
            _lock(world, thread, now_ns)
            return
        caller.op_at += 1
    entry.leave(world, thread, now_ns)


@compiled
def _folio_at(world, caller):
    """Return the folio of the present page, or NOBODY."""
    slot = address_space.find(world, caller.mm, caller.op_at)
    if slot == NOBODY:
        return NOBODY
    vma = world.vmas[slot]
    pte = vma.pte + (caller.op_at - vma.start)
    bits = world.ptes[pte]
    if not bits & PTE_PRESENT or bits & PTE_ZERO:
        return NOBODY
    if bits & PTE_ANON:
        return world.config.anon_first + pte
    file = world.files[world.opens[vma.open].file]
    if file.kind == FileKind.SPECIAL:
        return NOBODY
    return file.first + vma.offset + (caller.op_at - vma.start)


@compiled
def _lock(world, thread, now_ns):
    folio = world.folios[world.threads[thread].op_folio]
    if page_cache.own(world, thread, folio, now_ns):
        locked(world, thread, now_ns)
    else:
        page_cache.wait_for(world, thread, folio, True, now_ns, Step.MIGRATE_WOKEN)


@compiled
def woken(world, thread, now_ns):
    """Own the folio that was waited for, or look at the page anew."""
    caller = world.threads[thread]
    if page_cache.own(world, thread, world.folios[caller.op_folio], now_ns):
        locked(world, thread, now_ns)
        return
    if _folio_at(world, caller) != caller.op_folio:
        caller.rounds = 0
    go_on(world, thread, now_ns)


@compiled
def locked(world, thread, now_ns):
    """Unmap the page and copy it, if it is still the one that was meant, and nobody uses it."""
    caller = world.threads[thread]
    folio = world.folios[caller.op_folio]
    if _folio_at(world, caller) != caller.op_folio:
        _next(world, thread, 0, now_ns)
    elif folio.state & WRITEBACK:
        page = caller.op_folio
        page_cache.wait_until_written(world, thread, page, now_ns, Step.MIGRATE_STABLE)
    elif folio.refs > 0:
        count(world, Counter.NOT_MIGRATED, 1)
        _next(world, thread, 1, now_ns)
    else:
        _unmap(world, caller)
        spent_ns = world.config.cost.migrate_page_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.MIGRATE_COPIED)


@compiled
def _unmap(world, caller):
    if caller.op_folio >= world.config.anon_first:
        vma = world.vmas[address_space.find(world, caller.mm, caller.op_at)]
        page_table.begin_migration(world, vma, caller.op_folio - world.config.anon_first)
    else:
        file = np.int64(world.folios[caller.op_folio].file)
        rmap.begin_migration(world, file, caller.op_folio - world.files[file].first)


@compiled
def copied(world, thread, now_ns):
    """Map the page again, wherever it was mapped and nobody has unmapped it meanwhile."""
    caller = world.threads[thread]
    if caller.op_folio >= world.config.anon_first:
        _map_again(world, caller)
    else:
        file = np.int64(world.folios[caller.op_folio].file)
        rmap.end_migration(world, file, caller.op_folio - world.files[file].first)
    count(world, Counter.MIGRATED, 1)
    _next(world, thread, 1, now_ns)


@compiled
def _map_again(world, caller):
    pte = caller.op_folio - world.config.anon_first
    slot = address_space.find(world, caller.mm, caller.op_at)
    if slot != NOBODY:
        page_table.end_migration(world, world.vmas[slot], pte)


@compiled
def _next(world, thread, pages, now_ns):
    """Unlock the folio, and go on so many pages later."""
    caller = world.threads[thread]
    page_cache.unlock(world, thread, world.folios[caller.op_folio], now_ns)
    caller.op_at += pages
    caller.rounds = 0
    sched.burst(world, thread, now_ns, 0, Step.MIGRATE_NEXT)
