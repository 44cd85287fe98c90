"""mmap of files, over what is there, and with its pages at once."""

from dataclasses import replace

import pytest

from faultlane_server.codes import FaultKind, FaultLock, OperationKind
from faultlane_server.engine.world import BATCH_MAX, PTE_PRESENT
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    FadviseDontneed,
    FileMapping,
    Loop,
    Mmap,
    Munmap,
    Sequential,
    ThreadGroup,
    Touch,
    Vma,
)
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    CACHED,
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
    page_range,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

DATA = FileMapping("data")
PRIVATE = FileMapping("data", map_private=True)
HEAP = Vma("heap", 64 * PAGE, AnonymousMapping(), 0, READ_WRITE, mapped=(ByteRange(),))
OTHER = Vma("other", 8 * PAGE, FileMapping("data"), 0, READ_WRITE)


def played(*cast, **story):
    """Play a story, and count over again what it has counted."""
    result = Played(a_story(*cast, **story))
    assert_recounted(result.world)
    return result


# A file.


def test_a_file_is_mapped_touched_and_unmapped():
    steps = (Mmap("mine", 4 * PAGE, file=DATA), touch(1, vma="mine"), Munmap("mine"))
    story = played(one("app", *steps), data=CACHED, fault_around=False)

    assert FaultKind(story.fault_of("app")["kind"]) is FaultKind.FILE_READ
    assert story.world.folios[1].mapcount == 0
    kinds = [OperationKind(row["kind"]) for row in story.operations]
    assert kinds == [OperationKind.MMAP, OperationKind.MUNMAP]


def test_a_mapping_begins_at_its_offset_in_the_file():
    steps = (Mmap("mine", 4 * PAGE, file=FileMapping("data", 8 * PAGE)), touch(1, vma="mine"))
    story = played(one("app", *steps), data=CACHED, fault_around=False)

    assert story.world.folios[9].mapcount == 1


@pytest.mark.parametrize(("mapping", "kind"), [(DATA, "FILE_SHARED"), (PRIVATE, "FILE_COW")])
def test_a_write_goes_to_the_file_or_to_a_copy_of_its_page(mapping, kind):
    steps = (Mmap("mine", 4 * PAGE, file=mapping), write(1, vma="mine"))
    story = played(one("app", *steps), data=CACHED)

    assert FaultKind(story.fault_of("app")["kind"]).name == kind


def test_what_may_not_be_written_to_is_not():
    reads = replace(Mmap("mine", PAGE, file=DATA), protection=(READ_WRITE[0],))
    story = played(one("app", reads, write(0, vma="mine")), data=CACHED)

    assert story["faults.sigsegv"] == 1


def test_to_map_a_file_takes_longer_than_to_map_memory():
    memory = played(one("app", Mmap("mine", 4 * PAGE)))
    file = played(one("app", Mmap("mine", 4 * PAGE, file=DATA)))

    longer_ns = file.operation_of("app")["hold_ns"] - memory.operation_of("app")["hold_ns"]
    assert longer_ns == file.world.config.cost.mmap_file_ns


@pytest.mark.parametrize(("open_name", "misses"), [("", 1), ("one", 2)])
def test_a_new_struct_file_has_forgotten_the_misses_of_the_one_before(open_name, misses):
    mapping = Mmap("mine", 64 * PAGE, file=FileMapping("data", open=open_name))
    again = (mapping, touch(60, vma="mine"), Munmap("mine"), FadviseDontneed("data"))
    story = played(one("app", Loop(2, again)), fault_around=False)

    assert story.world.opens[story.world.instructions[1].open].mmap_miss == misses


def test_each_thread_can_map_a_file_of_its_own():
    """The loop of which there are figures: map a file, touch all of it, unmap it."""
    threads, pages = 5, 8
    mapping = Mmap("mine", pages * PAGE, file=DATA, own_file=True)
    walk = Touch("mine", Sequential(), count=pages)
    group = ThreadGroup("readers", threads, (Loop(2, (mapping, walk, Munmap("mine"))),))
    story = played(group, data_pages=pages, copies=threads)

    assert story.ended
    assert story["touches.count"] == 2 * threads * pages
    assert story["device.pages"] == threads * pages
    first = int(story.world.instructions[1].open)
    assert set(story.world.opens["file"][first : first + threads]) == set(range(threads))


def test_a_file_is_mapped_under_the_lock_for_write_and_nobody_elses_vma_is_locked():
    story = played(one("app", Mmap("mine", PAGE, file=DATA)))

    assert story["mmap_lock.write.acquired"] == 1
    assert story["vma_lock.write.acquired"] == 0


# Over what is there.


def over(offset, pages, **fields):
    return Mmap("", pages * PAGE, over="heap", over_offset_bytes=offset * PAGE, **fields)


