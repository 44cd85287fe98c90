"""Swap: its slots, and writing pages out.

A page of anonymous memory, or of tmpfs, has at most one slot, known by the page itself. In the
swap cache it has a slot and is in memory. What is written out goes to zswap while that has room,
else to the swap device: at once if that is synchronous (zram), else by a request.
"""

from faultlane_server.codes import NOBODY, DeviceKind
from faultlane_server.engine import device
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    DIRTY,
    READAHEAD,
    SWAP_CACHE,
    SWAPPED,
    WRITEBACK,
    ZSWAP,
    Counter,
)


@compiled
def has_room(world):
    """Whether there is swap, and a slot is free in it."""
    return world.swap_used < world.config.swap_pages


@compiled
def is_filling_up(world):
    """Whether more than half of the slots are used (vm_swap_full): slots are freed early then."""
    return 2 * world.swap_used > world.config.swap_pages


@compiled
def reserve(world, folio):
    """Put a page into the swap cache, with a slot of its own; returns whether there is one."""
    if not folio.state & SWAPPED:
        if not has_room(world):
            return False
        world.swap_used += 1
    folio.state |= SWAPPED | SWAP_CACHE | DIRTY
    return True


@compiled
def free_slot(world, folio):
    """Free the slot of a page, if it has one."""
    if folio.state & SWAPPED:
        world.swap_used -= 1
        assert world.swap_used >= 0, "a slot that is freed was used"
        if folio.state & ZSWAP:
            world.zswap_used -= 1
        folio.state &= 0xFFFFFFFF ^ (SWAPPED | SWAP_CACHE | ZSWAP)


@compiled
def is_synchronous(world):
    """Whether reads and writes of the swap device complete inside the call."""
    config = world.config
    return (
        config.swap_device != NOBODY
        and world.devices[config.swap_device].kind == DeviceKind.SYNCHRONOUS
    )


@compiled
def write_out(world, thread, number, now_ns):
    """Write a page of the swap cache to its slot (swap_writepage); returns whether that is done."""
    folio = world.folios[number]
    folio.state &= 0xFFFFFFFF ^ DIRTY
    count(world, Counter.PSWPOUT, 1)
    row = world.threads[thread]
    cost = world.config.cost
    if folio.state & ZSWAP:
        world.zswap_used -= 1
        folio.state ^= ZSWAP
    if world.zswap_used < world.config.zswap_pages:
        world.zswap_used += 1
        folio.state |= ZSWAP
        row.reclaim_owed_ns += cost.compress_page_ns
        return True
    if is_synchronous(world):
        swap_device = world.config.swap_device
        row.reclaim_owed_ns += device.swap_ns(world, thread, swap_device, number, True)
        return True
    row.reclaim_owed_ns += cost.submit_ns
    folio.state |= WRITEBACK | READAHEAD
    world.under_writeback += 1
    device.write(world, row.cpu, world.config.swap_device, number, 1, now_ns)
    return False


@compiled
def read_ns(world, thread, number):
    """Return how long it takes to read a page whose read completes inside the call."""
    if world.folios[number].state & ZSWAP:
        return world.config.cost.decompress_page_ns
    return device.swap_ns(world, thread, world.config.swap_device, number, False)


@compiled
def is_read_at_once(world, folio):
    """Whether the read of a page completes inside the call: out of zswap, or of zram."""
    return folio.state & ZSWAP != 0 or is_synchronous(world)
