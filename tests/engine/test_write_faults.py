"""Writes: private copies, shared pages, and page_mkwrite."""

import pytest

from faultlane_server.codes import (
    Access,
    Advice,
    FaultKind,
    FaultLock,
    FileKind,
    PageState,
    Protection,
    RetryReason,
    VmFault,
)
from faultlane_server.scenario import (
    FadviseDontneed,
    FileMapping,
    Mprotect,
    Munmap,
    PunchHole,
    Scenario,
    SyncFileRange,
    Vma,
)
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
    one,
    page_range,
    pages,
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

READ_ONLY = READ_WRITE[:1]


def test_a_private_write_copies_the_page_and_leaves_the_file_clean() -> None:
    run = Played(a_story(one("writer", write(1), write(1)), data=CACHED, private=True))

    fault = run.fault_of("writer")
    assert (fault["kind"], result(fault)) == (FaultKind.FILE_COW, {VmFault.LOCKED})
    assert run["vmstat.nr_dirtied"] == run["faults.completed"] == 0
    assert run.world.folios[1].mapcount == 0


def test_a_private_page_that_was_read_first_is_copied_at_its_write() -> None:
    """The copy takes the place of the page of the file, and needs nothing of the page cache."""
    run = Played(a_story(one("writer", touch(1), write(1), touch(1)), data=CACHED, private=True))

    _, second = run.faults
    assert (second["kind"], result(second)) == (FaultKind.WP, set())
    assert second["attempts"] == 1
    assert run.world.folios[1].mapcount == 0


def test_every_attempt_of_a_private_write_makes_its_copy_anew() -> None:
    """Golden row 19: the page that was allocated before the retry was thrown away."""
    cost_ns = 100 * US
    faults = [
        Played(
            a_story(
                one("writer", write(1)),
                data=[pages(state, 0, 64)],
                private=True,
                costs_ns={"anon_page": ns},
            )
        ).fault_of("writer")
        for state in (PageState.CACHED, PageState.ABSENT)
        for ns in (0, cost_ns)
    ]

    cached, absent = faults[1], faults[3]
    assert cached["cpu_ns"] - faults[0]["cpu_ns"] == cost_ns
    assert absent["cpu_ns"] - faults[2]["cpu_ns"] == 2 * cost_ns
    assert (cached["attempts"], absent["attempts"]) == (1, 2)
    assert (cached["mmap_reads"], absent["mmap_reads"]) == (1, 2)  # the anon_vma takes one


def a_first_private_write_while(policy: str, state: PageState) -> Scenario:
    """Let a VMA without anon_vma be written to while a writer has mmap_lock for another VMA."""
    data = Vma("data", 8 * PAGE, FileMapping("data", map_private=True), protection=READ_WRITE)
    other = Vma("other", 8 * PAGE, FileMapping("data"))
    return a_story(
        one("protector", Mprotect("other", protection=READ_WRITE)),
        one("writer", after(20 * US), write(1)),
        vmas=[data, other],
        data=[pages(state, 0, 8)],
        data_pages=8,
        policy=policy,
        costs_ns={"mprotect": 300 * US},
    )


@pytest.mark.parametrize("policy", ["mainline", "rfc"])
def test_a_first_private_write_beside_a_writer_makes_its_first_read_in_the_second_attempt(
    policy: str,
) -> None:
    """Golden row 19 with the trylock failed: three attempts, under the RFC as well."""
    run = Played(a_first_private_write_while(policy, PageState.ABSENT), traced="writer")

    assert run.attempts() == ["V→RETRY", "M→MAJOR+RETRY", "M(TRIED)→LOCKED"]
    assert reasons(run.fault_of("writer")) == {RetryReason.ANON_VMA, RetryReason.F7}
    assert run.fault_of("writer")["mmap_reads"] == 2


