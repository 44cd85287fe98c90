"""Walkers: who goes through pages and VMAs under mmap_lock for read, and who ends them all."""

import pytest

from faultlane_server.codes import FaultLock, Madvice, OperationKind, PageState
from faultlane_server.engine.world import PRESENT, PTE_NUMA, PTE_PRESENT
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    Exec,
    FileMapping,
    Madvise,
    Mbind,
    Mlock,
    Mmap,
    Mprotect,
    Munmap,
    NumaScan,
    ReadMaps,
    ReadSmaps,
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
    pages,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

HEAP = Vma("heap", 16 * PAGE, AnonymousMapping(), 0, READ_WRITE, mapped=(ByteRange(),))
EMPTY = Vma("heap", 16 * PAGE, AnonymousMapping(), 0, READ_WRITE)
FILE = Vma("file", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)
MAPPED = Vma("file", 64 * PAGE, FileMapping("data"), 0, READ_WRITE, mapped=(page_range(0, 8),))


def played(*steps, cast=(), vmas=(HEAP,), **story):
    """Let `app` play its steps, and count over again what was counted."""
    result = Played(a_story(one("app", *steps), *cast, vmas=vmas, **story))
    assert_recounted(result.world)
    return result


def present(story, first=0, count=64):
    return int((story.world.ptes[first : first + count] & PTE_PRESENT).sum())


def cached(story):
    return int((story.world.folios[:64]["state"] & PRESENT != 0).sum())


# madvise for what it does with pages.

READ_LOCKED = [advice for advice in Madvice if Madvice.DONTNEED <= advice <= Madvice.POPULATE_WRITE]


@pytest.mark.parametrize("advice", READ_LOCKED)
def test_advice_about_pages_takes_mmap_lock_for_read_and_locks_no_vma(advice):
    story = played(Madvise("heap", advice))

    assert story["mmap_lock.read.acquired"] == 1
    assert story["mmap_lock.write.acquired"] == 0
    assert story["vma_lock.write.acquired"] == 0


@pytest.mark.parametrize("advice", READ_LOCKED)
def test_no_signal_ends_its_wait(advice):
    """The unmapper holds mmap_lock for write for 10 ms."""
    story = played(
        after(100 * US),
        Madvise("heap", advice),
        cast=(one("binder", Mbind("file")),),
        elsewhere=[one("killer", after(1 * MS), kill())],
        vmas=(HEAP, FILE),
        costs_ns={"mbind": 10 * MS},
    )

    row = story.operation_of("app") if len(story.operations) == 2 else _first_of_app(story)
    assert end_ns(row) > 10 * MS
    assert row["finished"] == 1


def _first_of_app(story):
    return next(row for row in story.operations if row["kind"] == OperationKind.MADVISE)


@pytest.mark.parametrize("advice", [Madvice.DONTNEED, Madvice.COLD, Madvice.PAGEOUT])
def test_it_takes_longer_the_more_pages_there_are(advice):
    few = played(Madvise("heap", advice, 0, 4 * PAGE)).operation_of("app")
    many = played(Madvise("heap", advice)).operation_of("app")

    assert many["cpu_ns"] > few["cpu_ns"]


def test_pages_that_may_be_freed_later_stay_and_can_be_written_to():
    story = played(Madvise("heap", Madvice.FREE), write(3, vma="heap"))

    assert story.faults == []
    assert present(story) == 16


def test_pages_of_files_are_not_freed_later():
    story = played(Madvise("file", Madvice.FREE), vmas=(MAPPED,), data=CACHED)

    assert present(story, -64) == 0
    assert story.world.folios[0].mapcount == 1


def test_clean_pages_of_a_file_are_paged_out():
    data = [pages(PageState.CACHED, 0, 64), pages(PageState.DIRTY, 3)]
    story = played(Madvise("file", Madvice.PAGEOUT), vmas=(MAPPED,), data=data)

    assert story["madvise.pages_out"] == 7
    assert cached(story) == 64 - 7
    assert story.world.folios[3].mapcount == 0, "a dirty page is unmapped, and left to the flusher"


def test_anonymous_memory_is_not_paged_out_without_swap():
    story = played(Madvise("heap", Madvice.PAGEOUT))

    assert present(story) == 16


@pytest.mark.parametrize("advice", [Madvice.COLD, Madvice.PAGEOUT, Madvice.DONTNEED])
def test_what_is_locked_stays_as_it_is(advice):
    steps = (Mlock("file"), Madvise("file", advice))
    story = played(*steps, vmas=(MAPPED,), data=CACHED)

    assert story["madvise.pages_out"] == 0
    assert story.world.folios[0].mapcount == 1


def test_what_will_be_needed_is_read_ahead_without_mmap_lock():
    story = played(
        Madvise("file", Madvice.WILLNEED, 8 * PAGE, 16 * PAGE),
        after(2 * READ_NS),
        touch(9, vma="file"),
        vmas=(FILE,),
    )

    assert story["device.reads"] == 1
    assert story["device.pages"] == 16
    assert cached(story) == 16
    assert story.operation_of("app")["duration_ns"] < READ_NS
    assert story.fault_of("app")["major"] == 0


