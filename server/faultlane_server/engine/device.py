"""Block devices: channels that work on one request each, and one line for the others.

A request is known by its first folio: that record says how many pages it has, which
CPU submitted it and which request comes behind it. A folio is locked while it is read, and
under writeback while it is written; so it is in one request at a time.
"""

import numpy as np

from faultlane_server.codes import NOBODY, DeviceKind
from faultlane_server.engine import blame, draw, sched
from faultlane_server.engine.draw import Purpose
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.locks import folio_lock
from faultlane_server.engine.memory import lru
from faultlane_server.engine.queue import Kind, id_of, push
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    BAD,
    HELD_BACK,
    READAHEAD,
    UPTODATE,
    WRITEBACK,
    Cause,
    Counter,
)

ORDINAL_BITS = 24  # of the ordinal of a draw; the page stands above
PPM = 1_000_000
WRITTEN = 0xFFFFFFFF ^ (WRITEBACK | READAHEAD)


@compiled
def read(world, thread, device, folio, pages, now_ns):
    """Read `pages` pages from `folio` on; their folios are locked until that is done."""
    world.folios[folio].reads += 1
    world.threads[thread].reads += 1
    count(world, Counter.DEVICE_READS, 1)
    count(world, Counter.DEVICE_PAGES, pages)
    if world.devices[device].kind == DeviceKind.SYNCHRONOUS:
        _read_at_once(world, thread, device, folio, pages, now_ns)
        return
    _submit(world, world.threads[thread].cpu, device, folio, pages, now_ns)


@compiled
def _read_at_once(world, thread, device, folio, pages, now_ns):
    """Complete a read inside the call that submits it, at the expense of the thread."""
    world.folios[folio].io_pages = pages
    sched.owe(world, thread, _service_ns(world, device, folio))
    is_good = not _fails(world, device, folio, pages)
    if not is_good:
        count(world, Counter.READ_ERRORS, 1)
    for page in range(folio, folio + pages):
        if is_good:
            world.folios[page].state |= UPTODATE
        woken = folio_lock.unlock(world.folios[page], world.threads)
        while woken != NOBODY:
            behind = world.threads[woken].behind
            sched.wake_from(world, woken, thread, now_ns)
            woken = behind
        _waiters_wait_for(world, world.folios[page], now_ns, Cause.FOLIO)


@compiled
def swap_ns(world, thread, device, folio, is_write):
    """Return how long a synchronous device takes to swap a page in or out, and count that."""
    first = world.folios[folio]
    if is_write:
        first.writes = (np.int64(first.writes) + 1) & 0xFFFF
        count(world, Counter.DEVICE_WRITES, 1)
        count(world, Counter.DEVICE_PAGES_WRITTEN, 1)
        bits = _word(world, Purpose.WRITE, device, folio, np.int64(first.writes))
        return draw.duration(world.devices[device].write_latency, world, bits)
    first.reads += 1
    world.threads[thread].reads += 1
    count(world, Counter.DEVICE_READS, 1)
    count(world, Counter.DEVICE_PAGES, 1)
    bits = _word(world, Purpose.IO, device, folio, np.int64(first.reads))
    return draw.duration(world.devices[device].latency, world, bits)


@compiled
def write(world, cpu, device, folio, pages, now_ns):
    """Write `pages` pages from `folio` on; their folios are under writeback until that is done."""
    first = world.folios[folio]
    first.writes = (np.int64(first.writes) + 1) & 0xFFFF
    count(world, Counter.DEVICE_WRITES, 1)
    count(world, Counter.DEVICE_PAGES_WRITTEN, pages)
    _submit(world, cpu, device, folio, pages, now_ns)


@compiled
def _submit(world, cpu, device, folio, pages, now_ns):
    first = world.folios[folio]
    first.io_pages = pages
    first.io_cpu = cpu
    first.io_device = device
    first.io_next = -1
    row = world.devices[device]
    if row.iops_ns > 0 and row.passes_ns > now_ns:
        _hold_back(world, device, folio)
        return
    row.passes_ns = now_ns + row.iops_ns
    _enqueue(world, device, folio, now_ns)


@compiled
def _hold_back(world, device, folio):
    """Keep a request before the device until io.max lets it through (blk-throttle)."""
    row = world.devices[device]
    world.folios[folio].state |= HELD_BACK
    kind = Kind.WRITE if world.folios[folio].state & WRITEBACK else Kind.READ
    push(world.queue, row.passes_ns, kind, folio)
    row.passes_ns += row.iops_ns


@compiled
def let_through(world, folio, now_ns):
    """Give a request that was held back to its device."""
    world.folios[folio].state ^= HELD_BACK
    _enqueue(world, np.int64(world.folios[folio].io_device), folio, now_ns)


@compiled
def is_held_back(world, folio):
    return world.folios[folio].state & HELD_BACK != 0


@compiled
def _enqueue(world, device, folio, now_ns):
    row = world.devices[device]
    if row.busy < row.channels:
        row.busy += 1
        _start(world, device, folio, now_ns)
    elif row.first < 0:
        row.first = folio
        row.last = folio
    else:
        world.folios[row.last].io_next = folio
        row.last = folio


@compiled
def _start(world, device, folio, now_ns):
    """Let a channel work on a request.

    Its latency is drawn by its page, and how-many-th read or write of it this is.
    """
    kind = Kind.WRITE if world.folios[folio].state & WRITEBACK else Kind.READ
    push(world.queue, now_ns + _service_ns(world, device, folio), kind, folio)


