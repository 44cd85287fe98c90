"""Writeback: what it does to pages that are mapped, and to those who make pages dirty."""

from itertools import pairwise
from typing import Any

import pytest

from faultlane_server.codes import Advice, FaultKind, FaultLock, FileKind, PageState, VmFault
from faultlane_server.engine import Simulator
from faultlane_server.scenario import (
    Device,
    Fixed,
    Ftruncate,
    Mprotect,
    Scenario,
    SyncFileRange,
)
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
    DISK,
    MS,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    end_ns,
    one,
    page_range,
    pages,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

STABLE = Device("disk", Fixed(READ_NS), channels=64, stable_writes=True)
SLOW_WRITES = Device("disk", Fixed(READ_NS), channels=64, write_latency=Fixed(5 * MS))
SYNC = SyncFileRange("data", wait=True)
PAUSE_NS = 10 * MS


def test_a_page_that_was_written_back_faults_at_the_next_write_and_not_before() -> None:
    """The entry is write-protected, not cleared: reads go on, and the write is no miss."""
    run = Played(
        a_story(
            one("writer", write(1), write(1), touch(1), SYNC, touch(1), write(1), write(1)),
            data=CACHED,
        )
    )

    first, second = run.faults
    assert (first["kind"], second["kind"]) == (FaultKind.FILE_SHARED, FaultKind.WP)
    assert result(second) == {VmFault.COMPLETED}
    assert (second["lock"], second["major"], second["mmap_reads"]) == (FaultLock.VMA, 0, 0)
    assert run["touches.count"] == 6
    assert (run["device.writes"], run["device.pages_written"]) == (1, 1)
    assert run["vmstat.nr_dirtied"] == 2


def test_writeback_write_protects_in_every_process_that_maps_the_page() -> None:
    writes = (write(1), after(5 * MS), write(1))
    run = Played(
        a_story(
            one("syncer", after(MS), SYNC),
            one("one", *writes),
            elsewhere=[one("another", *writes)],
            data=CACHED,
        )
    )

    for name in ("one", "another"):
        assert [row["kind"] for row in run.faults_of(name)] == [
            FaultKind.FILE_SHARED,
            FaultKind.WP,
        ]


def test_writeback_leaves_private_copies_alone() -> None:
    story = a_story(one("writer", write(1), SYNC, write(1)), data=[*CACHED, *DIRTY], private=True)

    run = Played(story)

    assert [row["kind"] for row in run.faults] == [FaultKind.FILE_COW]
    assert run["device.pages_written"] == 64


@pytest.mark.parametrize("wait", [False, True])
def test_sync_file_range_waits_for_its_pages_if_it_is_asked_to(wait: bool) -> None:
    run = Played(
        a_story(one("syncer", SyncFileRange("data", wait=wait), after(3 * MS)), data=DIRTY)
    )

    operation = run.operation_of("syncer")
    assert (operation["duration_ns"] > READ_NS) == wait
    assert (operation["wait_writeback_ns"] > 0) == wait
    assert (run["device.writes"], run["device.pages_written"]) == (1, 64)


def test_sync_file_range_waits_only_for_its_own_range() -> None:
    run = Played(
        a_story(
            one("first", SyncFileRange("data", 0, 8 * PAGE)),
            one("second", after(100 * US), SyncFileRange("data", 8 * PAGE, 8 * PAGE, wait=True)),
            data=[pages(PageState.DIRTY, 0, 8)],
        )
    )

    assert run.operation_of("second")["wait_writeback_ns"] == 0


def test_pages_between_others_that_are_clean_are_written_by_themselves() -> None:
    """A request is of pages that follow each other, at most 256 of them."""
    runs = [
        [pages(PageState.DIRTY, 1, 3), pages(PageState.DIRTY, 5, 2), pages(PageState.DIRTY, 600)],
        [pages(PageState.DIRTY, 0, 600)],
    ]

    written = [Played(a_story(one("syncer", SYNC), data=data, data_pages=1024)) for data in runs]

    assert [run["device.writes"] for run in written] == [3, 3]
    assert [run["device.pages_written"] for run in written] == [6, 600]


def test_a_page_that_is_made_dirty_while_it_is_written_is_written_again() -> None:
    """Nobody waits where pages need not be stable, and the next sync finds the page dirty."""
    run = Played(
        a_story(
            one("writer", write(1), after(400 * US), write(1)),
            one("syncer", after(200 * US), SYNC, SYNC),
            data=CACHED,
        )
    )

    first, second = run.faults_of("writer")
    assert second["kind"] == FaultKind.WP
    assert second["duration_ns"] < 10 * US
    assert (second["wait_writeback_ns"], run["device.pages_written"]) == (0, 2)
    assert first["start_ns"] < 200 * US < end_ns(first) + 200 * US


