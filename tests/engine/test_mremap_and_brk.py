"""mremap and brk: mappings that move, or change their length."""

import pytest

from faultlane_server.codes import FaultKind, FaultLock, Madvice
from faultlane_server.engine.world import PTE_PRESENT
from faultlane_server.scenario import (
    AnonymousMapping,
    Brk,
    ByteRange,
    FileMapping,
    Loop,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Vma,
)
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    MS,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    end_ns,
    kill,
    one,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

HEAP = Vma(
    "heap",
    16 * PAGE,
    AnonymousMapping(),
    0,
    READ_WRITE,
    mapped=(ByteRange(),),
    room_bytes=48 * PAGE,
)
FILE = Vma("heap", 16 * PAGE, FileMapping("data"), 0, READ_WRITE, room_bytes=48 * PAGE)
OTHER = Vma("other", 8 * PAGE, AnonymousMapping(), 0, READ_WRITE)


def played(*steps, cast=(), vmas=(HEAP,), **story):
    """Let `app` play its steps, and count over again what was counted."""
    result = Played(a_story(one("app", *steps), *cast, vmas=vmas, **story))
    assert_recounted(result.world)
    return result


def lengths(story):
    """Return how many pages each VMA has, by address."""
    vmas, mm = story.world.vmas, story.world.mms[0]
    order = story.world.vma_order[int(mm.order_first) :][: int(mm.order_count)]
    return [int(vmas[slot].end - vmas[slot].start) for slot in order.tolist()]


def hold_ns(story):
    return story.operation_of("app")["hold_ns"]


def present(story):
    return int((story.world.ptes[:64] & PTE_PRESENT).sum())


# mremap where it is.


def test_growing_expands_the_one_vma():
    story = played(Mremap("heap", 40 * PAGE), write(39, vma="heap"))

    assert lengths(story) == [40]
    assert story["vma_lock.write.acquired"] == 1
    assert story["mmap_lock.downgrades"] == 0
    assert FaultKind(story.fault_of("app")["kind"]) is FaultKind.ANON


def test_shrinking_unmaps_the_rest_and_downgrades():
    story = played(Mremap("heap", 4 * PAGE))

    assert lengths(story) == [4]
    assert present(story) == 4
    assert story["vma_lock.write.acquired"] == 1
    assert story["mmap_lock.downgrades"] == 1


def test_what_was_cut_off_is_there_no_more():
    story = played(Mremap("heap", 4 * PAGE), write(4, vma="heap"))

    assert story["faults.sigsegv"] == 1


def test_the_same_length_in_the_same_place_changes_nothing():
    story = played(Mremap("heap"))

    assert story["mmap_lock.write.acquired"] == 1
    assert story["vma_lock.write.acquired"] == 0


def test_a_mapping_of_several_vmas_cannot_grow():
    split = Mprotect("heap", 4 * PAGE, 4 * PAGE)
    story = played(split, Mremap("heap", 40 * PAGE))

    assert lengths(story) == [4, 4, 8]


# mremap to another place.


def test_the_name_means_the_mapping_where_it_went():
    story = played(write(3, vma="heap"), Mremap("heap", move=True), write(3, 5, vma="heap"))

    assert story.faults == []
    assert lengths(story) == [16]
    assert present(story) == 16


def test_there_and_back_again():
    story = played(Loop(3, (Mremap("heap", move=True), write(3, vma="heap"))))

    vma = story.world.vmas[story.world.vma_order[0]]
    region = story.world.regions[1]
    assert region.shift == region.away
    assert vma.start == story.world.instructions[2].start + region.away
    assert story.faults == []


def test_a_fault_on_what_has_moved_is_at_its_new_address():
    story = played(Mremap("heap", 40 * PAGE, move=True), write(20, vma="heap"))

    address = story.fault_of("app")["address"]
    assert address == story.world.vmas[story.world.vma_order[0]].start * PAGE + 20 * PAGE
    assert FaultKind(story.fault_of("app")["kind"]) is FaultKind.ANON


def test_a_move_takes_longer_the_more_pages_are_mapped_and_all_of_it_under_the_write_lock():
    full = played(Mremap("heap", move=True))
    empty = played(Mremap("heap", move=True), vmas=[Vma("heap", 16 * PAGE, AnonymousMapping())])

    assert hold_ns(full) - hold_ns(empty) == 16 * full.world.config.cost.mremap_page_ns
    assert full["mmap_lock.downgrades"] == 0
    assert full["vma_lock.write.acquired"] == 1