def test_a_shared_write_makes_the_page_dirty_and_completes_without_its_lock() -> None:
    """Golden row 17."""
    run = Played(a_story(one("writer", write(1), write(1), touch(1)), data=CACHED))

    fault = run.fault_of("writer")
    assert (fault["kind"], result(fault)) == (FaultKind.FILE_SHARED, {VmFault.COMPLETED})
    assert (fault["lock"], fault["mmap_reads"], fault["major"]) == (FaultLock.VMA, 0, 0)
    assert (run["vmstat.vma_lock_success"], run["vmstat.nr_dirtied"]) == (1, 1)
    assert run.world.folios[1].mapcount == 1


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        ("mainline", ["V→MAJOR+RETRY", "M(TRIED)→0"]),
        ("rfc", ["V→MAJOR+RETRY+VMA", "V(TRIED)→0"]),
        ("hold", ["V→MAJOR"]),
        ("relock", ["V→MAJOR+COMPLETED"]),
    ],
)
def test_a_shared_write_to_an_absent_page(policy: str, attempts: list[str]) -> None:
    """Golden row 30: with TRIED nothing is let go, so the attempt does not end in COMPLETED."""
    run = Played(a_story(one("writer", write(1)), policy=policy), traced="writer")

    assert run.attempts() == attempts
    assert (run["vmstat.pgmajfault"], run.fault_of("writer")["major"]) == (1, 1)


def test_a_page_that_was_read_first_is_written_through_page_mkwrite() -> None:
    run = Played(
        a_story(
            one("writer", touch(1), write(1), write(1)),
            data=CACHED,
            costs_ns={"page_mkwrite": 200 * US},
        )
    )

    first, second = run.faults
    assert (first["kind"], second["kind"]) == (FaultKind.FILE_READ, FaultKind.WP)
    assert result(second) == {VmFault.COMPLETED}
    assert second["cpu_ns"] > 200 * US
    assert run.world.folios[1].mapcount == 1


@pytest.mark.parametrize("is_mapped", [False, True])
def test_page_mkwrite_runs_with_the_fault_lock_and_without_the_folio(is_mapped: bool) -> None:
    """So who changes the VMA waits for it, and who reads the page elsewhere does not."""
    run = Played(
        a_story(
            one("writer", write(1)),
            one("protector", after(50 * US), Mprotect("data", 32 * PAGE, PAGE, READ_ONLY)),
            elsewhere=[one("reader", after(50 * US), touch(1))],
            data=CACHED,
            mapped=[page_range(1)] if is_mapped else [],
            fault_around=False,
            costs_ns={"page_mkwrite": MS},
        )
    )

    assert run.operation_of("protector")["wait_vma_ns"] > 900 * US
    assert end_ns(run.fault_of("reader")) < 100 * US
    assert run.fault_of("reader")["attempts"] == 1


def test_a_page_that_was_unmapped_during_page_mkwrite_is_not_made_writable() -> None:
    """The entry has changed, so the write is made again."""
    run = Played(
        a_story(
            one("hole", PunchHole("data", PAGE, PAGE)),
            one("writer", after(50 * US), write(1)),
            data=CACHED,
            mapped=[page_range(2)],
            costs_ns={"punch_hole": 300 * US},
        )
    )

    first, second = run.faults_of("writer")
    assert result(first) == {VmFault.NOPAGE}
    assert first["touch"] == second["touch"]
    assert run["vmstat.nr_dirtied"] == 1


def test_of_two_writers_of_one_page_the_second_finds_it_mapped() -> None:
    """Both call page_mkwrite; the entry is set once, and the page becomes dirty once."""
    run = Played(
        a_story(
            one("first", write(1)),
            one("second", after(10 * US), write(1)),
            data=CACHED,
            costs_ns={"page_mkwrite": 100 * US},
        )
    )

    assert result(run.fault_of("first")) == {VmFault.COMPLETED}
    assert result(run.fault_of("second")) == {VmFault.NOPAGE}
    assert run["vmstat.nr_dirtied"] == 1
    assert run.world.folios[1].mapcount == 1


def test_a_page_is_mapped_as_often_as_there_are_processes_that_touched_it() -> None:
    writes = (write(1), touch(2))
    run = Played(
        a_story(
            one("one", *writes),
            one("two", *writes),
            elsewhere=[one("three", *writes), one("four", touch(1))],
            data=CACHED,
            fault_around=False,
        )
    )

    assert run.world.folios["mapcount"][:4].tolist() == [0, 3, 2, 0]


def test_a_shared_page_of_tmpfs_is_writable_as_soon_as_it_is_mapped() -> None:
    """There is no page_mkwrite, so a read fault maps it for writing, and the rest around it."""
    run = Played(a_story(one("writer", touch(1), write(1, 2)), data=CACHED, kind=FileKind.TMPFS))

    assert [row["kind"] for row in run.faults] == [FaultKind.FILE_READ]