@pytest.mark.parametrize(("offset", "pages", "vmas"), [(0, 64, 1), (8, 8, 3), (0, 8, 2)])
def test_what_lies_below_is_locked_and_unmapped_under_the_write_lock(offset, pages, vmas):
    story = played(one("app", over(offset, pages)), vmas=[HEAP])

    assert story["vma_lock.write.acquired"] == 1
    assert story["mmap_lock.downgrades"] == 0
    assert story["mmap_lock.read.acquired"] == 0
    assert story.world.mms[0].order_count == vmas
    ptes = story.world.ptes[:64] & PTE_PRESENT
    assert ptes.sum() == 64 - pages
    assert ptes[offset : offset + pages].sum() == 0


def test_all_vmas_below_are_locked():
    steps = (over(8, 8), over(0, 64))
    story = played(one("app", *steps), vmas=[HEAP])

    assert story["vma_lock.write.acquired"] == 1 + 3
    assert story.world.mms[0].order_count == 1


def test_it_takes_longer_the_more_pages_lie_below():
    few = played(one("app", over(0, 8)), vmas=[HEAP])
    many = played(one("app", over(0, 24)), vmas=[HEAP])

    longer_ns = many.operation_of("app")["hold_ns"] - few.operation_of("app")["hold_ns"]
    assert longer_ns == 16 * many.world.config.cost.munmap_page_ns


def test_it_waits_for_the_faults_on_what_lies_below_and_those_elsewhere_go_on():
    story = played(
        one("app", after(100 * US), over(0, 8, file=DATA)),
        one("reader", touch(30, vma="heap")),
        one("late", after(200 * US), touch(0, vma="other")),
        vmas=[
            Vma("heap", 64 * PAGE, FileMapping("data"), 0, READ_WRITE),
            Vma("other", 8 * PAGE, AnonymousMapping(), 0, READ_WRITE),
        ],
        policy="hold",
    )

    assert story.operation_of("app")["wait_vma_ns"] > READ_NS // 2
    assert FaultLock(story.fault_of("late")["lock"]) is FaultLock.VMA
    assert end_ns(story.fault_of("late")) < 1 * MS


def test_the_name_means_what_was_mapped_over_it():
    steps = (over(0, 64, file=DATA), touch(3, vma="heap"))
    story = played(one("app", *steps), vmas=[HEAP], data=CACHED, fault_around=False)

    assert FaultKind(story.fault_of("app")["kind"]) is FaultKind.FILE_READ
    assert story.world.folios[3].mapcount == 1


def test_memory_can_be_mapped_over_a_shared_mapping_of_a_file():
    shared = Vma("heap", 64 * PAGE, FileMapping("data"), 0, READ_WRITE, mapped=(page_range(0, 4),))
    steps = (over(0, 64), write(3, vma="heap"))
    story = played(one("app", *steps), vmas=[shared], data=CACHED)

    assert FaultKind(story.fault_of("app")["kind"]) is FaultKind.ANON
    assert story.world.folios[0].mapcount == 0


# With its pages at once.


def test_what_is_populated_does_not_fault():
    steps = (Mmap("mine", 40 * PAGE, populate=True), write(0, 7, 39, vma="mine"))
    story = played(one("app", *steps))

    assert story.faults == []


def test_pages_are_made_under_the_lock_for_read():
    story = played(one("app", Mmap("mine", 40 * PAGE, populate=True)))
    plain = played(one("app", Mmap("mine", 40 * PAGE)))

    assert story["mmap_lock.read.acquired"] == 1
    assert story.operation_of("app")["hold_ns"] == plain.operation_of("app")["hold_ns"]
    costs = story.world.config.cost
    page_ns = costs.anon_page_ns + costs.clear_page_ns + costs.map_anon_ns
    pages_ns = 40 * page_ns + BATCH_MAX * costs.lru_add_ns  # one batch is full, and is drained
    longer_ns = story.operation_of("app")["cpu_ns"] - plain.operation_of("app")["cpu_ns"]
    assert 0 <= longer_ns - pages_ns < page_ns, "and the words of the lock"


def test_faults_go_on_while_a_mapping_is_populated():
    story = played(
        one("app", Mmap("mine", 64 * PAGE, populate=True)),
        one("late", after(10 * US), write(0, vma="other")),
        vmas=[Vma("other", 8 * PAGE, AnonymousMapping(), 0, READ_WRITE)],
        generation="6.3",
    )

    late, operation = story.fault_of("late"), story.operation_of("app")
    assert late["start_ns"] > operation["start_ns"] + operation["hold_ns"]
    assert end_ns(late) < end_ns(operation)
    assert late["wait_mmap_lock_ns"] == 0


def test_pages_of_a_file_are_mapped_if_they_are_cached():
    mapping = Mmap("mine", 64 * PAGE, file=DATA, protection=(READ_WRITE[0],), populate=True)
    story = played(one("app", mapping, touch(0, 63, vma="mine")), data=CACHED)
    absent = played(one("app", mapping, touch(0, vma="mine")))

    assert story.faults == []
    assert absent["faults.count"] == 1


def test_who_is_killed_stops_populating():
    steps = (Mmap("mine", 4096 * PAGE, populate=True),)
    story = played(one("app", *steps), one("killer", after(50 * US), kill()))

    mapped = (story.world.ptes[:4096] & PTE_PRESENT).sum()
    assert 0 < mapped < 4096
