"""Faults that are retried without end, and what puts an end to them.

U1 to U4 are the conditions under which nothing bounds the retries under the VMA lock; the
others are exits for which another attempt under the VMA lock cannot help.
"""

from collections.abc import Sequence

import pytest

from faultlane_server.codes import (
    FaultLock,
    FileKind,
    PageState,
    RetryReason,
    SignalKind,
    StopReason,
    VmFault,
)
from faultlane_server.policy import RetryPolicy, RetryRule
from faultlane_server.scenario import (
    Device,
    FadviseDontneed,
    FileMapping,
    Fixed,
    Kill,
    Mprotect,
    Scenario,
    ThreadGroup,
    Vma,
)
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
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
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

UNBOUNDED = ["rfc", "rfc_all_reads", "blind", "retry_hard"]
WRITE_NS = 100 * US
SLOW_WRITES = Device("disk", Fixed(READ_NS), channels=64, write_latency=Fixed(WRITE_NS))


def a_crowd_on_one_page(policy: str) -> Scenario:
    """Let many processes map one cached page, which each of them keeps locked for a while.

    Who is woken runs at once, so the folio goes from one waiter to the next.
    """
    crowd = [one(f"reader-{number}", touch(1)) for number in range(12)]
    return a_story(
        one("first", touch(1)),
        elsewhere=crowd,
        data=CACHED,
        fault_around=False,
        policy=policy,
        costs_ns={"map_page": 20 * US, "idle_exit": 0, "switch": 0, "wake": 0},
    )


def test_a_page_that_is_locked_at_every_look_is_retried_more_often_than_mainline_ever_does() -> (
    None
):
    """U1: who waits for the folio throws it away, and finds it locked again."""
    mainline, rfc = Played(a_crowd_on_one_page("mainline")), Played(a_crowd_on_one_page("rfc"))

    assert mainline["faults.attempts_max"] <= 3
    assert rfc["faults.attempts_max"] > 3
    assert rfc["faults.via_mmap_lock"] == 0


@pytest.mark.parametrize("policy", UNBOUNDED)
def test_nobody_starves_for_ever_on_a_page_that_is_often_locked(policy: str) -> None:
    """U1 limits itself: whoever finds the page unlocked maps it, and does not come back."""
    run = Played(a_crowd_on_one_page(policy))

    assert run.ended
    assert [result(row) for row in run.faults] == [{VmFault.LOCKED}] * 13
    assert run["perf.minor_faults"] == 13


def a_page_under_writeback_with_reclaim(
    policy: str | RetryPolicy, attempts_max: int = 0, beside: Sequence[ThreadGroup] = ()
) -> Scenario:
    """Let a page be read that fadvise has left under writeback, with PG_reclaim set."""
    return a_story(
        one("adviser", FadviseDontneed("data", PAGE, PAGE)),
        one("reader", after(20 * US), touch(1)),
        *beside,
        data=DIRTY,
        policy=policy,
        disk=SLOW_WRITES,
        attempts_max=attempts_max,
    )


@pytest.mark.parametrize("policy", UNBOUNDED)
def test_a_page_under_writeback_with_reclaim_is_faulted_until_it_is_written(policy: str) -> None:
    """U2: nothing is waited for, so the time that passes is CPU time."""
    run = Played(a_page_under_writeback_with_reclaim(policy))

    fault = run.fault_of("reader")
    waited_ns = sum(ns for name, ns in fault.items() if name.startswith("wait_"))
    assert fault["attempts"] > 30
    assert fault["cpu_ns"] == fault["duration_ns"] - waited_ns
    assert waited_ns == fault["wait_lock_word_ns"] < fault["duration_ns"] // 20
    assert WRITE_NS < end_ns(fault) < WRITE_NS * 1.2
    assert (fault["lock"], fault["reads"], fault["mmap_reads"]) == (FaultLock.VMA, 0, 0)
    assert fault["major"] == 0
    assert run["vmstat.vma_lock_retry"] == fault["vma_retries"] == fault["attempts"] - 1
    assert run["vmstat.vma_lock_success"] == 1


def test_mainline_maps_a_page_under_writeback_with_reclaim_at_its_third_attempt() -> None:
    """The third attempt has TRIED, and does not look at the bit; so the fault counts as major."""
    run = Played(a_page_under_writeback_with_reclaim("mainline"), traced="reader")

    fault = run.fault_of("reader")
    assert run.attempts() == ["V→RETRY", "M→RETRY", "M(TRIED)→LOCKED"]
    assert (fault["major"], fault["reads"], fault["mmap_reads"]) == (1, 0, 2)
    assert run["vmstat.pgmajfault"] == 0
    assert fault["duration_ns"] < WRITE_NS / 10


def test_a_busy_loop_ends_the_run_when_the_scenario_bounds_its_attempts() -> None:
    run = Played(a_page_under_writeback_with_reclaim("rfc", attempts_max=50))

    assert run.stop is StopReason.NO_PROGRESS
    fault = run.fault_of("reader")
    assert (fault["finished"], fault["attempts"]) == (0, 50)
    diagnosis = run.summary.diagnosis
    assert diagnosis is not None
    assert "thread 1" in diagnosis.message
    assert "50" in diagnosis.message
    assert f"{fault['address'] // PAGE:#x}" in diagnosis.chain[0]


