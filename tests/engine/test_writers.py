"""Writers, row by row: which VMAs they write-lock, and what makes them hold mmap_lock longer."""

import pytest

from faultlane_server.codes import FaultLock, Madvice
from faultlane_server.engine.world import PTE_PRESENT, VM_LOCKED, VM_POLICY
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    ClearRefs,
    FileMapping,
    Fixed,
    Fork,
    Khugepaged,
    Madvise,
    Mbind,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munlock,
    Munmap,
    Prctl,
    Step,
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
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

FILE = Vma("file", 16 * PAGE, FileMapping("data"), 0, READ_WRITE, room_bytes=16 * PAGE)
OTHER = Vma("other", 4 * PAGE, AnonymousMapping(), 0, READ_WRITE)
HEAP = Vma("heap", 16 * PAGE, AnonymousMapping(), 0, READ_WRITE, mapped=(ByteRange(),))
EMPTY = Vma("heap", 16 * PAGE, AnonymousMapping(), 0, READ_WRITE)
MIDDLE = (4 * PAGE, 4 * PAGE)


def played(*steps, cast=(), vmas=(HEAP, OTHER), **story):
    """Let `app` play its steps, and count over again what was counted."""
    result = Played(a_story(one("app", *steps), *cast, vmas=vmas, **story))
    assert_recounted(result.world)
    return result


def lengths(story):
    vmas, mm = story.world.vmas, story.world.mms[0]
    order = story.world.vma_order[int(mm.order_first) :][: int(mm.order_count)]
    return [int(vmas[slot].end - vmas[slot].start) for slot in order.tolist()]


def traits(story):
    vmas, mm = story.world.vmas, story.world.mms[0]
    order = story.world.vma_order[int(mm.order_first) :][: int(mm.order_count)]
    return [int(vmas[slot].traits) for slot in order.tolist()]


def hold_ns(story):
    return story.operation_of("app")["hold_ns"]


# What all writers do: they wait for who is inside the VMAs that they lock, and for nobody else.

ON_THE_FILE: dict[str, Step] = {
    "munmap": Munmap("file"),
    "mprotect": Mprotect("file"),
    "mlock": Mlock("file"),
    "mbind": Mbind("file", policy=1),
    "mremap that moves": Mremap("file", move=True),
    "mremap that grows": Mremap("file", 32 * PAGE),
    "mremap that shrinks": Mremap("file", 8 * PAGE),
    "mmap over it": Mmap("", 16 * PAGE, over="file"),
    "madvise about flags": Madvise("file", Madvice.DONTFORK),
    "fork": Fork(Fixed(0)),
    "clear_refs": ClearRefs(),
}
LOCKED = {"fork": 2, "clear_refs": 2}
CANNOT_BE_KILLED = {"mbind"}
DOWNGRADES = {"munmap", "mremap that shrinks"}


@pytest.mark.parametrize("name", ON_THE_FILE)
def test_a_writer_waits_for_the_faults_inside_the_vmas_that_it_locks(name):
    story = played(
        after(100 * US),
        ON_THE_FILE[name],
        cast=(
            one("reader", touch(9, vma="file")),
            one("inside", after(200 * US), touch(10, vma="file")),
            one("outside", after(200 * US), touch(0, vma="other")),
        ),
        vmas=(FILE, OTHER),
        policy="hold",
    )

    assert story.operation_of("app")["wait_vma_ns"] > READ_NS // 2
    assert story.fault_of("inside")["wait_mmap_lock_ns"] > READ_NS // 2
    locks_all = LOCKED.get(name, 1) == 2
    outside = story.fault_of("outside")
    assert end_ns(outside) < READ_NS or locks_all
    assert FaultLock(outside["lock"]) is FaultLock.VMA or locks_all
    assert story["vma_lock.write.acquired"] == LOCKED.get(name, 1)


@pytest.mark.parametrize("name", ON_THE_FILE)
def test_only_what_unmaps_at_its_end_downgrades(name):
    story = played(ON_THE_FILE[name], vmas=(FILE, OTHER))

    assert story["mmap_lock.downgrades"] == (name in DOWNGRADES)


@pytest.mark.parametrize("name", ON_THE_FILE)
def test_a_fatal_signal_ends_the_wait_of_who_can_be_killed(name):
    """The reader holds mmap_lock for 10 ms, since there is no VMA lock."""
    story = played(
        after(100 * US),
        ON_THE_FILE[name],
        cast=(one("reader", touch(9, vma="file")),),
        elsewhere=[one("killer", after(1 * MS), kill(), after(50 * MS))],
        vmas=(FILE, OTHER),
        generation="6.3",
        costs_ns={"handle": 10 * MS},
    )

    rows = [row for row in story.operations if row["thread"] == 0]
    can_be_killed = name not in CANNOT_BE_KILLED
    assert (end_ns(rows[0]) < 2 * MS) == can_be_killed
    assert (rows[0]["hold_ns"] == 0) == can_be_killed


# mlock and munlock.


