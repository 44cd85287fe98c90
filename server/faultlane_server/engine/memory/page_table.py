"""Page-table entries: whether a page is mapped, and which accesses do not fault."""

import numpy as np

from faultlane_server.codes import Access, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import PTE_EXEC, PTE_PRESENT, PTE_READ

READ = 1 << Protection.READ
WRITE = 1 << Protection.WRITE
EXEC = 1 << Protection.EXEC


@compiled
def entry(world, protection):
    """Return the entry of a present page in a VMA of some protection."""
    bits = PTE_PRESENT
    readable = READ | WRITE if world.config.read_needs_read else READ | WRITE | EXEC
    if protection & readable:
        bits |= PTE_READ
    if protection & EXEC:
        bits |= PTE_EXEC
    return bits


@compiled
def pte_bit(access):
    """Return the bit without which an access faults."""
    if access == Access.EXEC:
        return PTE_EXEC
    return PTE_READ


@compiled
def protect(world, pte, pages, protection):
    """Give the present pages of a range the entries of a new protection; returns how many."""
    bits = entry(world, protection)
    present = 0
    for at in range(pte, pte + pages):
        if world.ptes[at] & PTE_PRESENT:
            world.ptes[at] = bits
            present += 1
    return present


@compiled
def zap(world, pte, pages):
    """Clear the entries of a range."""
    for at in range(pte, pte + pages):
        world.ptes[at] = 0


@compiled
def count_present(world, pte, pages):
    """Return how many pages of a range are mapped."""
    present = 0
    for at in range(pte, pte + pages):
        present += np.int64(world.ptes[at]) & PTE_PRESENT
    return present
