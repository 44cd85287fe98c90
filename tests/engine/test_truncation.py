"""Truncation and holes, against the faults that are under way."""

import pytest

from faultlane_server.codes import Advice, PageState, RetryReason, VmFault
from faultlane_server.scenario import (
    Barrier,
    Device,
    FadviseDontneed,
    Fixed,
    Ftruncate,
    PunchHole,
    Scenario,
    Step,
    SyncFileRange,
)
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
    MS,
    PAGE,
    READ_NS,
    US,
    Played,
    a_story,
    after,
    end_ns,
    one,
    page_range,
    pages,
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

SLOW_MAP = {"map_page": 300 * US}
NO_READAHEAD = Device("disk", Fixed(READ_NS), channels=64, readahead_bytes=0)


def a_folio_that_goes(step: Step, policy: str = "never_drop") -> Scenario:
    """Let `waiter` wait for a folio that `step` is to take out of the page cache before it.

    `mapper` has it locked until 300 us, when it is the truncater's turn.
    """
    return a_story(
        one("truncater", after(50 * US), step),
        one("waiter", after(100 * US), touch(1)),
        elsewhere=[one("mapper", touch(1))],
        data=CACHED,
        fault_around=False,
        policy=policy,
        disk=NO_READAHEAD,
        costs_ns=SLOW_MAP,
    )


def test_who_waited_for_a_folio_that_was_truncated_finds_another_one_in_the_same_attempt() -> None:
    """F5. It is no miss: no readahead, no PGMAJFAULT, and the fault is minor."""
    run = Played(a_folio_that_goes(PunchHole("data", PAGE, PAGE)), traced="waiter")

    fault = run.fault_of("waiter")
    assert run.attempts() == ["V→LOCKED"]
    assert fault["wait_folio_ns"] > 100 * US
    assert (fault["reads"], fault["major"], run["vmstat.pgmajfault"]) == (0, 0, 0)
    assert run["page_cache.truncated"] == 1


def test_who_let_its_lock_go_for_a_folio_that_was_truncated_reads_another_one_and_retries() -> None:
    """F5 with the lock let go: the new folio is filled (F8), and the attempt is retried."""
    run = Played(a_folio_that_goes(PunchHole("data", PAGE, PAGE), "mainline"), traced="waiter")

    assert run.attempts() == ["V→RETRY", "M→LOCKED"]
    assert reasons(run.fault_of("waiter")) == {RetryReason.F8}
    assert run["vmstat.pgmajfault"] == 0


@pytest.mark.parametrize("policy", ["mainline", "rfc", "never_drop", "relock", "v2"])
def test_who_waited_for_a_folio_behind_the_new_end_ends_in_sigbus(policy: str) -> None:
    run = Played(a_folio_that_goes(Ftruncate("data", PAGE), policy))

    fault = run.fault_of("waiter")
    assert result(fault) == {VmFault.SIGBUS}
    assert (fault["reads"], run["faults.sigbus"], run["device.reads"]) == (0, 1, 0)
    assert run.ended


def test_who_has_a_folio_before_truncation_takes_it_looks_at_the_size_again() -> None:
    """F7: the file has ended before the page by then, and nothing is mapped."""
    run = Played(
        a_story(
            one("waiter", after(50 * US), touch(1)),
            one("truncater", after(100 * US), Ftruncate("data", PAGE)),
            elsewhere=[one("mapper", touch(1))],
            data=CACHED,
            fault_around=False,
            policy="never_drop",
            costs_ns=SLOW_MAP,
        )
    )

    fault = run.fault_of("waiter")
    assert result(fault) == {VmFault.SIGBUS}
    assert end_ns(fault) < end_ns(run.operation_of("truncater"))
    assert run["page_cache.truncated"] == 63


def test_a_touch_behind_the_end_needs_no_folio_and_no_lock_of_the_file() -> None:
    """F0 keeps the lock, so the fault ends in its first attempt."""
    story = a_story(
        one("reader", Ftruncate("data", 2 * PAGE), touch(1, 2, 3)), data=CACHED, fault_around=False
    )

    run = Played(story)

    assert [result(row) for row in run.faults] == [
        {VmFault.LOCKED},
        {VmFault.SIGBUS},
        {VmFault.SIGBUS},
    ]
    assert (run["vmstat.vma_lock_success"], run["vmstat.pgfault"]) == (3, 3)
    assert run["perf.minor_faults"] == 1
    assert run["touches.count"] == 3


def test_a_file_that_grows_again_reads_as_a_hole() -> None:
    story = a_story(
        one("truncater", Ftruncate("data", PAGE), Ftruncate("data", 4 * PAGE), touch(2, 5)),
        data=CACHED,
        disk=NO_READAHEAD,
    )

    run = Played(story)

    first, second = run.faults
    assert result(first) == {VmFault.NOPAGE}
    assert result(second) == {VmFault.SIGBUS}
    assert run["device.reads"] == 0
    assert run["vmstat.pgmajfault"] == 1