def test_mlock_locks_what_changes_and_looks_at_its_pages():
    full, empty = played(Mlock("heap")), played(Mlock("heap"), vmas=(EMPTY, OTHER))

    assert hold_ns(full) - hold_ns(empty) == 16 * full.world.config.cost.mlock_page_ns
    assert traits(full) == [VM_LOCKED, 0]
    assert played(Mlock("heap"), Mlock("heap"))["vma_lock.write.acquired"] == 1


def test_mlock_then_populates_under_the_lock_for_read():
    story = played(Mlock("heap"), write(0, 15, vma="heap"), vmas=(EMPTY, OTHER))

    assert story.faults == []
    assert story["mmap_lock.read.acquired"] == 1
    assert int((story.world.ptes[:16] & PTE_PRESENT).sum()) == 16


def test_munlock_populates_nothing():
    story = played(Mlock("heap"), Munlock("heap"))

    assert story["mmap_lock.read.acquired"] == 1
    assert traits(story) == [0, 0]


def test_mlock_of_a_part_splits_and_munlock_merges_again():
    split = played(Mlock("heap", *MIDDLE))
    merged = played(Mlock("heap", *MIDDLE), Munlock("heap", *MIDDLE))

    assert lengths(split) == [4, 4, 8, 4]
    assert traits(split) == [0, VM_LOCKED, 0, 0]
    assert lengths(merged) == [16, 4]
    assert merged["vma_lock.write.acquired"] == 1 + 3


def test_a_locked_vma_that_becomes_writable_gets_its_pages_under_the_write_lock():
    readable = Vma("heap", 16 * PAGE, AnonymousMapping())
    steps = (Mlock("heap"), Mprotect("heap", protection=READ_WRITE), write(3, vma="heap"))
    story = played(*steps, vmas=(readable, OTHER))

    costs = story.world.config.cost
    assert story.faults == []
    assert story.operations[1]["hold_ns"] >= 16 * (costs.anon_page_ns + costs.copy_page_ns)


def test_madvise_dontneed_leaves_what_is_locked():
    steps = (Mlock("heap"), Madvise("heap", Madvice.DONTNEED), write(3, vma="heap"))
    locked_too = (Mlock("heap"), Madvise("heap", Madvice.DONTNEED_LOCKED), write(3, vma="heap"))

    assert played(*steps).faults == []
    assert len(played(*locked_too).faults) == 1


# mbind.


def test_mbind_locks_every_vma_of_its_range_even_if_nothing_changes():
    story = played(Mprotect("heap", *MIDDLE), Mbind("heap"))

    assert story["vma_lock.write.acquired"] == 1 + 3


def test_mbind_looks_at_every_entry_under_the_write_lock():
    few, many = played(Mbind("heap", 0, 4 * PAGE)), played(Mbind("heap"))

    assert hold_ns(many) - hold_ns(few) == 12 * many.world.config.cost.mbind_page_ns


def test_mbind_splits_by_policy():
    story = played(Mbind("heap", *MIDDLE, policy=3))

    assert lengths(story) == [4, 4, 8, 4]
    assert traits(story)[1] == 3 << 32 & VM_POLICY


def test_pages_are_migrated_when_mmap_lock_was_let_go():
    moved, left = played(Mbind("heap", policy=1, move=True)), played(Mbind("heap", policy=1))

    assert hold_ns(moved) == hold_ns(left)
    longer_ns = moved.operation_of("app")["cpu_ns"] - left.operation_of("app")["cpu_ns"]
    assert longer_ns == 16 * moved.world.config.cost.migrate_page_ns


# prctl and madvise about flags.


def test_names_keep_vmas_apart():
    steps = (Prctl("heap", *MIDDLE, name="arena"), Prctl("heap", name="arena"))

    assert lengths(played(steps[0])) == [4, 4, 8, 4]
    assert lengths(played(*steps)) == [16, 4]


def test_files_are_not_named():
    story = played(Prctl("file", name="arena"), vmas=(FILE, OTHER))

    assert traits(story) == [0, 0]
    assert story["vma_lock.write.acquired"] == 0


UNDONE_BY = {
    Madvice.HUGEPAGE: Madvice.NOHUGEPAGE,
    Madvice.DONTFORK: Madvice.DOFORK,
    Madvice.WIPEONFORK: Madvice.KEEPONFORK,
    Madvice.DONTDUMP: Madvice.DODUMP,
    Madvice.MERGEABLE: Madvice.UNMERGEABLE,
}


@pytest.mark.parametrize("advice", UNDONE_BY)
def test_advice_about_flags_locks_the_vma_and_can_be_undone(advice):
    given = played(Madvise("heap", advice))
    again = played(Madvise("heap", advice), Madvise("heap", advice))
    undone = played(Madvise("heap", advice), Madvise("heap", UNDONE_BY[advice]))

    assert given["mmap_lock.write.acquired"] == 1
    assert given["vma_lock.write.acquired"] == again["vma_lock.write.acquired"] == 1
    assert traits(given)[0] != 0
    assert undone["vma_lock.write.acquired"] == 2
    assert traits(undone)[0] == 0 or advice == Madvice.HUGEPAGE