@compiled
def _service_ns(world, device, folio):
    row = world.devices[device]
    first = world.folios[folio]
    transfer_ns = row.page_ns * np.int64(first.io_pages)
    if first.state & WRITEBACK:
        bits = _word(world, Purpose.WRITE, device, folio, np.int64(first.writes))
        return transfer_ns + draw.duration(row.write_latency, world, bits)
    bits = _word(world, Purpose.IO, device, folio, np.int64(first.reads))
    return transfer_ns + draw.duration(row.latency, world, bits)


@compiled
def _word(world, purpose, device, folio, how_many_th):
    ordinal = (folio << ORDINAL_BITS) + how_many_th
    return draw.word(world.config.seed, purpose, device, ordinal)


@compiled
def read_done(world, folio, now_ns):
    """Complete a read: unless it failed its pages are up to date, and their waiters go on."""
    first = world.folios[folio]
    device = np.int64(first.io_device)
    cpu = np.int64(first.io_cpu)
    cost = world.config.cost
    pages = np.int64(first.io_pages)
    delay_ns = sched.interrupt(world, cpu, cost.irq_ns + pages * cost.irq_page_ns)
    _start_next(world, device, now_ns)
    filled = UPTODATE
    if _fails(world, device, folio, pages):
        filled = 0
        count(world, Counter.READ_ERRORS, 1)
    for page in range(folio, folio + pages):
        world.folios[page].state |= filled
        delay_ns = _unlock(world, page, now_ns, cpu, delay_ns)


@compiled
def _fails(world, device, folio, pages):
    """Whether a read fails: by chance, or because the device cannot read one of its pages."""
    for page in range(folio, folio + pages):
        if world.folios[page].state & BAD:
            return True
    error_ppm = world.devices[device].error_ppm
    if error_ppm == 0:
        return False
    bits = _word(world, Purpose.ERROR, device, folio, np.int64(world.folios[folio].reads))
    return draw.below(bits, PPM) < error_ppm


@compiled
def write_done(world, folio, now_ns):
    """Complete a write (folio_end_writeback), which clears PG_reclaim, and wake who waits for it.

    A page that was made dirty again in the meantime stays so.
    """
    first = world.folios[folio]
    cpu = np.int64(first.io_cpu)
    cost = world.config.cost
    pages = np.int64(first.io_pages)
    delay_ns = sched.interrupt(world, cpu, cost.irq_ns + pages * cost.irq_page_ns)
    _start_next(world, np.int64(first.io_device), now_ns)
    for page in range(folio, folio + pages):
        is_for_reclaim = world.folios[page].state & READAHEAD != 0
        world.folios[page].state &= WRITTEN
        if is_for_reclaim:
            lru.rotate(world, page)
    world.under_writeback -= pages
    before = NOBODY
    thread = world.written_first
    while thread != NOBODY:
        behind = world.threads[thread].behind
        if folio <= world.threads[thread].written_folio < folio + pages:
            _take_from_line(world, before, thread)
            delay_ns += sched.interrupt(world, cpu, cost.wake_ns)
            sched.wake(world, thread, now_ns, delay_ns)
        else:
            before = thread
        thread = behind


@compiled
def _take_from_line(world, before, thread):
    """Take a thread out of the line of those who wait for a writeback."""
    behind = world.threads[thread].behind
    if before == NOBODY:
        world.written_first = behind
    else:
        world.threads[before].behind = behind
    if behind == NOBODY:
        world.written_last = before


@compiled
def prefetch_next(world):
    """Let what the next reads are about be fetched: folios of some, and who waits for the next."""
    heap = world.queue.heap
    for place in range(1, 5):
        prefetch(world.folios[id_of(heap[place].key)])
    thread = np.int64(world.folios[id_of(heap[0].key)].first)
    if thread != NOBODY:
        prefetch(world.threads[thread])


@compiled
def _start_next(world, device, now_ns):
    row = world.devices[device]
    folio = row.first
    if folio < 0:
        row.busy -= 1
        return
    row.first = np.int64(world.folios[folio].io_next)
    if row.first >= 0:
        prefetch(world.folios[row.first])
    _start(world, device, folio, now_ns)


@compiled
def _unlock(world, page, now_ns, cpu, delay_ns):
    """Unlock a folio from the interrupt on `cpu`; returns for how long that lasts by now."""
    folio = world.folios[page]
    if np.int64(folio.first) == NOBODY:
        folio_lock.unlock(folio, world.threads)
        return delay_ns
    thread = folio_lock.unlock(folio, world.threads)
    while thread != NOBODY:
        behind = world.threads[thread].behind
        delay_ns += sched.interrupt(world, cpu, world.config.cost.wake_ns)
        sched.wake(world, thread, now_ns, delay_ns)
        thread = behind
    _waiters_wait_for(world, folio, now_ns, Cause.FOLIO)
    return delay_ns


@compiled
def wait_for_read(world, folio, now_ns):
    """Charge who waits for a folio to the device from now on: a read holds it."""
    _waiters_wait_for(world, folio, now_ns, Cause.DEVICE)


@compiled
def _waiters_wait_for(world, folio, now_ns, cause):
    thread = np.int64(folio.first)
    while thread != NOBODY:
        sched.change_cause(world, thread, now_ns, cause, NOBODY)
        if cause == Cause.FOLIO:
            blame.wait_for_folio(world, thread, folio, now_ns)
        thread = world.threads[thread].behind