def a_write_while_the_page_is_written(
    policy: str = "mainline", kind_of_write: str = "new", disk: Device = STABLE
) -> Scenario:
    """Let a page be written to that has been under writeback since 20 us."""
    mapped = [page_range(1)] if kind_of_write == "wp" else []
    return a_story(
        one("syncer", SyncFileRange("data", PAGE, PAGE)),
        one("writer", after(100 * US), write(1)),
        one("protector", after(200 * US), Mprotect("data", 0, PAGE, READ_WRITE[:1])),
        data=DIRTY,
        mapped=mapped,
        disk=disk,
        policy=policy,
    )


@pytest.mark.parametrize("kind_of_write", ["new", "wp"])
@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold", "relock"])
def test_stable_pages_are_waited_for_with_the_fault_lock_held(
    policy: str, kind_of_write: str
) -> None:
    """So a writer of mmap_lock that needs the VMA waits as long."""
    run = Played(a_write_while_the_page_is_written(policy, kind_of_write))

    fault, operation = run.fault_of("writer"), run.operation_of("protector")
    assert fault["wait_writeback_ns"] > 800 * US
    assert fault["attempts"] == 1
    assert fault["lock"] == FaultLock.VMA
    assert operation["wait_vma_ns"] > 700 * US
    assert end_ns(operation) > READ_NS


def test_pages_that_need_not_be_stable_are_not_waited_for() -> None:
    run = Played(a_write_while_the_page_is_written(disk=DISK))

    assert run.fault_of("writer")["wait_writeback_ns"] == 0
    assert run.operation_of("protector")["wait_vma_ns"] == 0


def test_making_a_page_dirty_clears_the_bit_that_keeps_others_spinning() -> None:
    """In a clean page the bit is the readahead marker; in a dirty one it would be PG_reclaim."""
    run = Played(
        a_story(
            one("writer", write(1), SYNC, touch(1)),
            one("reader", after(3 * MS), touch(1)),
            elsewhere=[one("other", after(3 * MS), touch(1))],
            data=[pages(PageState.CACHED_READAHEAD, 1)],
            fault_around=False,
        ),
        traced="other",
    )

    assert run.attempts() == ["V→LOCKED"]
    assert run.fault_of("other")["attempts"] == 1


def a_flood(limit_pages: int, threads: int = 1, **more: Any) -> Scenario:
    """Let threads make 128 pages dirty, each of them others."""
    dirtiers = [
        one(f"dirtier-{number}", *[write(number * 128 + page) for page in range(128)])
        for number in range(threads)
    ]
    return a_story(
        *dirtiers,
        data=CACHED,
        data_pages=128 * threads,
        dirty_bytes=limit_pages * PAGE,
        **{"disk": SLOW_WRITES, **more},
    )


def most_dirty_pages(scenario: Scenario) -> tuple[int, int]:
    """Play a story event by event; return how many pages were dirty at most, and held back."""
    simulator = Simulator(scenario)
    dirty = held_back = 0
    while not simulator.advance(events=1):
        world = simulator.world
        dirty = max(dirty, int(world.dirty))
        held_back = max(held_back, int(world.dirty + world.under_writeback))
    return dirty, held_back


def test_background_writeback_keeps_dirty_pages_near_its_limit() -> None:
    """Pages are submitted as soon as one more is dirty; some become dirty again meanwhile."""
    disk = Device("disk", Fixed(READ_NS), channels=64, write_latency=Fixed(5 * US))

    dirty, _ = most_dirty_pages(a_flood(1000, disk=disk, dirty_background_bytes=10 * PAGE))

    assert 10 <= dirty <= 12


def test_background_writeback_lets_a_store_be_made_before_it_takes_its_page() -> None:
    """The flusher is a thread of its own: it has to wake up before it protects the page."""
    run = Played(a_flood(1000, dirty_background_bytes=10 * PAGE))

    touches = [row["touch"] for row in run.faults]
    assert len(touches) == len(set(touches)), "a touch that was handled faults again"


def test_a_store_is_made_however_soon_its_page_is_written_back() -> None:
    """A device that is quicker than a fault must not protect the page before each store."""
    run = Played(
        a_story(
            one("writer", write(1)),
            data=CACHED,
            disk=Device("disk", Fixed(READ_NS), write_latency=Fixed(US)),
            dirty_bytes=2 * PAGE,
            dirty_background_bytes=1,
            horizon_ns=MS,
        )
    )

    assert run["touches.count"] == 1
    assert run.ended


def test_without_a_limit_nothing_is_written_by_itself() -> None:
    run = Played(a_flood(0))

    assert (run["device.writes"], run["balance_dirty_pages.pauses"]) == (0, 0)
    assert run["vmstat.nr_dirtied"] == 128