def test_a_hole_is_punched_without_mmap_lock():
    """A page that is being read is waited for, and a writer of the address space is not kept."""
    story = played(
        after(100 * US),
        Madvise("file", Madvice.REMOVE, 0, 16 * PAGE),
        cast=(
            one("reader", touch(3, vma="file")),
            one("mapper", after(500 * US), Mprotect("heap")),
        ),
        vmas=(HEAP, FILE),
    )

    assert story.operation_of("app")["duration_ns"] > READ_NS // 2
    assert story.operation_of("mapper")["wait_mmap_lock_ns"] == 0
    assert story["page_cache.truncated"] > 0
    assert story["mmap_lock.read.acquired"] >= 2


@pytest.mark.parametrize("locked", [False, True])
def test_holes_are_only_punched_through_what_is_not_locked(locked):
    steps = (Mlock("file"),) if locked else ()
    remove = Madvise("file", Madvice.REMOVE, 0, 16 * PAGE)
    story = played(*steps, remove, vmas=(FILE,), data=CACHED)

    assert story["page_cache.truncated"] == (0 if locked else 16)


@pytest.mark.parametrize(
    ("advice", "faults"), [(Madvice.POPULATE_READ, 1), (Madvice.POPULATE_WRITE, 0)]
)
def test_what_was_populated_for_reads_faults_on_a_write(advice, faults):
    story = played(
        Madvise("heap", advice), touch(3, vma="heap"), write(3, vma="heap"), vmas=(EMPTY,)
    )

    assert len(story.faults) == faults
    assert present(story) == 16


# Under the VMA lock, in later kernels.

ZAPS = (Madvice.DONTNEED, Madvice.DONTNEED_LOCKED, Madvice.FREE)


@pytest.mark.parametrize("advice", READ_LOCKED)
def test_later_kernels_zap_under_the_vma_lock(advice):
    story = played(Madvise("heap", advice), madvise_vma_lock=True)

    zaps = advice in ZAPS
    assert story["vma_lock.read.acquired"] == zaps
    assert story["mmap_lock.read.acquired"] == (not zaps)


def test_a_range_of_several_vmas_takes_mmap_lock_all_the_same():
    steps = (Mprotect("heap", 4 * PAGE, 4 * PAGE), Madvise("heap", Madvice.DONTNEED))
    story = played(*steps, madvise_vma_lock=True)

    assert story["mmap_lock.read.acquired"] == 1
    assert story["madvise.vma_lock_aborts"] == 1
    assert present(story) == 0


@pytest.mark.parametrize("takes_vma_lock", [False, True])
def test_a_writer_of_another_vma_waits_for_it_only_without(takes_vma_lock):
    story = played(
        Madvise("heap", Madvice.DONTNEED),
        cast=(one("mapper", after(100 * US), Mprotect("file")),),
        vmas=(HEAP, FILE),
        madvise_vma_lock=takes_vma_lock,
        costs_ns={"madvise": 1 * MS},
    )

    waits = story.operation_of("mapper")["wait_mmap_lock_ns"]
    assert waits == 0 if takes_vma_lock else waits > MS // 2


def test_a_writer_of_the_same_vma_waits_for_it():
    story = played(
        Madvise("heap", Madvice.DONTNEED),
        cast=(one("mapper", after(100 * US), Munmap("heap")),),
        madvise_vma_lock=True,
        costs_ns={"madvise": 1 * MS},
    )

    assert story.operation_of("mapper")["wait_vma_ns"] > MS // 2


# smaps and maps.


@pytest.mark.parametrize(("step", "holds"), [(ReadSmaps(), 40), (ReadMaps(), 2)])
def test_a_file_of_proc_is_read_in_as_many_holds_as_it_takes(step, holds):
    vmas = [Vma(f"v{n}", PAGE, AnonymousMapping()) for n in range(40)]
    story = played(step, vmas=vmas)

    assert story["mmap_lock.read.acquired"] == holds + 1  # the last one finds the end
    assert story["vma_lock.write.acquired"] == 0


def test_smaps_takes_as_long_as_there_are_pages():
    small = played(ReadSmaps(), vmas=(HEAP,))
    large = played(ReadSmaps(), vmas=(Vma("heap", 116 * PAGE, AnonymousMapping()),))

    longer_ns = large.operation_of("app")["cpu_ns"] - small.operation_of("app")["cpu_ns"]
    assert longer_ns == 100 * small.world.config.cost.smaps_page_ns


def test_a_writer_gets_in_between_two_vmas_when_the_lock_is_handed_over():
    """Who reads smaps takes the lock again before the writer has woken up, for 4 ms."""
    vmas = [Vma(f"v{n}", PAGE, AnonymousMapping()) for n in range(16)]
    story = played(
        ReadSmaps(),
        cast=(one("mapper", after(1500 * US), Mprotect("v7", protection=READ_WRITE)),),
        vmas=vmas,
        costs_ns={"read_smaps": 1 * MS},
    )

    mapper, reader = story.operation_of("mapper"), story.operation_of("app")
    assert 4 * MS < mapper["wait_mmap_lock_ns"] < 10 * MS
    assert end_ns(mapper) < end_ns(reader)


