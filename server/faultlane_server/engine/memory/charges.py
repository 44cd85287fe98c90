"""Whom a page is charged to: stocks of CPUs, pages in hand, and giving pages back."""

import numpy as np

from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import lru
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import EVERYBODY, NOT_SHORT, Counter, ThreadState

BATCH = 64  # MEMCG_CHARGE_BATCH


@compiled
def take(world, thread, now_ns):
    """Take a page, out of the stock of the CPU or of the memcg; returns who is short of pages."""
    row = world.threads[thread]
    cpu = world.cpus[row.cpu]
    memcg = world.mms[row.mm].memcg
    if not _take_frame(world, thread, now_ns):
        return EVERYBODY
    if cpu.stock > 0 and cpu.stock_memcg == memcg:
        cpu.stock -= 1
        return NOT_SHORT
    group = world.memcgs[memcg]
    pages = BATCH if group.usage + BATCH <= group.pages_max else 1
    if group.usage + pages > group.pages_max:
        world.frames_free += 1
        count(world, Counter.MEMCG_MAX, 1)
        return memcg
    group.usage += pages
    _stock(world, cpu, memcg, pages - 1)
    if group.usage > group.pages_high:
        row.over_high += pages
        count(world, Counter.MEMCG_HIGH, 1)
    return NOT_SHORT


@compiled
def take_by_force(world, thread):
    """Take a page whatever the limits say: who takes it is about to die."""
    world.frames_free -= 1
    world.memcgs[world.mms[world.threads[thread].mm].memcg].usage += 1


@compiled
def _take_frame(world, thread, now_ns):
    """Take a page frame; kswapd is woken before there are none."""
    config = world.config
    if config.frames > 0 and world.frames_free <= config.frames_low:
        _wake_kswapd(world, thread, now_ns)
        if world.frames_free <= config.frames_min:
            return False
    world.frames_free -= 1
    return True


@compiled
def _wake_kswapd(world, waker, now_ns):
    thread = world.kswapd
    if thread != waker and world.threads[thread].state == ThreadState.BLOCKED:
        if world.threads[thread].idle:
            world.threads[thread].idle = 0
            sched.wake_from(world, thread, waker, now_ns)


@compiled
def _stock(world, cpu, memcg, pages):
    """Keep pages that were charged and not used yet; a CPU has a stock for one memcg."""
    if cpu.stock_memcg != memcg or cpu.stock + pages > BATCH:
        drain_stock(world, cpu)
        cpu.stock_memcg = memcg
    cpu.stock += pages


@compiled
def drain_stock(world, cpu):
    """Give a CPU's stock back to its memcg."""
    if cpu.stock > 0:
        world.memcgs[cpu.stock_memcg].usage -= cpu.stock
        cpu.stock = 0


@compiled
def drain_all_stocks(world):
    """Give the stocks of all CPUs back (drain_all_stock)."""
    for cpu in range(world.config.cpus):
        drain_stock(world, world.cpus[cpu])


@compiled
def hand_over(world, thread, number):
    """Make the page that a thread has in hand this one: it is charged for from now on."""
    if world.config.limits_memory == 0:
        return
    row = world.threads[thread]
    assert row.in_hand == 1, "a page was charged before it is used"
    row.in_hand = 0
    world.folios[number].memcg = world.mms[row.mm].memcg + 1


@compiled
def give_back(world, thread):
    """Let go of the page that a thread has in hand, if it has one."""
    row = world.threads[thread]
    if row.in_hand:
        row.in_hand = 0
        world.memcgs[world.mms[row.mm].memcg].usage -= 1
        world.frames_free += 1


@compiled
def keep_for_copy(world, thread):
    """Put the page in hand aside for the copy that a private write makes at its end."""
    row = world.threads[thread]
    row.copy_in_hand += row.in_hand
    row.in_hand = 0


@compiled
def take_for_copy(world, thread):
    """Take the page that was put aside in hand again."""
    row = world.threads[thread]
    row.in_hand += row.copy_in_hand
    row.copy_in_hand = 0


@compiled
def uncharge(world, number):
    """Free a page: it leaves its list and its memcg."""
    folio = world.folios[number]
    lru.take(world, number)
    memcg = np.int64(folio.memcg) - 1
    if memcg >= 0:
        folio.memcg = 0
        world.memcgs[memcg].usage -= 1
        assert world.memcgs[memcg].usage >= 0, "a memcg is charged for its pages"
        world.frames_free += 1
