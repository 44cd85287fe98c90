"""Block devices: channels that work on one read each, and one line for the others.

A read is known by its first folio: that record says how many pages it has, which
CPU submitted it and which read comes behind it.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine import draw, sched
from faultlane_server.engine.draw import Purpose
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.locks import folio_lock
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import UPTODATE, Cause, Counter

READS_BITS = 24  # of the ordinal of a draw; the page stands above


@compiled
def submit(world, thread, device, folio, pages, now_ns):
    """Read `pages` pages from `folio` on; their folios are locked until that is done."""
    first = world.folios[folio]
    first.io_pages = pages
    first.io_cpu = world.threads[thread].cpu
    first.io_device = device
    first.io_next = -1
    first.reads += 1
    world.threads[thread].reads += 1
    count(world, Counter.DEVICE_READS, 1)
    count(world, Counter.DEVICE_PAGES, pages)
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
    """Let a channel work on a read. Its latency is drawn by page and how-many-th read of it."""
    row = world.devices[device]
    read = world.folios[folio]
    ordinal = (folio << READS_BITS) + np.int64(read.reads)
    bits = draw.word(world.config.seed, Purpose.IO, device, ordinal)
    service_ns = draw.duration(row.latency, world, bits) + row.page_ns * np.int64(read.io_pages)
    push(world.queue, now_ns + service_ns, Kind.READ, folio)


@compiled
def read_done(world, folio, now_ns):
    """Complete a read: its pages are up to date, and who waits for them goes on."""
    first = world.folios[folio]
    device = np.int64(first.io_device)
    cpu = np.int64(first.io_cpu)
    cost = world.config.cost
    pages = np.int64(first.io_pages)
    delay_ns = sched.interrupt(world, cpu, cost.irq_ns + pages * cost.irq_page_ns)
    _start_next(world, device, now_ns)
    for page in range(folio, folio + pages):
        world.folios[page].state |= UPTODATE
        delay_ns = _unlock(world, page, now_ns, cpu, delay_ns)


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
    _waiters_wait_for(world, folio, now_ns, Cause.FOLIO)
    thread = folio_lock.unlock(folio, world.threads)
    while thread != NOBODY:
        behind = world.threads[thread].behind
        delay_ns += sched.interrupt(world, cpu, world.config.cost.wake_ns)
        sched.wake(world, thread, now_ns, delay_ns)
        thread = behind
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
        thread = world.threads[thread].behind
