"""Faults on pages that are in swap: who reads them, who waits with which lock, and what is left.

The page of most stories is page 1 of the VMA `heap`, and alone in swap. A read of the swap
device takes READ_NS.
"""

import pytest

from faultlane_server.codes import (
    DeviceKind,
    DropForIo,
    FaultKind,
    FaultLock,
    FileKind,
    Madvice,
    PageState,
    RetryReason,
    VmFault,
)
from faultlane_server.engine.world import PTE_PRESENT, PTE_SWAP, PTE_WRITE, SWAPPED
from faultlane_server.policy import POLICIES, RetryPolicy, RetryRule
from faultlane_server.scenario import (
    Fixed,
    Fork,
    Madvise,
    Mprotect,
    Scenario,
    Step,
    ThreadGroup,
)
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    MS,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Memory,
    Played,
    a_story,
    after,
    end_ns,
    heap,
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

JIFFY_NS = 4 * MS  # at 250 Hz
DISK = Memory(swap=DeviceKind.BLOCK)
ZRAM = Memory(swap=DeviceKind.SYNCHRONOUS)
ZSWAP = DISK._replace(zswap_pages=1024)
ON_DISK = (page_range(1),)
S4_COVERED = [
    name for name, row in POLICIES.items() if RetryReason.S4 in row.columns.swap.vma_lock_on
]
HOLDS = ["hold", "never_drop"]


def a_swap_story(*cast: ThreadGroup, memory=DISK, swapped=ON_DISK, vmas=(), **more) -> Scenario:
    return a_story(*cast, vmas=[heap(swapped=swapped), *vmas], memory=memory, **more)


def played(*cast: ThreadGroup, traced: str = "", **more) -> Played:
    run = Played(a_swap_story(*cast, **more), traced)
    assert run.ended
    assert_recounted(run.world)
    return run


def get(*page_numbers: int) -> Step:
    return touch(*page_numbers, vma="heap")


def put(*page_numbers: int) -> Step:
    return write(*page_numbers, vma="heap")


def pte(run: Played, page: int) -> int:
    vmas = run.world.vmas[: int(run.world.vma_slots)]
    (first,) = {int(vma.pte) for vma in vmas if vma.open == vmas[0].open}
    return int(run.world.ptes[first + page])


def forget(page: int) -> Madvise:
    return Madvise("heap", Madvice.DONTNEED, page * PAGE, PAGE)


# S2 to S4: the read, and the wait for it.