@pytest.mark.parametrize(
    ("advice", "copies"), [(Madvice.DONTFORK, 0), (Madvice.WIPEONFORK, 0), (Madvice.DODUMP, 1)]
)
def test_what_a_fork_does_not_copy_is_locked_all_the_same(advice, copies):
    steps = (Madvise("heap", advice), Fork(Fixed(1 * MS)), write(3, vma="heap"))
    story = played(*steps)

    assert len(story.faults) == copies
    locked_by_madvise = int(advice != Madvice.DODUMP)
    assert story["vma_lock.write.acquired"] == 2 + locked_by_madvise


def test_only_anonymous_memory_is_wiped_on_fork():
    assert traits(played(Madvise("file", Madvice.WIPEONFORK), vmas=(FILE, OTHER))) == [0, 0]


# clear_refs, on another process as well.


def test_clear_refs_locks_every_vma_and_looks_at_all_pages():
    full, empty = played(ClearRefs()), played(ClearRefs(), vmas=(EMPTY, OTHER))

    assert full["vma_lock.write.acquired"] == 2
    assert hold_ns(full) - hold_ns(empty) == 16 * full.world.config.cost.clear_refs_page_ns


def test_clear_refs_of_another_process_is_in_nobodys_way_at_home():
    story = a_story(
        one("app", write(0, vma="heap")),
        elsewhere=[one("clearer", ClearRefs("app"), touch(0))],
        vmas=(EMPTY, OTHER),
        data=CACHED,
    )
    result = Played(story)

    row = next(row for row in result.operations if row["thread"] == 1)
    assert row["process"] == 1
    assert result["vma_lock.write.acquired"] == 2
    assert result.ended


# khugepaged.

TABLE = 512
LARGE = Vma("heap", 2 * TABLE * PAGE, AnonymousMapping(), 1 << 30, READ_WRITE)


def collapsed(*steps, cast=(), **story):
    return played(*steps, cast=cast, vmas=(LARGE, OTHER), **story)


@pytest.mark.parametrize("collapse", [Khugepaged("heap"), Madvise("heap", Madvice.COLLAPSE)])
def test_a_part_with_a_page_becomes_a_huge_page(collapse):
    story = collapsed(write(3, vma="heap"), collapse, write(4, TABLE - 1, vma="heap"))

    assert story["vmstat.thp_collapse_alloc"] == 1
    assert len(story.faults) == 1
    assert story["vma_lock.write.acquired"] == 1
    assert story["mmap_lock.write.acquired"] == 1
    parts, anon_vma = 2, 1
    assert story["mmap_lock.read.acquired"] == parts + 1 + anon_vma


def test_pages_are_copied_under_the_write_lock_and_the_huge_page_is_allocated_without():
    story = collapsed(write(3, vma="heap"), Khugepaged("heap"))
    slow = collapsed(write(3, vma="heap"), Khugepaged("heap"), costs_ns={"huge_page": 1 * MS})

    copied_ns = TABLE * story.world.config.cost.collapse_page_ns
    assert copied_ns <= hold_ns(story) < copied_ns + 1 * US
    assert hold_ns(slow) == hold_ns(story)


def test_khugepaged_gives_up_where_it_would_have_to_wait():
    holder = one("holder", after(500 * US), Mbind("other"))
    costs_ns = {"mbind": 10 * MS}
    tried = collapsed(
        write(3, vma="heap"), after(1 * MS), Khugepaged("heap"), cast=(holder,), costs_ns=costs_ns
    )
    waited = collapsed(
        write(3, vma="heap"),
        after(1 * MS),
        Madvise("heap", Madvice.COLLAPSE),
        cast=(holder,),
        costs_ns=costs_ns,
    )

    assert tried["vmstat.thp_collapse_alloc"] == 0
    assert tried.operation_of("app")["wait_mmap_lock_ns"] == 0
    assert waited["vmstat.thp_collapse_alloc"] == 1
    assert waited.operation_of("app")["wait_mmap_lock_ns"] > 5 * MS


def test_faults_in_the_vma_wait_while_its_pages_are_copied():
    story = collapsed(
        write(3, vma="heap"),
        Khugepaged("heap"),
        cast=(
            one("inside", after(1 * MS), write(TABLE + 1, vma="heap")),
            one("outside", after(1 * MS), touch(0, vma="other")),
        ),
        costs_ns={"collapse_page": 10 * US},
    )

    assert story.fault_of("inside")["wait_mmap_lock_ns"] > 1 * MS
    assert FaultLock(story.fault_of("outside")["lock"]) is FaultLock.VMA


def test_what_has_no_page_or_does_not_want_huge_pages_is_left_alone():
    unwanted = (Madvise("heap", Madvice.NOHUGEPAGE), write(3, vma="heap"), Khugepaged("heap"))

    assert collapsed(Khugepaged("heap"))["vmstat.thp_collapse_alloc"] == 0
    assert collapsed(*unwanted)["vmstat.thp_collapse_alloc"] == 0