def test_a_gate_that_sets_tried_ends_the_busy_loop_at_the_second_attempt() -> None:
    gate = RetryRule(vma_lock_on=(RetryReason.F7,), vma_retry_sets_tried=True)

    run = Played(a_page_under_writeback_with_reclaim(RetryPolicy(file=gate)), traced="reader")

    assert run.attempts() == ["V→RETRY+VMA", "V(TRIED)→LOCKED"]


def test_a_gate_that_counts_sends_the_busy_loop_to_mmap_lock() -> None:
    gate = RetryRule(vma_lock_on=(RetryReason.F7,), vma_retries_max=3)

    run = Played(a_page_under_writeback_with_reclaim(RetryPolicy(file=gate)), traced="reader")

    assert run.attempts() == [
        *["V→RETRY+VMA"] * 3,
        "V→RETRY",
        "M→RETRY",
        "M(TRIED)→LOCKED",
    ]


def test_a_writer_of_the_vma_breaks_the_busy_loop() -> None:
    """V0 fails, so the fault goes on as mainline does from mmap_lock on."""
    run = Played(
        a_page_under_writeback_with_reclaim(
            "rfc",
            beside=[one("protector", after(50 * US), Mprotect("data", protection=READ_WRITE[:1]))],
        )
    )

    fault = run.fault_of("reader")
    assert end_ns(fault) < 0.7 * WRITE_NS
    assert (fault["lock"], fault["major"], fault["mmap_reads"]) == (FaultLock.MMAP, 1, 2)
    assert fault["attempts"] == fault["vma_retries"] + 2
    assert run["vmstat.vma_lock_abort"] == 1


def test_a_signal_breaks_the_busy_loop_and_the_touch_begins_another_one() -> None:
    run = Played(
        a_page_under_writeback_with_reclaim(
            "rfc",
            beside=[one("sender", after(50 * US), Kill(SignalKind.HANDLED, "app", "reader"))],
        )
    )

    first, second = run.faults_of("reader")
    assert VmFault.RETRY in result(first)
    assert end_ns(first) < 0.7 * WRITE_NS < WRITE_NS < end_ns(second)
    assert min(first["attempts"], second["attempts"]) > 10
    assert run["vmstat.pgfault"] == 1


def a_page_that_was_read_in_vain(policy: str, attempts_max: int = 0) -> Scenario:
    """Let a cached page be read that is not up to date, and that the device cannot read."""
    return a_story(
        one("reader", touch(1)),
        data=[pages(PageState.NOT_UPTODATE, 1)],
        bad=[page_range(1)],
        policy=policy,
        attempts_max=attempts_max,
        horizon_ns=50 * READ_NS,
    )


@pytest.mark.parametrize("policy", ["rfc_all_reads", "blind", "retry_hard"])
def test_a_page_that_cannot_be_read_is_read_again_and_again(policy: str) -> None:
    """U4: each attempt finds the page cached, reads it, and drops the error with its lock.

    The fault sleeps in each attempt: that is no busy loop, and `attempts_max` does not end it.
    """
    run = Played(a_page_that_was_read_in_vain(policy, attempts_max=3))

    fault = run.fault_of("reader")
    assert run.stop is StopReason.HORIZON
    assert fault["finished"] == 0
    assert 45 <= fault["reads"] == fault["attempts"] <= 50
    assert run["device.read_errors"] == fault["vma_retries"] == fault["reads"] - 1
    assert reasons(fault) == {RetryReason.F8}
    assert run["faults.sigbus"] == 0


@pytest.mark.parametrize("policy", ["mainline", "rfc", "rfc_file", "rfc_uptodate", "v2"])
def test_a_page_that_cannot_be_read_ends_in_sigbus_after_three_reads(policy: str) -> None:
    run = Played(a_page_that_was_read_in_vain(policy), traced="reader")

    assert run.ended
    assert run.attempts() == ["V→RETRY", "M→RETRY", "M(TRIED)→SIGBUS"]
    assert run.fault_of("reader")["reads"] == 3
    assert run["vmstat.pgfault"] == 1
    assert (run["perf.major_faults"], run["perf.minor_faults"]) == (0, 0)
    assert run["vmstat.pgmajfault"] == 0


def test_blind_never_gets_past_a_mapping_without_map_pages() -> None:
    story = a_story(
        one("reader", touch(1)), kind=FileKind.SPECIAL, policy="blind", attempts_max=300
    )

    run = Played(story)

    assert run.stop is StopReason.NO_PROGRESS
    fault = run.fault_of("reader")
    assert (fault["attempts"], fault["finished"]) == (300, 0)
    assert reasons(fault) == {RetryReason.NO_MAP_PAGES}


@pytest.mark.parametrize("policy", ["mainline", "rfc", "rfc_all_reads", "retry_hard"])
def test_a_mapping_without_map_pages_is_faulted_under_mmap_lock(policy: str) -> None:
    story = a_story(one("reader", touch(1)), kind=FileKind.SPECIAL, policy=policy)

    assert Played(story, traced="reader").attempts() == ["V→RETRY", "M→LOCKED"]