def test_who_makes_too_many_pages_dirty_pauses() -> None:
    """It looks after each 32 pages, and pauses with more held back than between the limits."""
    run = Played(a_flood(64))

    pauses = [place for place, row in enumerate(run.faults) if row["wait_throttle_ns"]]
    assert pauses[0] >= 48 - 1
    assert all(later - before >= 32 - 1 for before, later in pairwise(pauses))
    assert all(run.faults[place]["wait_throttle_ns"] % PAUSE_NS == 0 for place in pauses)
    assert run["wait.throttle_ns"] == run["balance_dirty_pages.pauses"] * PAUSE_NS
    assert run.ended


@pytest.mark.parametrize("threads", [1, 4])
def test_what_is_held_back_stays_near_the_limit(threads: int) -> None:
    """Each thread may make 32 pages dirty between two looks."""
    _, held_back = most_dirty_pages(a_flood(64, threads))

    assert held_back <= 64 + 32 * threads


def a_throttled_write(page_is_cached: bool, policy: str = "mainline") -> Scenario:
    """Let a thread pause after its 32nd page, which is page 40, until the pages are written.

    Another one changes the VMA meanwhile. If page 40 is not cached, that write is made in a
    second attempt.
    """
    data = [pages(PageState.CACHED, 0, 40)]
    if page_is_cached:
        data.append(pages(PageState.CACHED, 40, 24))
    return a_story(
        one("dirtier", write(*range(31), 40)),
        one("protector", after(3 * MS), Mprotect("data", 63 * PAGE, PAGE, READ_WRITE[:1])),
        data=data,
        disk=Device("disk", Fixed(READ_NS), 64, readahead_bytes=0, write_latency=Fixed(50 * MS)),
        dirty_bytes=31 * PAGE,
        dirty_background_bytes=31 * PAGE,
        policy=policy,
    )


@pytest.mark.parametrize("policy", ["mainline", "rfc", "v2", "relock"])
def test_a_pause_of_a_first_attempt_holds_no_lock(policy: str) -> None:
    run = Played(a_throttled_write(page_is_cached=True, policy=policy))

    (fault,) = (row for row in run.faults_of("dirtier") if row["wait_throttle_ns"])
    assert result(fault) == {VmFault.COMPLETED}
    assert fault["wait_throttle_ns"] >= PAUSE_NS
    operation = run.operation_of("protector")
    assert operation["duration_ns"] < 20 * US
    assert end_ns(operation) < end_ns(fault) - 5 * MS


@pytest.mark.parametrize(
    ("policy", "lock"),
    [("mainline", FaultLock.MMAP), ("rfc_all_reads", FaultLock.VMA), ("hold", FaultLock.VMA)],
)
def test_a_pause_of_a_later_attempt_or_one_that_never_lets_go_holds_its_lock(
    policy: str, lock: FaultLock
) -> None:
    """A page that was read first is written to with TRIED; `hold` has but one attempt."""
    run = Played(a_throttled_write(page_is_cached=False, policy=policy))

    (fault,) = (row for row in run.faults_of("dirtier") if row["wait_throttle_ns"])
    assert VmFault.COMPLETED not in result(fault)
    assert fault["lock"] == lock
    assert fault["wait_throttle_ns"] >= PAUSE_NS
    operation = run.operation_of("protector")
    waited_ns = operation["wait_mmap_lock_ns"] + operation["wait_vma_ns"]
    assert waited_ns > PAUSE_NS - 3 * MS
    assert end_ns(operation) >= end_ns(fault) - 5 * US


@pytest.mark.parametrize("kind", [FileKind.REGULAR, FileKind.TMPFS])
def test_a_shared_write_lets_its_lock_go_to_balance_whether_or_not_it_has_to(
    kind: FileKind,
) -> None:
    """On tmpfs only the write that makes the page dirty does so: there is no page_mkwrite."""
    story = a_story(
        one("writer", write(1), write(1)),
        elsewhere=[one("later", after(100 * US), write(1))],
        data=CACHED,
        kind=kind,
    )

    run = Played(story)

    assert result(run.fault_of("writer")) == {VmFault.COMPLETED}
    completes = VmFault.COMPLETED in result(run.fault_of("later"))
    assert completes == (kind == FileKind.REGULAR)
    assert run["vmstat.nr_dirtied"] == (kind == FileKind.REGULAR)


def test_truncation_makes_room_for_those_who_pause() -> None:
    run = Played(
        a_story(
            one("dirtier", *[write(page) for page in range(64)]),
            one("truncater", after(5 * MS), Ftruncate("data", 0)),
            data=CACHED,
            disk=Device("disk", Fixed(READ_NS), write_latency=Fixed(80 * MS)),
            dirty_bytes=40 * PAGE,
            dirty_background_bytes=39 * PAGE,
            advice=Advice.RANDOM,
        )
    )

    assert run.ended
    assert run["faults.sigbus"] > 0
