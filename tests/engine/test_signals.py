"""What a signal ends, and what it has to wait for.

In every story the thread `victim` gets a signal in the middle of something that takes at least
until `FREE_NS`, if nobody ends it.
"""

from collections.abc import Callable

import pytest

from faultlane_server.codes import (
    Advice,
    FileKind,
    PageState,
    Protection,
    RetryReason,
    SignalKind,
    VmFault,
)
from faultlane_server.scenario import (
    Barrier,
    Compute,
    Device,
    FadviseDontneed,
    Fixed,
    Ftruncate,
    Kill,
    Mprotect,
    Munmap,
    Scenario,
    SyncFileRange,
    ThreadGroup,
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
    kill,
    one,
    page_range,
    pages,
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

KILL_NS = 500 * US
SOON_NS = 30 * US
FREE_NS = 2 * MS
SLOW = Device("disk", Fixed(FREE_NS), channels=64)
KILLER = one("killer", after(KILL_NS), kill())
MAPPER = one("mapper", touch(1))  # has the folio locked while it maps it

READ_ONLY = (Protection.READ,)


def handled(group: str) -> Kill:
    return Kill(SignalKind.HANDLED, "app", group)


@pytest.mark.parametrize("policy", ["mainline", "rfc", "blind"])
def test_a_handled_signal_ends_a_fault_when_its_page_was_read_and_it_starts_again(
    policy: str,
) -> None:
    """The read is not cut short. The fault counts for nothing; the next one finds the page."""
    run = Played(
        a_story(
            one("victim", touch(1)), one("sender", after(KILL_NS), handled("victim")), policy=policy
        )
    )

    first, second = run.faults_of("victim")
    assert result(first) >= {VmFault.RETRY, VmFault.MAJOR}
    assert (first["finished"], first["attempts"], first["vma_retries"]) == (1, 1, 0)
    assert first["duration_ns"] > READ_NS
    assert (first["touch"], first["address"]) == (second["touch"], second["address"])
    assert result(second) == {VmFault.NOPAGE}
    assert second["start_ns"] > end_ns(first)
    assert (run["faults.interrupted"], run["signals.handled"]) == (1, 1)
    assert (run["vmstat.pgfault"], run["perf.page_faults"]) == (1, 2)
    assert (run["perf.major_faults"], run["perf.minor_faults"]) == (0, 1)
    assert (run["vmstat.pgmajfault"], run["vmstat.vma_lock_retry"]) == (1, 1)
    assert run["touches.count"] == 1


def test_a_handled_signal_does_not_end_a_fault_in_kernel_mode() -> None:
    story = a_story(
        one("victim", touch(1, kernel_mode=True)),
        one("sender", after(KILL_NS), handled("victim")),
    )

    run = Played(story, traced="victim")

    assert run.attempts() == ["M→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert run.fault_of("victim")["finished"] == 1
    assert (run["faults.interrupted"], run["signals.handled"]) == (0, 1)


def test_a_fatal_signal_ends_a_fault_in_kernel_mode() -> None:
    run = Played(a_story(one("victim", touch(1, kernel_mode=True)), elsewhere=[KILLER]))

    fault = run.fault_of("victim")
    assert KILL_NS < end_ns(fault) < KILL_NS + SOON_NS
    assert run["faults.interrupted"] == 1
    assert run["touches.count"] == 0


def test_a_handled_signal_is_noticed_before_the_next_touch() -> None:
    """It comes while the thread waits for mmap_lock, which it does not end."""
    run = Played(
        a_story(
            one("victim", touch(1, kernel_mode=True)),
            one("protector", Mprotect("data", protection=READ_ONLY)),
            one("sender", after(KILL_NS), handled("victim")),
            data=CACHED,
            costs_ns={"mprotect": FREE_NS, "trap": 10 * US},
        )
    )

    assert end_ns(run.fault_of("victim")) > FREE_NS
    assert (run["faults.interrupted"], run["signals.handled"]) == (0, 1)


def waits_for_mmap_lock_to_read(generation: str = "6.12", arch: str = "x86") -> Scenario:
    return a_story(
        one("victim", after(10 * US), touch(1, kernel_mode=True)),
        one("protector", Mprotect("data", protection=READ_ONLY)),
        elsewhere=[KILLER],
        data=CACHED,
        costs_ns={"mprotect": FREE_NS},
        generation=generation,
        arch=arch,
    )


def waits_for_mmap_lock_to_write() -> Scenario:
    return a_story(
        one("victim", after(50 * US), Mprotect("data", 0, PAGE, READ_ONLY)),
        one("unmapper", Munmap("data", 8 * PAGE, PAGE)),
        elsewhere=[KILLER],
        costs_ns={"munmap_zap": FREE_NS},
    )


def waits_for_a_read() -> Scenario:
    return a_story(one("victim", touch(1)), elsewhere=[KILLER], disk=SLOW)


def waits_for_a_read_with_the_lock() -> Scenario:
    return a_story(one("victim", touch(1)), elsewhere=[KILLER], disk=SLOW, policy="never_drop")


def waits_for_a_folio(policy: str = "mainline") -> Scenario:
    return a_story(
        one("victim", after(10 * US), touch(1)),
        elsewhere=[MAPPER, KILLER],
        data=CACHED,
        fault_around=False,
        costs_ns={"map_page": FREE_NS},
        policy=policy,
    )


def reads_its_page_itself(policy: str = "mainline") -> Scenario:
    return a_story(
        one("victim", touch(1)),
        elsewhere=[KILLER],
        disk=SLOW,
        advice=Advice.RANDOM,
        policy=policy,
    )


def is_throttled() -> Scenario:
    return a_story(
        one("victim", write(*range(64))),
        elsewhere=[KILLER],
        data=CACHED,
        disk=SLOW,
        dirty_bytes=16 * PAGE,
    )


@pytest.mark.parametrize(
    ("story", "ends_in", "reason"),
    [
        (waits_for_mmap_lock_to_read, {VmFault.SIGSEGV}, None),
        (waits_for_a_read, {VmFault.RETRY, VmFault.MAJOR}, RetryReason.KILLED),
        (waits_for_a_read_with_the_lock, {VmFault.RETRY, VmFault.MAJOR}, RetryReason.KILLED),
        (waits_for_a_folio, {VmFault.RETRY}, RetryReason.KILLED),
        (lambda: waits_for_a_folio("v2"), {VmFault.RETRY}, RetryReason.KILLED),
        (reads_its_page_itself, {VmFault.RETRY, VmFault.MAJOR}, RetryReason.F8),
        (lambda: reads_its_page_itself("never_drop"), {VmFault.SIGBUS}, None),
        (is_throttled, {VmFault.COMPLETED}, None),
    ],
    ids=[
        "mmap_lock",
        "a read, without a lock",
        "a read, with the lock",
        "a folio, without a lock",
        "a folio, with the lock",
        "its own read, without a lock",
        "its own read, with the lock",
        "dirty throttling",
    ],
)
def test_a_fatal_signal_ends_what_a_fault_waits_for(
    story: Callable[[], Scenario], ends_in: set[VmFault], reason: RetryReason | None
) -> None:
    run = Played(story())

    fault = run.faults_of("victim")[-1]
    assert KILL_NS < end_ns(fault) < KILL_NS + SOON_NS
    assert result(fault) == ends_in
    assert reasons(fault) == ({reason} if reason else set())
    assert fault["finished"] == 1
    assert run.ended


def test_a_fatal_signal_ends_the_wait_for_mmap_lock_of_a_writer() -> None:
    run = Played(waits_for_mmap_lock_to_write())

    operation = run.operation_of("victim")
    assert KILL_NS < end_ns(operation) < KILL_NS + SOON_NS
    assert (operation["finished"], operation["hold_ns"]) == (1, 0)
    assert run["mmap_lock.write.acquired"] == 2  # the unmapper's, and that of the process's end
    assert run.ended


@pytest.mark.parametrize(
    "cast",
    [
        [one("victim", after(FREE_NS), touch(1))],
        [one("victim", Compute(Fixed(FREE_NS)), touch(1))],
        [one("victim", Barrier("all"), touch(1)), one("late", after(FREE_NS), Barrier("all"))],
    ],
    ids=["sleep", "compute", "barrier"],
)
def test_a_fatal_signal_ends_what_a_program_does(cast: list[ThreadGroup]) -> None:
    run = Played(a_story(*cast, elsewhere=[KILLER]))

    assert run.ended
    assert KILL_NS < run.summary.end_ns < KILL_NS + SOON_NS
    assert run.faults == []


def test_a_thread_that_kills_its_own_process_ends_with_it() -> None:
    run = Played(a_story(one("victim", kill(""), touch(1)), one("other", touch(2), touch(3))))

    assert run.ended
    assert run.summary.end_ns < SOON_NS
    assert run["touches.count"] == 0


def waits_for_a_folio_to_make_it_writable() -> Scenario:
    return a_story(
        one("victim", write(1)),
        elsewhere=[one("mapper", after(20 * US), touch(1)), KILLER],
        data=CACHED,
        fault_around=False,
        costs_ns={"map_page": FREE_NS, "page_mkwrite": 100 * US},
    )


def drains_a_vma(generation: str) -> Scenario:
    return a_story(
        one("dirtier", write(1)),
        one("victim", after(50 * US), Mprotect("data", protection=READ_ONLY)),
        elsewhere=[KILLER],
        data=CACHED,
        costs_ns={"page_mkwrite": FREE_NS},
        generation=generation,
    )


def waits_for_a_folio_of_tmpfs() -> Scenario:
    return a_story(
        one("victim", after(10 * US), touch(1)),
        elsewhere=[MAPPER, KILLER],
        kind=FileKind.TMPFS,
        data=CACHED,
        fault_around=False,
        costs_ns={"map_page": FREE_NS},
    )


def waits_for_invalidate_lock() -> Scenario:
    return a_story(
        one("victim", after(50 * US), touch(1)),
        elsewhere=[one("truncater", Ftruncate("data", 32 * PAGE)), KILLER],
        disk=Device("disk", Fixed(READ_NS), readahead_bytes=0),
        costs_ns={"ftruncate": FREE_NS},
    )


def waits_for_writeback_with_the_folio() -> Scenario:
    return a_story(
        one("syncer", SyncFileRange("data", PAGE, PAGE)),
        one("victim", after(50 * US), write(1)),
        elsewhere=[KILLER],
        data=DIRTY,
        disk=Device("disk", Fixed(FREE_NS), stable_writes=True),
    )


def waits_until_a_range_is_written() -> Scenario:
    return a_story(
        one("victim", SyncFileRange("data", wait=True)),
        elsewhere=[KILLER],
        data=DIRTY,
        disk=SLOW,
    )


@pytest.mark.parametrize(
    "story",
    [
        lambda: waits_for_mmap_lock_to_read("6.12", "s390"),
        lambda: waits_for_mmap_lock_to_read("6.4"),
        lambda: waits_for_mmap_lock_to_read("6.3"),
        lambda: waits_for_a_folio("rfc_uptodate"),
        waits_for_a_folio_to_make_it_writable,
        lambda: drains_a_vma("6.12"),
        lambda: drains_a_vma("6.15"),
        waits_for_a_folio_of_tmpfs,
        waits_for_invalidate_lock,
        waits_for_writeback_with_the_folio,
        waits_until_a_range_is_written,
    ],
    ids=[
        "mmap_lock on s390",
        "mmap_lock before 6.5",
        "mmap_lock in 6.3",
        "a folio that is up to date, in rfc_uptodate",
        "the folio in page_mkwrite",
        "the readers of a VMA, by rw_semaphore",
        "the readers of a VMA, by reference count",
        "a folio of tmpfs",
        "invalidate_lock",
        "stable pages",
        "sync_file_range",
    ],
)
def test_a_fatal_signal_does_not_end_a_wait_that_is_uninterruptible(
    story: Callable[[], Scenario],
) -> None:
    run = Played(story())

    (row,) = run.rows_of("victim")
    assert row["start_ns"] < KILL_NS
    assert end_ns(row) > FREE_NS
    assert run.ended


@pytest.mark.parametrize(
    ("generation", "arch"), [("6.7", "x86"), ("6.18", "s390"), ("6.12", "arm64")]
)
def test_the_wait_for_mmap_lock_can_be_killed_where_it_was_made_so(
    generation: str, arch: str
) -> None:
    run = Played(waits_for_mmap_lock_to_read(generation, arch))

    assert end_ns(run.fault_of("victim")) < KILL_NS + SOON_NS


def test_a_killed_head_of_the_queue_passes_mmap_lock_on() -> None:
    """Q10: the readers behind a killed writer are let in at once, beside the one that reads.

    They are killed as well, but a moment later: they hold the lock by then.
    """
    run = Played(
        a_story(
            one("writer", after(50 * US), Mprotect("data", 0, PAGE, READ_ONLY)),
            one("reader", after(100 * US), touch(1, kernel_mode=True)),
            one("another", after(150 * US), touch(2, kernel_mode=True)),
            one("unmapper", Munmap("data", 8 * PAGE, PAGE)),
            elsewhere=[KILLER],
            data=CACHED,
            fault_around=False,
            costs_ns={"munmap_zap": FREE_NS},
        )
    )

    assert run.operation_of("writer")["hold_ns"] == 0
    for name in ("reader", "another"):
        fault = run.fault_of(name)
        assert (result(fault), fault["mmap_reads"]) == ({VmFault.LOCKED}, 1)
        assert fault["start_ns"] + fault["wait_mmap_lock_ns"] == pytest.approx(KILL_NS, rel=0.05)
        assert end_ns(fault) < KILL_NS + SOON_NS
    assert end_ns(run.operation_of("unmapper")) > FREE_NS
    assert run.ended


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("policy", ["mainline", "never_drop"])
def test_the_line_of_a_folio_closes_behind_who_is_killed(policy: str, place: int) -> None:
    """Whoever waits before and behind it, or lines up later, has the folio in the end."""
    begin_ns = [20 * US, 40 * US, 60 * US]
    others = [one(f"other-{ns}", after(ns), touch(1)) for ns in (*begin_ns, KILL_NS + 100 * US)]
    victim = one("victim", after(begin_ns[place]), touch(1))
    del others[place]
    run = Played(
        a_story(
            victim,
            elsewhere=[one("mapper", touch(1)), *others, KILLER],
            data=CACHED,
            fault_around=False,
            policy=policy,
            costs_ns={"map_page": MS},
        )
    )

    assert run.ended
    assert end_ns(run.fault_of("victim")) < KILL_NS + SOON_NS
    assert [result(run.fault_of(other.name)) for other in others] == [{VmFault.LOCKED}] * 3


def a_process_in_the_middle_of_everything(policy: str, kill_ns: int) -> Scenario:
    """Kill readers, writers, and threads that change VMAs and files, beside a process that stays.

    The pages that matter are the same in both processes.
    """
    rounds = (touch(1), write(2), touch(9, kernel_mode=True), write(3), touch(40))
    return a_story(
        ThreadGroup("readers", 4, rounds),
        ThreadGroup("dirtiers", 4, rounds[::-1]),
        one("protector", *[Mprotect("data", 0, 16 * PAGE, READ_ONLY[:n]) for n in (1, 0, 1)]),
        one("unmapper", after(300 * US), Munmap("data", 48 * PAGE)),
        one("adviser", after(100 * US), FadviseDontneed("data"), SyncFileRange("data", wait=True)),
        one("truncater", after(200 * US), Ftruncate("data", 50 * PAGE)),
        elsewhere=[
            one("stays", after(20 * US), *rounds, after(8 * MS), *rounds),
            one("killer", after(kill_ns), kill()),
        ],
        data=[pages(PageState.DIRTY, 2), pages(PageState.CACHED, 40), pages(PageState.DIRTY, 60)],
        bad=[page_range(9)],
        policy=policy,
        disk=Device("disk", Fixed(400 * US), channels=2, stable_writes=True),
        dirty_bytes=4 * PAGE,
        costs_ns={"map_page": 30 * US, "page_mkwrite": 60 * US, "mprotect": 80 * US},
    )


@pytest.mark.parametrize("kill_ns", [150 * US, 333 * US, 480 * US, 900 * US])
@pytest.mark.parametrize(
    "policy", ["mainline", "rfc", "v2", "rfc_uptodate", "hold", "never_drop", "relock"]
)
def test_after_a_kill_all_locks_are_free_and_others_go_on(policy: str, kill_ns: int) -> None:
    """That every lock is free is asserted at the end of each run whose threads have all ended."""
    run = Played(a_process_in_the_middle_of_everything(policy, kill_ns))

    assert run.ended
    assert run["touches.count"] >= 10
    assert all(row["finished"] for row in run.faults + run.operations)


def test_who_is_killed_while_it_waits_for_mmap_lock_with_a_folio_unlocks_it() -> None:
    """The policy relock_blocking waits for mmap_lock with the folio locked, killably as M0 does."""
    run = Played(
        a_story(
            one("victim", touch(1)),
            one("protector", after(900 * US), Mprotect("data", protection=READ_ONLY)),
            elsewhere=[one("killer", after(1200 * US), kill(), touch(1))],
            policy="relock_blocking",
            costs_ns={"mprotect": FREE_NS},
        )
    )

    assert end_ns(run.fault_of("victim")) < 1200 * US + SOON_NS
    assert run.ended
