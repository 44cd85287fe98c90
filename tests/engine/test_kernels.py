"""What kernel generations differ in, and policies that are given by their columns."""

from dataclasses import replace

import pytest

from faultlane_server.codes import (
    Advice,
    FaultKind,
    FaultLock,
    FileKind,
    Protection,
    RetryReason,
    VmFault,
)
from faultlane_server.policy import POLICIES
from faultlane_server.scenario import FileMapping, Mprotect, Scenario, Vma
from tests.a_scenario import a_scenario
from tests.engine.small_stories import (
    CACHED,
    MS,
    PAGE,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    one,
    page_range,
    reasons,
    result,
    touch,
    write,
)
from tests.engine.some_runs import run

pytestmark = pytest.mark.uncompiled_too

VMA_COUNTERS = ["vmstat.vma_lock_success", "vmstat.vma_lock_abort", "vmstat.vma_lock_retry"]
READ_ONLY = (Protection.READ,)


def vma_counters(played: Played) -> list[int]:
    """Return S, A and R."""
    return [played[name] for name in VMA_COUNTERS]


def test_before_6_4_there_is_no_vma_lock_and_pgfault_counts_attempts() -> None:
    """What perf counts are faults, as ever."""
    played = Played(a_story(one("reader", touch(1)), generation="6.3"), traced="reader")

    assert played.attempts() == ["M→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert vma_counters(played) == [0, 0, 0]
    assert (played["vmstat.pgfault"], played["perf.page_faults"]) == (2, 1)
    assert (played["perf.major_faults"], played["vma_lock.read.acquired"]) == (1, 0)


def test_from_6_4_on_pgfault_counts_faults() -> None:
    for generation in ("6.4", "6.6", "6.7", "6.12", "6.15", "6.18"):
        assert Played(a_story(one("r", touch(1)), generation=generation))["vmstat.pgfault"] == 1


@pytest.mark.parametrize("advice", [Advice.NORMAL, Advice.RANDOM])
def test_in_6_4_faults_on_files_abort(advice: Advice) -> None:
    story = a_story(one("reader", touch(1)), generation="6.4", advice=advice)

    played = Played(story, traced="reader")

    assert played.attempts() == ["M→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert vma_counters(played) == [0, 1, 0]
    assert played.fault_of("reader")["mmap_reads"] == 2


def test_in_6_6_what_is_ready_is_mapped_under_the_vma_lock() -> None:
    played = Played(a_story(one("reader", touch(1)), data=CACHED, generation="6.6"))

    assert vma_counters(played) == [1, 0, 0]
    assert result(played.fault_of("reader")) == {VmFault.NOPAGE}
    assert played.fault_of("reader")["mmap_reads"] == 0


@pytest.mark.parametrize("policy", ["mainline", "rfc", "retry_hard"])
def test_in_6_6_what_is_not_ready_is_tried_again_under_mmap_lock(policy: str) -> None:
    """The first attempt does nothing, so the second one is the first to look, and not TRIED."""
    story = a_story(one("reader", touch(1)), generation="6.6", policy=policy)

    played = Played(story, traced="reader")

    assert played.attempts() == ["V→RETRY", "M→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert vma_counters(played) == [0, 0, 1]
    assert RetryReason.UNSUPPORTED in reasons(played.fault_of("reader"))
    assert played["vmstat.pgmajfault"] == 1


@pytest.mark.parametrize("private", [False, True])
def test_in_6_6_writes_to_files_are_handled_under_mmap_lock(private: bool) -> None:
    story = a_story(one("writer", write(1)), data=CACHED, generation="6.6", private=private)

    played = Played(story, traced="writer")

    assert [attempt[0] for attempt in played.attempts()] == ["V", "M"]
    assert reasons(played.fault_of("writer")) == {RetryReason.UNSUPPORTED}


def test_in_6_6_page_mkwrite_of_a_mapped_page_is_called_under_mmap_lock() -> None:
    story = a_story(one("writer", write(1)), data=CACHED, mapped=[page_range(1)], generation="6.6")

    played = Played(story, traced="writer")

    fault = played.fault_of("writer")
    assert played.attempts() == ["V→RETRY", "M→COMPLETED"]
    assert (fault["kind"], reasons(fault)) == (FaultKind.WP, {RetryReason.UNSUPPORTED})


def a_first_private_write(generation: str) -> Scenario:
    return a_story(one("writer", write(1)), data=CACHED, generation=generation, private=True)


@pytest.mark.parametrize("generation", ["6.12", "6.15", "6.18"])
def test_the_first_private_write_tries_mmap_lock_under_the_vma_lock(generation: str) -> None:
    played = Played(a_first_private_write(generation), traced="writer")

    assert played.attempts() == ["V→LOCKED"]
    assert played.fault_of("writer")["mmap_reads"] == 1
    assert vma_counters(played) == [1, 0, 0]


def test_in_6_7_the_first_private_write_is_made_under_mmap_lock() -> None:
    played = Played(a_first_private_write("6.7"), traced="writer")

    assert played.attempts() == ["V→RETRY", "M→LOCKED"]
    assert reasons(played.fault_of("writer")) == {RetryReason.ANON_VMA}
    assert vma_counters(played) == [0, 0, 1]


@pytest.mark.parametrize("generation", ["6.7", "6.12"])
def test_the_second_private_write_needs_no_mmap_lock(generation: str) -> None:
    story = a_story(
        one("writer", write(1), write(2)), data=CACHED, generation=generation, private=True
    )

    played = Played(story)

    assert played.faults[1]["mmap_reads"] == 0
    assert played.faults[1]["attempts"] == 1


def a_refused_write(generation: str, arch: str = "x86") -> Scenario:
    """Let a page be written that may only be read."""
    data = Vma("data", 8 * PAGE, FileMapping("data"), protection=READ_ONLY)
    return a_story(
        one("writer", write(1)),
        vmas=[data],
        data=CACHED,
        data_pages=8,
        generation=generation,
        arch=arch,
    )


@pytest.mark.parametrize(
    ("generation", "lock", "counters", "mmap_reads"),
    [
        ("6.3", FaultLock.MMAP, [0, 0, 0], 1),
        ("6.4", FaultLock.MMAP, [0, 1, 0], 1),
        ("6.6", FaultLock.MMAP, [0, 0, 0], 1),
        ("6.7", FaultLock.MMAP, [0, 0, 0], 1),
        ("6.12", FaultLock.VMA, [1, 0, 0], 0),
        ("6.15", FaultLock.VMA, [1, 0, 0], 0),
        ("6.18", FaultLock.VMA, [1, 0, 0], 0),
    ],
)
def test_a_refused_access_is_decided_by_the_lock_of_its_kernel(
    generation: str, lock: FaultLock, counters: list[int], mmap_reads: int
) -> None:
    """Kernels before 6.10 leave it to mmap_lock, and count no vma_lock event for it."""
    played = Played(a_refused_write(generation))

    fault = played.fault_of("writer")
    assert result(fault) == {VmFault.SIGSEGV}
    assert (fault["kind"], fault["lock"]) == (FaultKind.BAD_AREA, lock)
    assert vma_counters(played) == counters
    assert (fault["mmap_reads"], fault["attempts"]) == (mmap_reads, 0)
    assert (played["vmstat.pgfault"], played["perf.page_faults"]) == (0, 1)
    assert played["touches.count"] == 1


def test_in_6_7_a_refused_access_waits_for_who_writes() -> None:
    """A writer that has another VMA locked makes it wait; in 6.12 it does not."""
    vmas = [
        Vma("data", 8 * PAGE, FileMapping("data"), protection=READ_ONLY),
        Vma("other", 8 * PAGE, FileMapping("data"), protection=READ_ONLY),
    ]
    waits_ns = [
        Played(
            a_story(
                one("protector", Mprotect("other", protection=READ_WRITE)),
                one("writer", after(20 * US), write(1)),
                vmas=vmas,
                data=CACHED,
                data_pages=8,
                generation=generation,
                costs_ns={"mprotect": MS},
            )
        ).fault_of("writer")["wait_mmap_lock_ns"]
        for generation in ("6.7", "6.12")
    ]

    assert waits_ns[0] > 900 * US
    assert waits_ns[1] == 0


def test_in_6_7_a_major_retry_sets_tried_and_in_6_6_nothing_does_under_the_vma_lock() -> None:
    played = {
        generation: Played(a_story(one("r", touch(1)), generation=generation), traced="r")
        for generation in ("6.6", "6.7")
    }

    assert played["6.7"].attempts() == ["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert len(played["6.6"].attempts()) == 3


@pytest.mark.parametrize("generation", ["6.4", "6.6", "6.7", "6.12", "6.18"])
def test_a_mapping_without_map_pages_ends_under_mmap_lock_in_every_kernel(generation: str) -> None:
    story = a_story(one("reader", touch(1)), kind=FileKind.SPECIAL, generation=generation)

    played = Played(story, traced="reader")

    under_vma = [] if generation == "6.4" else ["V→RETRY"]
    assert played.attempts() == [*under_vma, "M→LOCKED"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_policy_by_its_columns_is_the_policy_by_its_id(policy: str) -> None:
    """The same events in the same order, and the same rows."""
    by_id = a_scenario(policy=policy, reads=12, mappers=1, protectors=1, file_pages=256, seed=11)
    by_columns = replace(by_id, kernel=replace(by_id.kernel, policy=POLICIES[policy].columns))

    one_run, other_run = run(by_id), run(by_columns)
    assert one_run.summary.fingerprint == other_run.summary.fingerprint
    assert one_run.digest() == other_run.digest()
