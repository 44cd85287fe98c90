"""The VMAs of a process, by address: finding, inserting, splitting, removing.

The order of a process is an array of slots sorted by address. A slot is reused
when its VMA is gone; the id of a VMA never is.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FileKind
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import rmap
from faultlane_server.engine.world import VMAS_MAX, Drain


@compiled
def place_of(world, mm, page):
    """Return the place of the first VMA of a process that ends behind `page`."""
    row = world.mms[mm]
    low, high = 0, row.order_count
    while low < high:
        middle = (low + high) >> 1
        if world.vmas[world.vma_order[row.order_first + middle]].end <= page:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def slot_at(world, mm, place):
    """Return the slot at a place of the order, or NOBODY beyond its ends."""
    row = world.mms[mm]
    if place < 0 or place >= row.order_count:
        return NOBODY
    return np.int64(world.vma_order[row.order_first + place])


@compiled
def find(world, mm, page):
    """Return the slot of the VMA that covers `page`, or NOBODY."""
    slot = slot_at(world, mm, place_of(world, mm, page))
    if slot == NOBODY or world.vmas[slot].start > page:
        return NOBODY
    return slot


@compiled
def find_again(world, slot, mm, page):
    """Return the slot of the VMA that covers `page`, which may well be `slot`, or NOBODY."""
    if slot != NOBODY:
        vma = world.vmas[slot]
        if vma.mm == mm and vma.start <= page < vma.end:
            return slot
    return find(world, mm, page)


@compiled
def find_stack(world, mm, page):
    """Return the slot of the VMA behind `page` that may grow down to it, or NOBODY."""
    slot = slot_at(world, mm, place_of(world, mm, page))
    if slot == NOBODY or world.vmas[slot].start <= page:
        return NOBODY
    lowest = world.vmas[slot].lowest
    return slot if 0 <= lowest <= page else NOBODY


@compiled
def new_slot(world):
    """Take a free slot, and give its VMA an id."""
    if world.vma_free != NOBODY:
        slot = world.vma_free
        world.vma_free = world.vmas[slot].next_free
    else:
        assert world.vma_slots < VMAS_MAX, "more VMAs than the record has"
        slot = world.vma_slots
        world.vma_slots += 1
    vma = world.vmas[slot]
    vma.id = world.vma_ids
    vma.readers = 0
    vma.reader = NOBODY
    vma.drain = Drain.NONE
    vma.drainer = NOBODY
    vma.holders_first = NOBODY
    vma.holders_last = NOBODY
    vma.seq = -1  # all ones: not write-locked
    vma.word.cpu = NOBODY
    vma.word.free_ns = 0
    vma.anon_vma = 0
    vma.swap_last = 0
    vma.swap_window = 0
    vma.swap_hits = 0
    vma.uffd = 0
    vma.lowest = -1
    vma.traits = 0
    world.vma_ids += 1
    return slot


@compiled
def next_in(world, mm, page, end):
    """Return the first VMA that has something of [page, end), or NOBODY."""
    slot = slot_at(world, mm, place_of(world, mm, page))
    if page >= end or slot == NOBODY or world.vmas[slot].start >= end:
        return NOBODY
    return slot


@compiled
def insert(world, slot):
    """Put a VMA into the order of its process, and among those of its file."""
    rmap.link(world, slot)
    vma = world.vmas[slot]
    row = world.mms[vma.mm]
    assert row.order_count < row.order_room, "more VMAs than the process was compiled for"
    place = place_of(world, vma.mm, vma.start)
    for other in range(row.order_first + row.order_count, row.order_first + place, -1):
        world.vma_order[other] = world.vma_order[other - 1]
    world.vma_order[row.order_first + place] = slot
    row.order_count += 1


@compiled
def remove(world, slot):
    """Detach a VMA, and free its slot. Its readers were drained before."""
    vma = world.vmas[slot]
    assert vma.readers == 0, "a VMA is detached when its readers have left"
    row = world.mms[vma.mm]
    place = place_of(world, vma.mm, vma.start)
    assert slot_at(world, vma.mm, place) == slot, "a VMA that is removed is in the order"
    row.order_count -= 1
    for other in range(row.order_first + place, row.order_first + row.order_count):
        world.vma_order[other] = world.vma_order[other + 1]
    rmap.unlink(world, slot)
    vma.open = NOBODY
    vma.end = vma.start
    vma.next_free = world.vma_free
    world.vma_free = slot


@compiled
def split_ns(world, slot):
    """Return what it costs to split a VMA in two."""
    return world.config.cost.vma_split_ns + _file_ns(world, slot)


@compiled
def merge_ns(world, slot):
    """Return what it costs to merge a VMA into its neighbour."""
    return world.config.cost.vma_merge_ns + _file_ns(world, slot)


@compiled
def _file_ns(world, slot):
    return 0 if world.vmas[slot].open == NOBODY else world.config.cost.vma_file_ns


@compiled
def split(world, slot, page):
    """Split a write-locked VMA before `page`; the right half is new, and write-locked as well."""
    vma = world.vmas[slot]
    assert vma.start < page < vma.end, "a VMA is split inside"
    assert vma.seq == world.mms[vma.mm].seq, "a VMA that is split is write-locked"
    right = new_slot(world)
    half = world.vmas[right]
    copy(half, vma)
    move_start(world, right, page)
    vma.end = page
    insert(world, right)
    return right


@compiled
def copy(vma, other):
    """Let a new VMA be what another one is, and be write-locked as that is."""
    vma.mm = other.mm
    vma.start = other.start
    vma.end = other.end
    vma.open = other.open
    vma.private = other.private
    vma.file_kind = other.file_kind
    vma.anon_vma = other.anon_vma
    vma.offset = other.offset
    vma.pte = other.pte
    vma.protection = other.protection
    vma.advice = other.advice
    vma.traits = other.traits
    vma.uffd = other.uffd
    vma.lowest = other.lowest
    vma.seq = other.seq


@compiled
def cuts(vma, start, end):
    """Return at how many places a range cuts a VMA: 0 to 2."""
    return int(vma.start < start) + int(vma.end > end)


@compiled
def continues(world, left, right):
    """Whether two VMAs could be one but for their flags: neighbours of one kind."""
    if left == NOBODY or right == NOBODY:
        return False
    one, other = world.vmas[left], world.vmas[right]
    return (
        one.end == other.start
        and one.pte + (one.end - one.start) == other.pte
        and one.open == other.open
        and one.private == other.private
        and one.lowest == other.lowest
        and one.file_kind != FileKind.HUGETLB  # VM_DONTEXPAND
        and may_share(world, left, right)
        and (one.open == NOBODY or one.offset + (one.end - one.start) == other.offset)
    )


@compiled
def may_share(world, left, right):
    """Whether two VMAs can have one anon_vma: not if each has its own already."""
    one, other = world.vmas[left].anon_vma, world.vmas[right].anon_vma
    return one == 0 or other == 0 or one == other


@compiled
def share_anon_vma(world, slot, neighbour):
    """Give what absorbs pages of a VMA its anon_vma (dup_anon_vma)."""
    if neighbour != NOBODY and world.vmas[slot].anon_vma:
        world.vmas[neighbour].anon_vma = world.vmas[slot].anon_vma


@compiled
def cut_to(world, slot, start, end):
    """Split what lies outside [start, end) off a write-locked VMA; returns what is left of it."""
    if world.vmas[slot].start < start:
        slot = split(world, slot, start)
    if world.vmas[slot].end > end:
        split(world, slot, end)
    return slot


@compiled
def move_start(world, slot, page):
    """Let a VMA begin at another page; its file pages and page-table entries follow."""
    vma = world.vmas[slot]
    by = page - vma.start
    vma.start += by
    vma.offset += by
    vma.pte += by


@compiled
def cut_front(world, slot, page):
    """Take everything before `page` from a VMA; it goes if nothing is left."""
    if world.vmas[slot].end == page:
        remove(world, slot)
    else:
        move_start(world, slot, page)


@compiled
def cut_back(world, slot, page):
    """Take everything from `page` on from a VMA; it goes if nothing is left."""
    if world.vmas[slot].start == page:
        remove(world, slot)
    else:
        world.vmas[slot].end = page