@pytest.mark.parametrize("step", [Ftruncate("data", 2 * PAGE), PunchHole("data", 2 * PAGE)])
def test_pages_are_unmapped_in_every_process(step: Step) -> None:
    """Who has touched all pages faults again on those that went, and not on the others."""
    touches = (touch(*range(4)), after(MS), touch(*range(4)))
    run = Played(
        a_story(
            one("truncater", after(100 * US), step),
            one("reader", *touches),
            elsewhere=[one("other", *touches), one("third", *touches)],
            data=CACHED,
            data_pages=4,
            fault_around=False,
        )
    )

    for name in ("reader", "other", "third"):
        late = [row for row in run.faults_of(name) if row["start_ns"] > MS]
        first = late[0]["address"] // PAGE
        assert {row["address"] // PAGE - first for row in late} == {0, 1}
        assert run.faults_of(name)[2]["address"] == late[0]["address"]
    assert run["page_cache.truncated"] == 2


@pytest.mark.parametrize(
    ("step", "faults"),
    [(Ftruncate("data", PAGE), 2), (PunchHole("data", PAGE, PAGE), 1)],
    ids=["ftruncate", "a hole"],
)
def test_ftruncate_takes_private_copies_and_a_hole_leaves_them(step: Step, faults: int) -> None:
    run = Played(
        a_story(
            one("writer", write(1), Barrier("copied"), Barrier("gone"), write(1)),
            one("truncater", Barrier("copied"), step, Barrier("gone")),
            data=CACHED,
            private=True,
        )
    )

    assert len(run.faults_of("writer")) == faults
    assert run["faults.sigbus"] == faults - 1


def test_ftruncate_takes_private_copies_that_are_made_while_it_waits() -> None:
    """truncate_pagecache unmaps a second time, for copies that were made meanwhile."""
    run = Played(
        a_story(
            one("writer", write(1), after(MS), touch(1)),
            one("truncater", after(5 * US), Ftruncate("data", PAGE)),
            data=CACHED,
            private=True,
            fault_around=False,
            costs_ns={"copy_page": 200 * US},
        )
    )

    assert run.operation_of("truncater")["wait_folio_ns"] > 100 * US
    assert run["faults.sigbus"] == 1


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (PageState.HOLE, Advice.NORMAL),
        (PageState.HOLE, Advice.RANDOM),
        (PageState.ABSENT, Advice.NORMAL),
    ],
)
def test_holes_are_filled_without_the_device(state: PageState, advice: Advice) -> None:
    """An absent page is read; a hole is not, but it is a miss, and the attempt is retried."""
    story = a_story(
        one("reader", touch(1)), data=[pages(state, 0, 64)], advice=advice, fault_around=False
    )

    run = Played(story, traced="reader")

    fault = run.fault_of("reader")
    assert run.attempts() == ["V→MAJOR+RETRY", "M(TRIED)→LOCKED"]
    assert (run["vmstat.pgmajfault"], fault["major"]) == (1, 1)
    is_hole = state == PageState.HOLE
    assert run["device.reads"] == (0 if is_hole else 1)
    assert (fault["wait_device_ns"] == 0) == is_hole


def test_readahead_is_split_around_holes() -> None:
    """A window of 32 pages with two holes inside takes three reads, and fills the holes."""
    holes = [pages(PageState.HOLE, page) for page in (5, 20)]

    run = Played(a_story(one("reader", touch(16), after(3 * MS), touch(5, 20)), data=holes))

    assert (run["device.reads"], run["device.pages"]) == (3, 30)
    assert run["vmstat.pgmajfault"] == 1


@pytest.mark.parametrize("advice", [Advice.RANDOM, Advice.NORMAL])
@pytest.mark.parametrize("step", [Ftruncate("data", 32 * PAGE), PunchHole("data", 32 * PAGE)])
def test_a_fault_that_fills_the_page_cache_waits_for_truncation(step: Step, advice: Advice) -> None:
    """It needs invalidate_lock, which truncation has for itself until all pages are gone."""
    run = Played(
        a_story(
            one("truncater", step),
            one("misses", after(50 * US), touch(1)),
            one("hits", after(50 * US), touch(20)),
            data=[pages(PageState.CACHED, 20, 44)],
            advice=advice,
            disk=NO_READAHEAD,
            fault_around=False,
            costs_ns={"ftruncate": 500 * US, "punch_hole": 500 * US},
        )
    )

    assert run.fault_of("misses")["wait_invalidate_lock_ns"] > 400 * US
    assert run.fault_of("hits")["wait_invalidate_lock_ns"] == 0
    assert end_ns(run.fault_of("hits")) < 100 * US