def test_a_page_that_is_read_from_a_disk_is_waited_for_without_a_lock() -> None:
    run = played(
        one("reader", get(1)),
        one("protector", after(MS // 2), Mprotect("heap", protection=READ_WRITE[:1])),
    )

    assert run.operation_of("protector")["wait_vma_ns"] == 0
    fault = run.fault_of("reader")
    assert (FaultKind(fault["kind"]), fault["major"]) == (FaultKind.SWAP, 1)
    assert reasons(fault) == {RetryReason.S4}


@pytest.mark.parametrize("policy", HOLDS)
def test_a_policy_that_holds_its_lock_lets_a_writer_wait_for_the_read(policy: str) -> None:
    run = played(
        one("reader", get(1)),
        one("protector", after(MS // 2), Mprotect("heap", protection=READ_WRITE[:1])),
        policy=policy,
    )

    assert run.operation_of("protector")["wait_vma_ns"] > 0.4 * MS
    assert reasons(run.fault_of("reader")) == set()


@pytest.mark.parametrize("policy", POLICIES)
def test_what_each_policy_makes_of_the_retry_after_the_wait(policy: str) -> None:
    run = played(one("reader", get(1)), policy=policy, traced="reader")

    if policy == "mmap_lock_only":
        expected = ["M→MAJOR+RETRY", "M(TRIED)→0"]
    elif policy in HOLDS:
        expected = ["V→MAJOR"]
    elif policy in S4_COVERED:
        expected = ["V→MAJOR+RETRY+VMA", "V(TRIED)→0"]
    else:
        expected = ["V→MAJOR+RETRY", "M(TRIED)→0"]
    assert run.attempts() == expected
    assert "rfc_file" not in S4_COVERED
    assert "split_by_kind" in S4_COVERED


def test_a_rule_for_swap_says_nothing_of_files() -> None:
    policy = RetryPolicy(swap=RetryRule(drop_for_io=DropForIo.NEVER))
    swap = played(one("reader", get(1)), policy=policy, traced="reader")
    file = Played(a_story(one("reader", touch(1)), policy=policy), "reader")

    assert swap.attempts() == ["V→MAJOR"]
    assert file.attempts() == ["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"]


def the_page_that_another_one_reads(policy: str, crowd: int = 1) -> Played:
    """Let `first` fault twice in order, so that page 3 is read ahead; then others want that one."""
    return played(
        one("first", get(1, 2)),
        ThreadGroup("others", crowd, (after(3 * READ_NS // 2), get(3))),
        swapped=(page_range(1, 4),),
        policy=policy,
        traced="others",
    )


@pytest.mark.parametrize("policy", S4_COVERED)
def test_a_hit_in_the_swap_cache_is_not_major_and_has_no_tried(policy: str) -> None:
    """U3: nothing bounds these retries but that the folio gets unlocked."""
    run = the_page_that_another_one_reads(policy)

    assert run.attempts() == ["V→RETRY+VMA", "V→0"]
    fault = run.fault_of("others")
    assert (fault["major"], fault["reads"], fault["mmap_reads"]) == (0, 0, 0)
    assert run["vmstat.swap_ra_hit"] == 1


def test_all_who_wait_for_a_page_are_woken_at_once_and_own_nothing() -> None:
    """None of them is exclusive: each maps, or finds mapped, what the read has brought."""
    run = the_page_that_another_one_reads("rfc", crowd=6)

    waiters = [row for row in run.faults if row["thread"] > 0]
    assert len(waiters) == 6
    assert all(result(row) == set() for row in waiters)
    assert max(map(end_ns, waiters)) - min(map(end_ns, waiters)) < READ_NS / 20
    assert run["vmstat.pswpin"] == 3


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_a_fatal_signal_ends_the_wait_for_a_page_from_swap(policy: str) -> None:
    run = played(
        one("reader", get(1)),
        elsewhere=[one("killer", after(MS // 2), kill())],
        policy=policy,
    )

    fault = run.fault_of("reader")
    assert VmFault.RETRY in result(fault)
    assert fault["duration_ns"] < 0.6 * MS
    assert run["touches.count"] == 0
    assert pte(run, 1) & PTE_SWAP


# S5, S6: the entry has changed meanwhile.


def test_an_attempt_that_finds_its_page_gone_ends_and_the_access_is_made_again() -> None:
    run = played(one("reader", get(1)), one("forgetter", after(MS // 2), forget(1)), policy="hold")

    fault, again = run.faults_of("reader")
    assert (result(fault), fault["major"], fault["attempts"]) == ({VmFault.MAJOR}, 1, 1)
    assert (FaultKind(again["kind"]), again["major"]) == (FaultKind.ANON, 0)
    assert run["touches.count"] == 1


def test_a_retry_that_finds_its_page_gone_is_about_a_new_page() -> None:
    run = played(one("reader", get(1)), one("forgetter", after(MS // 2), forget(1)))

    fault = run.fault_of("reader")
    assert (FaultKind(fault["kind"]), fault["major"]) == (FaultKind.ANON, 1)
    assert fault["attempts"] == 2


@pytest.mark.parametrize("memory", [DISK, ZRAM], ids=["disk", "zram"])
@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_a_page_that_went_away_is_none_whatever_the_device_and_the_policy(
    memory: Memory, policy: str
) -> None:
    run = played(
        one("reader", put(1)),
        one("forgetter", after(MS // 2), forget(1)),
        memory=memory,
        policy=policy,
    )

    assert run["touches.count"] == 1
    assert run.world.swap_used == 0
    assert pte(run, 1) & PTE_WRITE
    assert not int(run.world.folios[run.world.config.anon_first + 1].state) & SWAPPED


def test_a_thread_that_loses_the_race_for_a_page_that_was_read_finds_it_mapped() -> None:
    run = played(ThreadGroup("pair", 2, (get(1),)), policy="hold")

    assert sorted(row["reads"] for row in run.faults) == [0, 1]
    assert all(VmFault.RETRY not in result(row) for row in run.faults)
    assert run["vmstat.pswpin"] == 1
    assert pte(run, 1) & PTE_PRESENT


@pytest.mark.parametrize("policy", POLICIES)
def test_a_page_that_the_swap_device_cannot_read_ends_in_sigbus(policy: str) -> None:
    """The folio is not up to date, which S6 looks at last."""
    memory = DISK._replace(swap_error_ppm=1_000_000)
    run = played(one("reader", get(1)), memory=memory, policy=policy)

    fault = run.fault_of("reader")
    assert result(fault) == {VmFault.SIGBUS}
    assert (run["faults.sigbus"], run["perf.major_faults"]) == (1, 0)
    assert run["device.read_errors"] == 1


# Devices that are read inside the call.


@pytest.mark.parametrize("policy", POLICIES)
def test_a_read_of_zram_is_never_retried(policy: str) -> None:
    run = played(
        one("reader", put(1), get(2, 3)),
        swapped=(page_range(0, 9),),
        memory=ZRAM,
        policy=policy,
    )

    assert [(row["attempts"], reasons(row)) for row in run.faults] == [(1, set())] * 3
    assert run["vmstat.swap_ra"] == 0, "and nothing is read ahead"


def test_zram_is_read_with_the_vma_lock_held() -> None:
    run = played(
        one("reader", get(1)),
        one("protector", after(MS // 2), Mprotect("heap", protection=READ_WRITE[:1])),
        memory=ZRAM,
    )

    assert run.operation_of("protector")["wait_vma_ns"] > 0.4 * MS
    fault = run.fault_of("reader")
    assert (fault["lock"], fault["wait_device_ns"]) == (FaultLock.VMA, 0)
    assert fault["cpu_ns"] > READ_NS


def test_a_page_of_zram_gives_its_slot_up_with_the_fault_that_maps_it() -> None:
    run = played(one("reader", get(1)), memory=ZRAM, swapped=(page_range(0, 4),))

    assert run.world.swap_used == 3


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_a_page_of_zswap_is_decompressed_and_no_device_is_asked(policy: str) -> None:
    """The heap is larger than the memcg allows, and all that is reclaimed fits zswap."""
    run = Played(
        a_story(
            one("writer", put(*range(128)), put(*range(128))),
            vmas=[heap(128)],
            memory=ZSWAP._replace(most=80),
            policy=policy,
        )
    )

    assert run["vmstat.pswpout"] > 40
    assert run["vmstat.pswpin"] > 40
    assert run["device.reads"] == run["device.writes"] == 0
    assert all(reasons(row) == set() for row in run.faults if row["major"])
    assert_recounted(run.world)


def test_what_zswap_has_no_room_for_goes_to_the_device() -> None:
    run = Played(
        a_story(
            one("writer", put(*range(128)), put(*range(128))),
            vmas=[heap(128)],
            memory=ZSWAP._replace(most=80, zswap_pages=10),
        )
    )

    assert run["device.writes"] > 0
    assert run.world.zswap_used <= 10


# The collision of two who read one page from zram.


def a_collision(second_ns: int, swap_ns: int, *others: ThreadGroup) -> Played:
    return played(
        one("winner", put(1)),
        one("loser", after(second_ns), put(1)),
        *others,
        memory=ZRAM._replace(swap_ns=swap_ns),
        swapped=(page_range(1, 4),),
        traced="loser",
    )


def test_the_loser_of_a_collision_sleeps_with_its_lock_until_the_winner_is_done() -> None:
    run = a_collision(MS // 2, MS)

    fault = run.fault_of("loser")
    assert run.attempts() == ["V→0"]
    assert (fault["major"], fault["reads"]) == (0, 0)
    assert fault["wait_swap_cache_ns"] == pytest.approx(MS // 2, rel=0.05)
    assert run["swap.collisions"] == 1
    assert run["touches.count"] == 2


def test_the_loser_waits_two_jiffies_at_most_and_tries_again() -> None:
    run = a_collision(MS // 2, 30 * MS)

    losses = run.faults_of("loser")
    waits_ns = [row["wait_swap_cache_ns"] for row in losses]
    assert len(losses) > 3
    assert all(wait_ns <= 2 * JIFFY_NS + 50 * US for wait_ns in waits_ns)
    assert all(wait_ns >= JIFFY_NS - 50 * US for wait_ns in waits_ns[:-1])
    assert all(row["major"] == 0 for row in losses)
    assert run["vmstat.pswpin"] == 1


def test_the_loser_is_woken_by_whoever_finishes_a_read_of_any_page() -> None:
    """There is one queue for all: the page that it wants is still being read."""
    run = played(
        one("stranger", get(2)),
        one("winner", after(MS), put(1)),
        one("loser", after(3 * MS // 2), put(1)),
        memory=ZRAM._replace(swap_ns=3 * MS),
        swapped=(page_range(1, 4),),
    )

    waits_ns = [row["wait_swap_cache_ns"] for row in run.faults_of("loser")]
    assert waits_ns == pytest.approx([3 * MS // 2, MS], rel=0.05)


def test_the_loser_frees_the_page_that_it_was_charged_for() -> None:
    run = played(
        one("winner", put(1)),
        one("loser", after(MS // 2), put(1)),
        memory=ZRAM._replace(most=64),
    )

    world = run.world
    stocks = int(world.cpus["stock"][: int(world.config.cpus)].sum())
    assert world.memcgs[1].usage - stocks == 1


# Readahead of swap.


def windows(*page_numbers: int, cluster: int = 3) -> list[int]:
    """Return how many pages each fault has read."""
    run = played(
        one("reader", get(*page_numbers)),
        swapped=(page_range(0, 64),),
        memory=DISK._replace(page_cluster=cluster),
    )
    return [row["reads"] for row in run.faults if row["major"]]


def test_readahead_of_swap_is_off_when_page_cluster_is_0() -> None:
    assert windows(1, 2, 3, 4, cluster=0) == [1, 1, 1, 1]


def test_a_fault_that_has_no_neighbour_reads_its_page_alone() -> None:
    assert windows(10, 30, 50, 20) == [1, 1, 1, 1]


def test_the_window_of_swap_readahead_grows_with_its_hits() -> None:
    """1; 2 for a neighbour; 4 after a hit; then 8, which is all that page_cluster 3 allows."""
    sizes = windows(*range(40))

    assert sizes[:4] == [1, 2, 4, 8]
    assert max(sizes) == 8


def test_a_smaller_page_cluster_makes_smaller_windows() -> None:
    assert max(windows(*range(40), cluster=1)) == 2


def test_who_walks_backwards_reads_what_lies_before() -> None:
    assert windows(40, 39, 38, 37) == [1, 2, 4]


def test_a_window_that_was_large_shrinks_by_half_without_hits() -> None:
    assert windows(*range(23), 45, 30, 55, 35)[-4:] == [8, 4, 2, 1]


# Slots.


def slots_left(*steps: Step, swap_pages: int = 64) -> int:
    run = played(
        one("app", *steps),
        swapped=(page_range(0, 8),),
        memory=DISK._replace(swap_pages=swap_pages, page_cluster=0),
    )
    return int(run.world.swap_used)


def test_a_page_that_was_read_keeps_its_slot() -> None:
    assert slots_left(get(1)) == 8


def test_a_page_that_is_written_gives_its_slot_up() -> None:
    assert slots_left(put(1)) == 7


def test_pages_give_their_slots_up_while_swap_is_more_than_half_full() -> None:
    assert slots_left(get(1, 3, 5, 7), swap_pages=10) == 5
    assert slots_left(get(1, 3, 5, 7), swap_pages=16) == 8


def test_an_unmapped_page_gives_its_slot_up() -> None:
    assert slots_left(forget(1)) == 7
    assert slots_left(get(1), forget(1)) == 7


@pytest.mark.parametrize("memory", [DISK, ZRAM], ids=["disk", "zram"])
def test_a_write_to_a_page_in_swap_that_a_child_has_as_well_copies_it(memory: Memory) -> None:
    run = played(
        one("app", Fork(Fixed(10**9)), put(1), get(1)),
        memory=memory._replace(most=64),
    )

    fault = run.fault_of("app")
    assert FaultKind(fault["kind"]) in (FaultKind.SWAP, FaultKind.WP)
    assert pte(run, 1) & PTE_WRITE
    assert int(run.world.folios[run.world.config.anon_first + 1].state) & SWAPPED == 0


# tmpfs.


def a_page_of_tmpfs(policy: str = "mainline", memory: Memory = DISK, *more: ThreadGroup) -> Played:
    story = a_story(
        one("reader", touch(1)),
        *more,
        kind=FileKind.TMPFS,
        data=[pages(PageState.SWAPPED, 1)],
        memory=memory,
        policy=policy,
    )
    run = Played(story, "reader")
    assert run.ended
    assert_recounted(run.world)
    return run


@pytest.mark.parametrize("policy", POLICIES)
def test_tmpfs_is_read_from_swap_with_the_fault_lock_held_whatever_the_policy(policy: str) -> None:
    run = a_page_of_tmpfs(policy)

    lock = "M" if policy == "mmap_lock_only" else "V"
    assert run.attempts() == [f"{lock}→MAJOR+LOCKED"]
    assert run.fault_of("reader")["major"] == 1
    assert run["vmstat.pgmajfault"] == 1


def test_a_writer_waits_for_a_page_of_tmpfs_that_is_read_from_swap() -> None:
    protector = one("protector", after(MS // 2), Mprotect("data", protection=READ_WRITE[:1]))
    run = a_page_of_tmpfs("mainline", DISK, protector)

    assert run.operation_of("protector")["wait_vma_ns"] > 0.4 * MS


def test_a_page_of_tmpfs_gives_its_slot_up_when_it_is_read() -> None:
    assert a_page_of_tmpfs().world.swap_used == 0
    assert a_page_of_tmpfs(memory=ZRAM).world.swap_used == 0


def test_the_wait_for_a_page_of_tmpfs_cannot_be_killed() -> None:
    run = Played(
        a_story(
            one("reader", touch(1)),
            elsewhere=[one("killer", after(MS // 2), kill())],
            kind=FileKind.TMPFS,
            data=[pages(PageState.SWAPPED, 1)],
            memory=DISK,
        )
    )

    assert run.fault_of("reader")["duration_ns"] > READ_NS
