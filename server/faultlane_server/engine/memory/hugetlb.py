"""The pool of huge pages: which are free, and for what some of these are reserved (mm/hugetlb.c).

A page-table entry of a hugetlb VMA maps a huge page, and such a VMA has one page number for each
of its huge pages; so has a file of hugetlbfs. A reservation stands at the folio that it is for:
that of the entry in a private mapping, that of the file in a shared one. The pages that a fork's
child has for itself come back when it has ended, which is found out when they are needed.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    COMING,
    PRESENT,
    PTE_ANON,
    PTE_SHARED,
    RESERVED,
    UPTODATE,
    VM_NORESERVE,
    Counter,
)

NOT_RESERVED = 0xFFFFFFFF ^ RESERVED
NOT_COMING = 0xFFFFFFFF ^ COMING


@compiled
def folio_for(world, vma, pte):
    """Return the folio at which a reservation for a page of a VMA stands."""
    if vma.private:
        return world.config.anon_first + pte
    return world.files[world.opens[vma.open].file].first + vma.offset + (pte - vma.pte)


@compiled
def reserve(world, first, pages):
    """Reserve a page for each of some folios that is not there; returns whether there are enough.

    One that is about to be there needs none: allocation commits it before the page is zeroed.
    Otherwise nothing is reserved (hugetlb_reserve_pages).
    """
    wanted = 0
    for number in range(first, first + pages):
        wanted += int(_is_wanted(world.folios[number]))
    if wanted > _spare(world):
        return False
    for number in range(first, first + pages):
        if _is_wanted(world.folios[number]):
            world.folios[number].state |= RESERVED
    world.hugetlb.reserved += wanted
    return True


@compiled
def _is_wanted(folio):
    return folio.state & (PRESENT | RESERVED | COMING) == 0


@compiled
def _spare(world):
    """Return how many free pages nobody has reserved."""
    if world.hugetlb.with_children > 0:
        for mm in range(world.config.processes):
            take_back_from_children(world, mm)
    return world.hugetlb.free - world.hugetlb.reserved


@compiled
def take_back_from_children(world, mm):
    """Let the pages of children that have ended be free."""
    row = world.mms[mm]
    if row.huge_with_children > 0 and world.now_ns >= row.children_until_ns:
        world.hugetlb.free += row.huge_with_children
        world.hugetlb.with_children -= row.huge_with_children
        row.huge_with_children = 0


@compiled
def leave_to_children(world, vma):
    """Let a page that a process does not have any more be its children's alone."""
    world.mms[vma.mm].huge_with_children += 1
    world.hugetlb.with_children += 1


@compiled
def take(world, thread, number):
    """Take the page that is reserved for a folio, or one that nobody has reserved, in hand.

    Returns whether there was one (alloc_hugetlb_folio).
    """
    runner = world.threads[thread]
    folio = world.folios[number]
    runner.huge_was_reserved = 0
    if folio.state & RESERVED:
        runner.huge_was_reserved = 1
        folio.state &= NOT_RESERVED
        world.hugetlb.reserved -= 1
    elif _spare(world) <= 0:
        return False
    world.hugetlb.free -= 1
    folio.state |= COMING
    runner.huge_in_hand = 1
    count(world, Counter.HUGETLB_ALLOCATED, 1)
    return True


@compiled
def give_back(world, thread, number):
    """Give the page in hand back, with its reservation (restore_reserve_on_error)."""
    runner = world.threads[thread]
    runner.huge_in_hand = 0
    world.folios[number].state &= NOT_COMING
    world.hugetlb.free += 1
    if runner.huge_was_reserved:
        _reserve_one(world, world.folios[number])


@compiled
def _reserve_one(world, folio):
    folio.state |= RESERVED
    world.hugetlb.reserved += 1


@compiled
def use(world, thread, number):
    """Let the page in hand be that of a folio."""
    world.threads[thread].huge_in_hand = 0
    world.folios[number].state = PRESENT | UPTODATE


@compiled
def unmap(world, vma, pte, bits):
    """Take the page of an entry that goes away: one of its own is free, if no child has it.

    In a private mapping with reservations it is reserved again: since 6.9, and until the mapping
    goes as well.
    """
    if not bits & PTE_ANON:
        world.folios[folio_of_file(world, vma, pte)].mapcount -= 1
        return
    folio = world.folios[world.config.anon_first + pte]
    folio.state = 0
    folio.mapcount = 0
    if bits & PTE_SHARED and world.now_ns < world.mms[vma.mm].children_until_ns:
        leave_to_children(world, vma)
        return
    world.hugetlb.free += 1
    if world.config.hugetlb_restores and not vma.traits & VM_NORESERVE:
        _reserve_one(world, folio)


@compiled
def folio_of_file(world, vma, pte):
    """Return the folio of the file that an entry maps, or would map."""
    return world.files[world.opens[vma.open].file].first + vma.offset + (pte - vma.pte)


@compiled
def release(world, vma):
    """Let go of what is reserved for a VMA that goes away; what is for a file stays."""
    if world.hugetlb.pages == 0 or vma.open == NOBODY or not vma.private:
        return
    first = world.config.anon_first + vma.pte
    for number in range(first, first + vma.end - vma.start):
        folio = world.folios[number]
        if np.int64(folio.state) & RESERVED:
            folio.state &= NOT_RESERVED
            world.hugetlb.reserved -= 1