def test_a_page_that_is_not_up_to_date_is_not_read_before_truncation_is_done() -> None:
    """F2a: the folio that was found is gone then, and the page is a hole."""
    run = Played(
        a_story(
            one("truncater", PunchHole("data", PAGE, PAGE)),
            one("reader", after(50 * US), touch(1)),
            data=[pages(PageState.NOT_UPTODATE, 1)],
            bad=[page_range(1)],
            costs_ns={"punch_hole": 500 * US},
        )
    )

    fault = run.fault_of("reader")
    assert fault["wait_invalidate_lock_ns"] > 400 * US
    assert (fault["reads"], fault["major"], run["vmstat.pgmajfault"]) == (0, 0, 0)
    assert run["faults.sigbus"] == 0


def test_truncation_waits_for_a_page_that_is_read() -> None:
    """Read-around lets invalidate_lock of the fault alone, but the folios are locked."""
    run = Played(
        a_story(
            one("truncater", after(100 * US), Ftruncate("data", 0)),
            elsewhere=[one("reader", touch(40))],
        )
    )

    operation = run.operation_of("truncater")
    assert end_ns(operation) > READ_NS
    waited_ns = operation["wait_device_ns"] + operation["wait_invalidate_lock_ns"]
    assert waited_ns > 800 * US


def test_truncation_is_blocked_by_the_fault_that_has_invalidate_lock_longest() -> None:
    """`quick` fills a hole and is gone when the truncater comes; `slow` reads its page."""
    run = Played(
        a_story(
            one("slow", touch(1)),
            one("quick", after(20 * US), touch(2)),
            one("truncater", after(100 * US), Ftruncate("data", 0)),
            data=[pages(PageState.HOLE, 2)],
            advice=Advice.RANDOM,
            fault_around=False,
        )
    )

    assert end_ns(run.fault_of("quick")) < 100 * US
    assert run.operation_of("truncater")["wait_invalidate_lock_ns"] > 800 * US
    assert run.operation_of("truncater")["blocker"] == run.names["slow"]


def test_truncation_waits_until_a_page_is_written() -> None:
    run = Played(
        a_story(
            one("truncater", after(100 * US), Ftruncate("data", 0)),
            one("syncer", SyncFileRange("data")),
            data=DIRTY,
        )
    )

    operation = run.operation_of("truncater")
    assert operation["wait_writeback_ns"] > 800 * US
    assert run["page_cache.truncated"] == 64


def test_a_dirty_page_that_is_truncated_is_never_written() -> None:
    run = Played(
        a_story(
            one("truncater", Ftruncate("data", 0), SyncFileRange("data", wait=True)), data=DIRTY
        )
    )

    assert (run["device.writes"], run["page_cache.truncated"]) == (0, 64)


def test_every_page_that_is_truncated_is_counted() -> None:
    run = Played(
        a_story(
            one("truncater", after(10 * US), Ftruncate("data", 0)),
            elsewhere=[one("mapper", touch(5))],
            data=CACHED,
            data_pages=10,
            fault_around=False,
            costs_ns=SLOW_MAP,
        )
    )

    assert run.operation_of("truncater")["wait_folio_ns"] > 200 * US
    assert run["page_cache.truncated"] == 10


def test_truncation_waits_for_page_mkwrite() -> None:
    """Which has invalidate_lock from its beginning to its end."""
    run = Played(
        a_story(
            one("writer", write(1)),
            one("truncater", after(20 * US), Ftruncate("data", PAGE)),
            data=CACHED,
            costs_ns={"page_mkwrite": 100 * US},
        )
    )

    assert result(run.fault_of("writer")) == {VmFault.COMPLETED}
    assert run.operation_of("truncater")["wait_invalidate_lock_ns"] > 50 * US
    assert run["page_cache.truncated"] == 63


def test_page_mkwrite_on_a_page_that_was_truncated_maps_nothing() -> None:
    """It had to wait for invalidate_lock. The touch is made again, and finds a hole."""
    run = Played(
        a_story(
            one("truncater", PunchHole("data", PAGE, PAGE)),
            one("writer", after(50 * US), write(1)),
            data=CACHED,
            costs_ns={"punch_hole": 500 * US},
        )
    )

    first, second = run.faults_of("writer")
    assert result(first) == {VmFault.NOPAGE}
    assert first["wait_invalidate_lock_ns"] > 400 * US
    assert (first["major"], second["major"], second["reads"]) == (0, 1, 0)


def test_fadvise_drops_only_what_is_clean_unmapped_and_unlocked() -> None:
    """Page 1 is mapped, 2 is dirty, 3 is being mapped elsewhere: the rest goes."""
    run = Played(
        a_story(
            one("reader", touch(1), after(MS), touch(*range(8))),
            one("adviser", after(100 * US), FadviseDontneed("data")),
            elsewhere=[one("mapper", after(50 * US), touch(3))],
            data=[*CACHED, pages(PageState.DIRTY, 2)],
            data_pages=8,
            disk=NO_READAHEAD,
            fault_around=False,
            costs_ns={"map_page": 80 * US},
        )
    )

    missed = [row for row in run.faults_of("reader") if row["reads"]]
    first = run.faults_of("reader")[0]["address"] // PAGE - 1
    assert [row["address"] // PAGE - first for row in missed] == [0, 4, 5, 6, 7]