def test_behind_a_queued_writer_faults_wait_for_who_reads_smaps():
    """Reader, writer, and then everybody: the convoy of monitoring tools."""
    large = Vma("large", 64 * PAGE, AnonymousMapping())
    story = played(
        after(200 * US),
        Mprotect("heap"),
        cast=(one("late", after(400 * US), write(0, vma="large2")),),
        elsewhere=[one("monitor", ReadSmaps("app"))],
        vmas=(HEAP, large, Vma("large2", PAGE, AnonymousMapping(), 0, READ_WRITE)),
        generation="6.3",
        costs_ns={"read_smaps": 2 * MS},
    )

    assert story.operation_of("app")["wait_mmap_lock_ns"] > 1 * MS
    assert story.fault_of("late")["wait_mmap_lock_ns"] > 1 * MS


def test_a_fatal_signal_ends_the_wait_of_who_reads_smaps():
    story = played(
        Mbind("heap"),
        after(1 * MS),
        elsewhere=[
            one("monitor", after(100 * US), ReadSmaps("app")),
            one("killer", after(1 * MS), kill("monitor")),
        ],
        costs_ns={"mbind": 10 * MS},
    )

    row = story.operations[0]
    assert OperationKind(row["kind"]) is OperationKind.READ_SMAPS
    assert 1 * MS < end_ns(row) < 2 * MS


# NUMA balancing.


def test_mapped_pages_become_hints():
    story = played(Madvise("heap", Madvice.DONTNEED, 0, 4 * PAGE), NumaScan("heap"))

    assert story["vmstat.numa_pte_updates"] == 12
    assert (story.world.ptes[4:16] & PTE_NUMA != 0).all()
    assert story["mmap_lock.write.acquired"] == 0


def test_a_scan_gives_up_where_it_would_have_to_wait():
    story = played(
        after(1 * MS),
        NumaScan("heap"),
        cast=(one("binder", Mbind("heap")),),
        costs_ns={"mbind": 10 * MS},
    )

    assert story["vmstat.numa_pte_updates"] == 0
    assert story.operation_of("app")["wait_mmap_lock_ns"] == 0


# The end of an address space.


def test_exec_leaves_an_empty_address_space():
    steps = (Exec(), write(3, vma="heap"), Mmap("mine", 2 * PAGE), write(1, vma="mine"))
    story = played(*steps)

    assert story["faults.sigsegv"] == 1
    assert story.world.mms[0].order_count == 1
    assert present(story, 0, 16) == 0
    assert story["vma_lock.write.acquired"] == 0


def test_exec_takes_longer_the_more_was_mapped():
    full, empty = played(Exec()), played(Exec(), vmas=(EMPTY,))

    longer_ns = full.operation_of("app")["cpu_ns"] - empty.operation_of("app")["cpu_ns"]
    assert longer_ns == 16 * full.world.config.cost.exit_page_ns


def test_a_process_that_has_ended_maps_nothing():
    story = played(
        touch(3, vma="file"),
        vmas=(FILE,),
        elsewhere=[one("other", after(10 * MS), touch(4))],
        data=CACHED,
        fault_around=False,
    )

    assert story.world.mms[0].order_count == 0
    assert story.world.folios[3].mapcount == 0
    assert story.world.folios[4].mapcount == 1
    row = story.operation_of("app")
    assert OperationKind(row["kind"]) is OperationKind.EXIT
    assert story["address_spaces.ended"] == 1


def test_a_process_that_was_killed_maps_nothing():
    story = played(
        touch(3, vma="file"),
        after(100 * MS),
        vmas=(FILE,),
        cast=(one("friend", after(100 * MS)),),
        elsewhere=[one("killer", after(5 * MS), kill(), after(5 * MS))],
        data=CACHED,
        fault_around=False,
    )

    assert story.world.folios[3].mapcount == 0
    (row,) = story.operations
    assert OperationKind(row["kind"]) is OperationKind.EXIT
    assert row["hold_ns"] >= story.world.config.cost.exit_vma_ns


def test_the_run_does_not_wait_for_the_last_process_to_end():
    story = played(touch(3, vma="heap"))

    assert story.operations == []
    assert story.ended


def test_who_reads_smaps_keeps_a_process_from_ending():
    story = played(
        after(100 * US),
        elsewhere=[one("monitor", ReadSmaps("app"), after(10 * MS))],
        costs_ns={"read_smaps": 1 * MS},
    )

    row = story.operation_of("app")
    assert OperationKind(row["kind"]) is OperationKind.EXIT
    assert row["wait_mmap_lock_ns"] > 500 * US
    assert FaultLock.MMAP not in story.world.threads["held"][:2]
