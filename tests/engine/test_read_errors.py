"""Reads that fail: how often, what becomes of their pages, and of who waits for them."""

import pytest

from faultlane_server.codes import Advice, PageState, Protection, RetryReason, VmFault
from faultlane_server.scenario import Device, FileMapping, Fixed, Scenario, Vma
from tests.engine.small_stories import (
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
)

pytestmark = pytest.mark.uncompiled_too

BAD_PAGE = [page_range(16)]


def every_read_alone(error_ppm: int) -> Scenario:
    """Read 200 pages, each by itself."""
    return a_story(
        one("reader", touch(*range(200))),
        data_pages=200,
        advice=Advice.RANDOM,
        fault_around=False,
        disk=Device("disk", Fixed(20 * US), error_ppm=error_ppm),
    )


@pytest.mark.parametrize("error_ppm", [0, 100_000, 500_000])
def test_reads_fail_as_often_as_the_device_says(error_ppm: int) -> None:
    """A read that fails is made again by the next attempt, so a page is read up to twice.

    The net: four standard deviations of a binomial.
    """
    run = Played(every_read_alone(error_ppm))

    reads, errors = run["device.reads"], run["device.read_errors"]
    chance = error_ppm / 10**6
    margin = 4 * (reads * chance * (1 - chance)) ** 0.5
    assert abs(errors - reads * chance) <= margin
    assert margin < 0.15 * reads, "too wide to tell anything"
    assert reads == 200 + sum(row["reads"] > 1 for row in run.faults)


def test_a_device_that_reads_nothing_ends_every_fault_in_sigbus() -> None:
    run = Played(every_read_alone(10**6))

    assert {tuple(result(row)) for row in run.faults} == {(VmFault.SIGBUS,)}
    assert run["device.reads"] == run["device.read_errors"] == 400
    assert run["faults.sigbus"] == run["touches.count"] == run["vmstat.pgfault"] == 200
    assert (run["perf.major_faults"], run["perf.minor_faults"]) == (0, 0)


def test_which_reads_fail_is_the_same_under_every_policy() -> None:
    runs = [
        Played(
            a_story(
                one("reader", touch(*range(100))),
                data_pages=100,
                advice=Advice.RANDOM,
                fault_around=False,
                disk=Device("disk", Fixed(20 * US), error_ppm=300_000),
                policy=policy,
            )
        )
        for policy in ("mainline", "rfc_all_reads", "mmap_lock_only")
    ]

    failed = [[row["touch"] for row in run.faults if row["reads"] > 1] for run in runs]
    assert failed[0]
    assert failed[0] == failed[1] == failed[2]


def test_a_bad_page_lets_its_whole_request_fail() -> None:
    """Readahead of 32 pages fails for all; each of them is read by itself when it is touched."""
    story = a_story(one("reader", touch(10), touch(11), touch(16)), bad=BAD_PAGE)

    run = Played(story, traced="reader")

    assert run.attempts() == [
        *["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"],
        *["V→RETRY", "M→NOPAGE"],
        *["V→RETRY", "M→RETRY", "M(TRIED)→SIGBUS"],
    ]
    assert [row["reads"] for row in run.faults] == [2, 1, 3]
    assert run["device.read_errors"] == 1 + 3
    assert run["vmstat.pgmajfault"] == 1


def test_readahead_that_fails_is_followed_by_a_read_of_the_page_alone() -> None:
    """Golden row 23: the first attempt waits for readahead and reads the page again (F8)."""
    story = a_story(one("reader", touch(16)), bad=BAD_PAGE)

    run = Played(story, traced="reader")

    fault = run.fault_of("reader")
    assert run.attempts() == ["V→MAJOR+RETRY", "M(TRIED)→SIGBUS"]
    assert (fault["reads"], reasons(fault)) == (3, {RetryReason.F8})
    assert fault["duration_ns"] > 3 * READ_NS
    assert (run["vmstat.pgmajfault"], run["vmstat.pgfault"]) == (1, 1)
    assert fault["mmap_reads"] == 1


def test_who_waits_for_a_read_that_fails_reads_the_page_itself() -> None:
    """The one that waited hit the page, so its first retry is not major."""
    run = Played(
        a_story(one("first", touch(16)), one("second", after(100 * US), touch(16)), bad=BAD_PAGE)
    )

    first, second = run.fault_of("first"), run.fault_of("second")
    assert result(first) == result(second) == {VmFault.SIGBUS}
    assert (first["attempts"], second["attempts"]) == (2, 3)
    assert run["vmstat.pgmajfault"] == 1


def test_a_page_whose_read_failed_is_not_mapped_around() -> None:
    run = Played(
        a_story(
            one("reader", touch(1), touch(2)),
            data=[pages(PageState.CACHED, 0, 8), pages(PageState.NOT_UPTODATE, 2)],
            data_pages=8,
        )
    )

    assert [row["reads"] for row in run.faults] == [0, 1]


def windows_after_failures(failures: int, same_file: bool = True) -> Scenario:
    """Let reads fail through one struct file, and then readahead be made through one.

    Each failure is a page that is cached and not up to date, whose only read ends in SIGBUS.
    """
    vmas = [
        Vma(name, 128 * PAGE, FileMapping("data", open=name), protection=(Protection.READ,))
        for name in ("failing", "other")
    ]
    return a_story(
        one(
            "reader",
            *[touch(page, vma="failing") for page in range(failures)],
            touch(100, vma="failing" if same_file else "other"),
            after(5 * MS),
        ),
        vmas=vmas,
        data=[pages(PageState.NOT_UPTODATE, 0, 8)],
        data_pages=128,
        bad=[page_range(0, 8)],
        policy="never_drop",
        fault_around=False,
    )


@pytest.mark.parametrize(("failures", "window"), [(0, 32), (1, 8), (2, 2), (3, 1)])
def test_a_read_that_fails_divides_the_window_of_its_struct_file_by_four(
    failures: int, window: int
) -> None:
    """At last it is 0: then there is no readahead, and the fault reads its page alone."""
    run = Played(windows_after_failures(failures))

    assert run["device.pages"] == failures + window


@pytest.mark.parametrize("failures", [1, 3])
def test_another_open_of_the_file_keeps_its_window(failures: int) -> None:
    run = Played(windows_after_failures(failures, same_file=False))

    assert run["device.pages"] == failures + 32


def test_readahead_that_fails_leaves_the_window_alone() -> None:
    """Only read_folio of the fault itself divides it, not the readahead before."""
    story = a_story(
        one("reader", touch(10), after(5 * MS), touch(100)), data_pages=128, bad=BAD_PAGE
    )

    run = Played(story)

    assert run["device.read_errors"] == 1
    assert run["device.pages"] == 32 + 1 + 32


def test_an_unread_page_costs_the_time_of_its_reads() -> None:
    run = Played(a_story(one("reader", touch(16)), bad=BAD_PAGE, policy="never_drop"))

    fault = run.fault_of("reader")
    assert (fault["attempts"], fault["reads"]) == (1, 2)
    assert 2 * READ_NS < end_ns(fault) < 2 * READ_NS + 50 * US