def test_a_move_can_cut_and_does_not_downgrade_for_it():
    story = played(Mremap("heap", 4 * PAGE, move=True))

    assert lengths(story) == [4]
    assert present(story) == 4
    assert story["mmap_lock.downgrades"] == 0


def test_what_is_not_one_vma_does_not_move():
    split = Mprotect("heap", 4 * PAGE, 4 * PAGE)
    story = played(split, Mremap("heap", move=True), write(15, vma="heap"))

    assert lengths(story) == [4, 4, 8]
    assert story.world.regions[1].shift == 0
    assert story.faults == []


def test_a_move_waits_for_the_faults_inside_and_others_go_on():
    story = played(
        after(100 * US),
        Mremap("heap", move=True),
        cast=(
            one("reader", touch(9, vma="heap")),
            one("late", after(200 * US), touch(0, vma="other")),
            one("inside", after(200 * US), touch(10, vma="heap")),
        ),
        vmas=[FILE, OTHER],
        policy="hold",
    )

    assert story.operation_of("app")["wait_vma_ns"] > READ_NS // 2
    assert FaultLock(story.fault_of("late")["lock"]) is FaultLock.VMA
    assert end_ns(story.fault_of("late")) < 1 * MS
    assert story.fault_of("inside")["wait_mmap_lock_ns"] > READ_NS // 2


def test_who_faults_where_it_was_finds_nothing():
    story = played(
        after(100 * US),
        Mremap("heap", move=True),
        cast=(one("late", after(100 * US), write(3, vma="heap")),),
        vmas=[Vma("heap", 16 * PAGE, AnonymousMapping(), 0, READ_WRITE)],
        costs_ns={"trap": 100_000},
    )

    assert story["faults.sigsegv"] == 1


def test_a_thread_moves_grows_and_unmaps_what_it_has_mapped():
    steps = (
        Mmap("mine", 4 * PAGE),
        write(3, vma="mine"),
        Mremap("mine", 8 * PAGE, move=True),
        write(3, 7, vma="mine"),
        Munmap("mine"),
    )
    story = played(Loop(3, steps), vmas=[OTHER])

    assert lengths(story) == [8]
    assert [FaultKind(row["kind"]) for row in story.faults] == [FaultKind.ANON] * 6
    assert present(story) == 0


def test_a_fatal_signal_ends_the_wait_for_the_lock():
    waits = Vma("heap", 16 * PAGE, FileMapping("data"), 0, READ_WRITE)
    story = played(
        after(100 * US),
        Mremap("heap", move=True),
        cast=(
            one("reader", touch(9, vma="heap")),
            one("killer", after(300 * US), kill()),
        ),
        vmas=[waits],
        generation="6.3",
        costs_ns={"handle": 1_000_000},
    )

    row = story.operation_of("app")
    assert row["hold_ns"] == 0
    assert row["finished"] == 1


# brk.


def test_the_heap_grows_as_one_vma():
    story = played(Brk("heap", 32 * PAGE), write(31, vma="heap"))

    assert lengths(story) == [32]
    assert story["vma_lock.write.acquired"] == 1
    assert story["mmap_lock.downgrades"] == 0


def test_the_heap_shrinks_as_munmap_does():
    story = played(Brk("heap", 4 * PAGE), write(4, vma="heap"))

    assert lengths(story) == [4]
    assert story["mmap_lock.downgrades"] == 1
    assert story["faults.sigsegv"] == 1


def test_a_heap_breathes():
    breathe = (Brk("heap", 40 * PAGE), write(39, vma="heap"), Brk("heap", 16 * PAGE))
    story = played(Loop(4, breathe))

    assert lengths(story) == [16]
    assert [FaultKind(row["kind"]) for row in story.faults] == [FaultKind.ANON] * 4
    assert story["mmap_lock.downgrades"] == 4


def test_a_heap_that_was_told_apart_grows_by_a_vma_of_its_own():
    story = played(Madvise("heap", Madvice.RANDOM), Brk("heap", 32 * PAGE))

    assert lengths(story) == [16, 16]


def test_a_heap_that_is_gone_begins_anew():
    story = played(Brk("heap", 0), Brk("heap", 8 * PAGE), write(7, vma="heap"))

    assert lengths(story) == [8]
    assert story["faults.sigsegv"] == 0


def test_a_heap_that_is_told_its_own_length_is_left_alone():
    story = played(Brk("heap", 16 * PAGE))

    assert lengths(story) == [16]
    assert story["vma_lock.write.acquired"] == 0