def test_a_blind_retry_that_is_made_once_costs_one_attempt() -> None:
    story = a_story(one("reader", touch(1)), kind=FileKind.SPECIAL, policy="blind_once")

    assert Played(story, traced="reader").attempts() == ["V→RETRY+VMA", "V→RETRY", "M→LOCKED"]


def test_a_blind_retry_that_is_made_once_leaves_at_most_four_attempts() -> None:
    """Twice under the VMA lock, then as mainline from mmap_lock on."""
    for story in (
        a_page_under_writeback_with_reclaim("blind_once"),
        a_page_that_was_read_in_vain("blind_once"),
        a_crowd_on_one_page("blind_once"),
    ):
        run = Played(story)
        assert run.ended
        assert 3 <= run["faults.attempts_max"] <= 4


def the_first_private_write(policy: str) -> Scenario:
    """Let a page be copied in a VMA without anon_vma, while mmap_lock is held for another VMA."""
    data = Vma("data", 8 * PAGE, FileMapping("data", map_private=True), protection=READ_WRITE)
    other = Vma("other", 8 * PAGE, FileMapping("data"))
    return a_story(
        one("protector", Mprotect("other", protection=READ_WRITE)),
        one("writer", after(20 * US), write(1)),
        vmas=[data, other],
        data=CACHED,
        data_pages=8,
        policy=policy,
        costs_ns={"mprotect": 300 * US},
    )


def test_blind_spins_for_an_anon_vma_until_mmap_lock_can_be_had_at_once() -> None:
    run = Played(the_first_private_write("blind"))

    fault, operation = run.fault_of("writer"), run.operation_of("protector")
    assert fault["attempts"] > 50
    assert reasons(fault) == {RetryReason.ANON_VMA}
    assert (fault["lock"], fault["mmap_reads"]) == (FaultLock.VMA, 1)
    assert fault["wait_mmap_lock_ns"] == 0
    assert fault["cpu_ns"] > 250 * US
    assert operation["start_ns"] + 300 * US < fault["start_ns"] + fault["duration_ns"]


@pytest.mark.parametrize("policy", ["mainline", "rfc", "retry_hard"])
def test_without_blind_the_first_private_write_waits_for_mmap_lock(policy: str) -> None:
    run = Played(the_first_private_write(policy), traced="writer")

    fault = run.fault_of("writer")
    assert run.attempts() == ["V→RETRY", "M→LOCKED"]
    assert fault["wait_mmap_lock_ns"] > 250 * US
    assert fault["cpu_ns"] < 10 * US


def a_folio_holder_that_needs_mmap_lock(policy: str) -> Scenario:
    """Let three threads of a process close the circle that a fourth one elsewhere opens.

    `dirtier` is in page_mkwrite, with the VMA lock. `mapper` has the folio locked meanwhile,
    and `waiter` has let its lock go to wait for it. `protector` holds mmap_lock and drains the
    VMA of `dirtier`. When `waiter` has the folio, it can have neither lock.
    """
    return a_story(
        one("dirtier", write(1)),
        one("waiter", after(150 * US), write(1)),
        one("protector", after(200 * US), Mprotect("data", protection=READ_WRITE[:1])),
        elsewhere=[one("mapper", after(100 * US), touch(1))],
        data=CACHED,
        fault_around=False,
        policy=policy,
        costs_ns={"page_mkwrite": MS, "map_page": 300 * US},
    )


def test_waiting_for_mmap_lock_with_a_folio_locked_is_a_deadlock() -> None:
    run = Played(a_folio_holder_that_needs_mmap_lock("relock_blocking"))

    assert run.stop is StopReason.DEADLOCK
    finished = {name: row["finished"] for name in run.names for row in run.rows_of(name)}
    assert finished == {"dirtier": 0, "waiter": 0, "protector": 0, "mapper": 1}
    assert run.fault_of("waiter")["wait_mmap_lock_ns"] > 0
    assert run.operation_of("protector")["wait_vma_ns"] > 0


def test_a_deadlock_is_told_as_the_circle_of_those_who_wait() -> None:
    run = Played(a_folio_holder_that_needs_mmap_lock("relock_blocking"))

    diagnosis = run.summary.diagnosis
    assert diagnosis is not None
    page = run.fault_of("waiter")["address"] // PAGE
    assert set(diagnosis.chain) == {
        f"thread 0 (fault at page {page:#x}) waits for a folio lock behind thread 1"
        " and holds a VMA lock",
        f"thread 1 (fault at page {page:#x}) waits for mmap_lock behind thread 2",
        "thread 2 (mprotect) waits for the readers of a VMA behind thread 0",
    }


@pytest.mark.parametrize("policy", ["relock", "mainline", "rfc", "hold", "never_drop"])
def test_without_waiting_for_mmap_lock_with_a_folio_locked_there_is_no_deadlock(
    policy: str,
) -> None:
    run = Played(a_folio_holder_that_needs_mmap_lock(policy))

    assert run.ended