def test_the_first_write_to_a_new_page_of_tmpfs_completes_and_reads_nothing() -> None:
    run = Played(a_story(one("writer", write(1)), kind=FileKind.TMPFS), traced="writer")

    assert run.attempts() == ["V→COMPLETED"]
    assert (run["vmstat.pgmajfault"], run["perf.minor_faults"], run["device.reads"]) == (0, 1, 0)


@pytest.mark.parametrize("policy", ["mainline", "rfc", "blind", "never_drop"])
def test_a_locked_page_of_tmpfs_is_waited_for_with_the_fault_lock_held(policy: str) -> None:
    """So there is nothing to retry under any policy."""
    run = Played(
        a_story(
            one("waiter", after(20 * US), touch(1)),
            one("protector", after(50 * US), Mprotect("data", 32 * PAGE, PAGE, READ_ONLY)),
            elsewhere=[one("mapper", touch(1))],
            data=CACHED,
            kind=FileKind.TMPFS,
            fault_around=False,
            policy=policy,
            costs_ns={"map_page": 500 * US},
        )
    )

    fault = run.fault_of("waiter")
    assert (fault["attempts"], result(fault)) == (1, {VmFault.LOCKED})
    assert fault["wait_folio_ns"] > 400 * US
    assert run.operation_of("protector")["wait_vma_ns"] > 400 * US


def test_a_write_to_what_may_not_be_written_is_refused_whatever_is_mapped() -> None:
    data = Vma("data", 8 * PAGE, FileMapping("data"), protection=READ_ONLY, mapped=(page_range(1),))
    run = Played(a_story(one("writer", write(1, 2)), vmas=[data], data=CACHED, data_pages=8))

    assert [result(row) for row in run.faults] == [{VmFault.SIGSEGV}] * 2
    assert run["vmstat.nr_dirtied"] == 0


def test_a_page_that_was_written_stays_writable_through_a_change_of_protection() -> None:
    """A dirty shared page needs no page_mkwrite again; a clean one does."""
    run = Played(
        a_story(
            one(
                "writer",
                write(1),
                touch(2),
                Mprotect("data", protection=READ_ONLY),
                Mprotect("data", protection=READ_WRITE),
                write(1, 2),
            ),
            data=CACHED,
        )
    )

    late = run.faults_of("writer")[2:]
    assert [row["kind"] for row in late] == [FaultKind.WP]


def test_a_hole_that_is_written_has_a_block_from_then_on() -> None:
    """Written back and dropped, it has to be read."""
    other = FileMapping("data")
    vmas = [
        Vma("data", 8 * PAGE, other, protection=READ_WRITE),
        Vma("again", 8 * PAGE, other, advice=Advice.RANDOM),
    ]
    run = Played(
        a_story(
            one(
                "writer",
                write(1),
                SyncFileRange("data", wait=True),
                Munmap("data"),
                FadviseDontneed("data"),
                touch(1, 2, vma="again"),
            ),
            vmas=vmas,
            data=[pages(PageState.HOLE, 0, 8)],
            data_pages=8,
        )
    )

    _, *late = run.faults
    assert [row["reads"] for row in late] == [1, 0]
    assert late[0]["duration_ns"] > READ_NS > late[1]["duration_ns"]


def test_a_copy_into_memory_that_may_not_be_written_ends_the_copy() -> None:
    """In kernel mode a refused access is no signal, and the program goes on."""
    data = Vma("data", 8 * PAGE, FileMapping("data"), protection=(Protection.READ,))
    story = a_story(
        one(
            "writer", touch(1), after(US), touch(2, access=Access.WRITE, kernel_mode=True), touch(3)
        ),
        vmas=[data],
        data=CACHED,
        data_pages=8,
        fault_around=False,
    )

    run = Played(story)

    assert [result(row) for row in run.faults] == [
        {VmFault.LOCKED},
        {VmFault.SIGSEGV},
        {VmFault.LOCKED},
    ]
    assert [row["lock"] for row in run.faults] == [FaultLock.VMA, FaultLock.MMAP, FaultLock.VMA]
    assert run["vmstat.pgfault"] == 2
    assert run.ended
