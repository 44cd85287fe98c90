"""A stack that grows down to a fault below it (expand_stack, stack growth of M0).

Nobody can turn mmap_lock for read into one for write: it is let go, taken for write, and the VMA
is looked for anew; then it is write-locked, grows, and the lock is downgraded.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import Counter


@compiled
def can_grow(world, thread):
    """Whether there is a stack that may grow down to the fault."""
    fault = world.threads[thread]
    return address_space.find_stack(world, fault.mm, fault.page) != NOBODY


@compiled
def is_there(world, thread):
    """Whether a VMA covers the fault by now."""
    fault = world.threads[thread]
    return address_space.find(world, fault.mm, fault.page) != NOBODY


@compiled
def plan(world, thread):
    """Plan the growth, with mmap_lock held for write; returns whether there is any."""
    fault = world.threads[thread]
    fault.locks_count = 0
    slot = address_space.find_stack(world, fault.mm, fault.page)
    if slot == NOBODY or is_there(world, thread):
        return False
    fault.locks[0] = slot
    fault.locks_count = 1
    fault.work_ns = world.config.cost.stack_grow_ns
    return True


@compiled
def grow(world, thread):
    """Let the stack begin at the page of the fault."""
    fault = world.threads[thread]
    slot = address_space.find_stack(world, fault.mm, fault.page)
    address_space.move_start(world, slot, fault.page)
    count(world, Counter.STACKS_GROWN, 1)
