"""Small stories in every order in which they can happen, by every policy.

Each of two or three threads does one thing to one or two pages. No order ends in a deadlock, and
none goes on for ever, but where the kernel's rules say so: there the story is told, step by step.
"""

from collections.abc import Callable
from math import comb, factorial
from random import Random
from typing import Any

import pytest

from faultlane_server.codes import NOBODY, Advice, DeviceKind, FileKind, PageState
from faultlane_server.engine.run import Stop
from faultlane_server.machines import COSTS
from faultlane_server.policy import POLICIES
from faultlane_server.scenario import (
    Barrier,
    Compute,
    Device,
    FadviseDontneed,
    FileMapping,
    Fixed,
    Fork,
    Ftruncate,
    Mprotect,
    Munmap,
    PunchHole,
    Scenario,
    ThreadGroup,
    Vma,
)
from tests.engine.every_order import Broken, EveryOrder, Told
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
    PAGE,
    READ_WRITE,
    Memory,
    Played,
    a_story,
    heap,
    kill,
    one,
    page_range,
    pages,
    touch,
    write,
)
from tests.engine.stepwise import Player

READ_ONLY = READ_WRITE[:1]
NOTHING_COSTS = dict.fromkeys(COSTS, 0)
AT_ONCE = Device("disk", Fixed(0), channels=64, write_latency=Fixed(0))
SWAPPED = heap(2, (page_range(0),))

Scene = Callable[..., Scenario]


def free(*cast: ThreadGroup, **more: Any) -> Scenario:
    """Make a story of two pages in which nothing costs anything."""
    return a_story(*cast, costs_ns=NOTHING_COSTS, disk=AT_ONCE, data_pages=2, **more)


def reader(name: str = "reader", vma: str = "data") -> ThreadGroup:
    return one(name, touch(0, vma=vma))


def protector(vma: str = "data") -> ThreadGroup:
    return one("protector", Mprotect(vma, protection=READ_ONLY))


def swapping(*cast: ThreadGroup, kind: DeviceKind, **more: Any) -> Scenario:
    """Make a story about a VMA `heap`, whose first page is in swap."""
    memory = Memory(swap=kind, swap_ns=0, page_cluster=0)
    return free(*cast, vmas=[SWAPPED], memory=memory, **more)


def a_first_copy_beside_a_writer_of_another_vma(**more: Any) -> Scenario:
    private = Vma("data", 2 * PAGE, FileMapping("data", map_private=True), protection=READ_WRITE)
    other = Vma("other", 2 * PAGE, FileMapping("data"), protection=READ_WRITE)
    cast = one("copier", write(0)), protector("other")
    return free(*cast, vmas=[private, other], data=CACHED, **more)


def a_page_that_cannot_be_read(*cast: ThreadGroup, **more: Any) -> Scenario:
    not_uptodate = [pages(PageState.NOT_UPTODATE, 0)]
    return free(*cast, data=not_uptodate, bad=[page_range(0)], **more)


def a_page_under_writeback_with_reclaim(*cast: ThreadGroup, **more: Any) -> Scenario:
    adviser = one("adviser", FadviseDontneed("data", 0, PAGE))
    return free(adviser, *cast, data=DIRTY, **more)


OF_TWO: dict[str, Scene] = {
    "a cached page": lambda **more: free(
        reader(), protector(), data=CACHED, fault_around=False, **more
    ),
    "an absent page": lambda **more: free(reader(), protector(), **more),
    "an absent page at random": lambda **more: free(
        reader(), protector(), advice=Advice.RANDOM, **more
    ),
    "two readers of an absent page": lambda **more: free(reader("a"), reader("b"), **more),
    "a shared write": lambda **more: free(
        one("dirtier", write(0)), protector(), data=CACHED, **more
    ),
    "a page that is unmapped": lambda **more: free(
        reader(), one("unmapper", Munmap("data")), data=CACHED, **more
    ),
    "a page that is truncated": lambda **more: free(
        reader(), one("truncater", Ftruncate("data", 0)), data=CACHED, **more
    ),
    "a page that is punched out": lambda **more: free(
        reader(), one("puncher", PunchHole("data", 0, PAGE)), data=CACHED, **more
    ),
    "a fork": lambda **more: free(reader(), one("parent", Fork(Fixed(0))), data=CACHED, **more),
    "a fatal signal": lambda **more: free(reader(), one("killer", kill()), **more),
    "a first copy": a_first_copy_beside_a_writer_of_another_vma,
    "a page of a device": lambda **more: free(reader(), protector(), kind=FileKind.SPECIAL, **more),
    "a page that cannot be read": lambda **more: a_page_that_cannot_be_read(
        reader(), protector(), **more
    ),
    "a page under writeback": lambda **more: a_page_under_writeback_with_reclaim(reader(), **more),
    "a page in swap": lambda **more: swapping(
        reader(vma="heap"), protector("heap"), kind=DeviceKind.BLOCK, **more
    ),
    "a page in zram": lambda **more: swapping(
        reader("a", "heap"), reader("b", "heap"), kind=DeviceKind.SYNCHRONOUS, **more
    ),
}

OF_THREE: dict[str, Scene] = {
    "two readers of an absent page and a writer": lambda **more: free(
        reader("a"), reader("b"), protector(), **more
    ),
    "three readers of a cached page": lambda **more: free(
        reader("a"), reader("b"), reader("c"), data=CACHED, fault_around=False, **more
    ),
    "readers in two processes": lambda **more: free(
        reader("a"),
        reader("b"),
        elsewhere=[reader("c")],
        data=CACHED,
        fault_around=False,
        **more,
    ),
    "two copies and a writer": lambda **more: free(
        one("a", write(0)), one("b", write(0)), protector(), data=CACHED, private=True, **more
    ),
    "two writes to anonymous memory and an unmapping": lambda **more: free(
        one("a", write(0, vma="heap")),
        one("b", write(1, vma="heap")),
        one("unmapper", Munmap("heap", PAGE, PAGE)),
        vmas=[heap(2)],
        **more,
    ),
    "two readers and an unmapping": lambda **more: free(
        reader("a"), reader("b"), one("unmapper", Munmap("data")), data=CACHED, **more
    ),
    "two writers and a reader in the kernel": lambda **more: free(
        one("copier", touch(0, kernel_mode=True)),
        protector(),
        one("unmapper", Munmap("data", PAGE, PAGE)),
        data=CACHED,
        **more,
    ),
    "a stack that grows": lambda **more: free(
        one("a", write(0, vma="heap")),
        one("b", write(1, vma="heap")),
        one("grower", write(0, vma="room")),
        vmas=[heap(2, grows_down_bytes=2 * PAGE, room="room")],
        **more,
    ),
    "a page under writeback and a writer": lambda **more: a_page_under_writeback_with_reclaim(
        reader(), protector(), **more
    ),
    "a hole, a reader and a writer": lambda **more: free(
        reader(), protector(), one("puncher", PunchHole("data", 0, PAGE)), data=CACHED, **more
    ),
    "a fatal signal and a writer": lambda **more: free(
        reader(), one("killer", kill()), protector(), **more
    ),
    "two readers of a page in zram and a writer": lambda **more: swapping(
        reader("a", "heap"),
        reader("b", "heap"),
        protector("heap"),
        kind=DeviceKind.SYNCHRONOUS,
        **more,
    ),
    "two readers of a page in swap and a writer": lambda **more: swapping(
        reader("a", "heap"),
        reader("b", "heap"),
        protector("heap"),
        kind=DeviceKind.BLOCK,
        **more,
    ),
    "two readers of an absent page that is truncated": lambda **more: free(
        reader("a"), reader("b"), one("truncater", Ftruncate("data", 0)), **more
    ),
    "a dirtier, a reader and a writer": lambda **more: free(
        one("dirtier", write(0)), one("waiter", touch(0)), protector(), **more
    ),
}

# Policies that retry under the VMA lock any number of times.
UNBOUNDED = {"rfc_file", "rfc", "rfc_all_reads", "rfc_uptodate", "v2", "blind", "retry_hard"}
RETRYING_READS = {"rfc_all_reads", "blind", "retry_hard"}

# Who may fault for ever though everybody else goes on: a mapping without map_pages is never
# handled under the VMA lock, and a read that fails is made again (U4).
FOR_EVER = {
    "a page of a device": {"blind"},
    "a page that cannot be read": RETRYING_READS,
}
# Who may fault for as long as somebody else is stopped: until a page is written (U2), until
# mmap_lock is free, or until the page is read that another one has claimed.
WHILE_OTHERS_STOP = {
    "a page under writeback": UNBOUNDED,
    "a page under writeback and a writer": UNBOUNDED,
    "a first copy": {"blind"},
    "a page in zram": set(POLICIES),
    "two readers of a page in zram and a writer": set(POLICIES),
}
DEADLOCKS = {"a dirtier, a reader and a writer": {"relock_blocking"}}
ATTEMPTS_MAX = dict.fromkeys(POLICIES, 3) | {"mmap_lock_only": 2, "blind_once": 4}

of_every_policy = pytest.mark.parametrize("policy", POLICIES)


def assert_as_expected(scene: str, policy: str, orders: EveryOrder) -> None:
    """Assert that deadlocks and endless stories are where they should be, and nowhere else."""
    deadlocks = policy in DEADLOCKS.get(scene, ())
    assert (Stop.DEADLOCK in orders.stops) == deadlocks
    assert set(orders.stops) <= {Stop.FINISHED, Stop.DEADLOCK}
    lasts = policy in FOR_EVER.get(scene, ())
    assert orders.all_end_in_time != lasts
    assert orders.all_end == (not lasts and policy not in WHILE_OTHERS_STOP.get(scene, ()))
    if policy not in UNBOUNDED:
        assert orders.attempts_max <= ATTEMPTS_MAX[policy]


def every_order(scene: str, policy: str, **more: Any) -> EveryOrder:
    scenario = (OF_TWO | OF_THREE)[scene](policy=policy)
    return EveryOrder(scenario, counts_attempts=policy not in UNBOUNDED, **more)


@of_every_policy
@pytest.mark.parametrize("scene", OF_TWO)
def test_two_threads_end_in_every_order_unless_the_rules_say_otherwise(
    scene: str, policy: str
) -> None:
    assert_as_expected(scene, policy, every_order(scene, policy))


@pytest.mark.slow
@of_every_policy
@pytest.mark.parametrize("scene", OF_TWO)
def test_what_is_counted_and_linked_is_right_in_every_state(scene: str, policy: str) -> None:
    every_order(scene, policy, check=assert_recounted)


@pytest.mark.slow
@of_every_policy
@pytest.mark.parametrize("scene", OF_THREE)
def test_three_threads_end_in_every_order_unless_the_rules_say_otherwise(
    scene: str, policy: str
) -> None:
    assert_as_expected(scene, policy, every_order(scene, policy))


@pytest.mark.parametrize("generation", ["6.15", "6.4"])
@pytest.mark.parametrize("policy", ["mainline", "hold"])
@pytest.mark.parametrize("scene", OF_TWO)
def test_other_kernels_have_no_endless_orders_either(
    scene: str, policy: str, generation: str
) -> None:
    """6.15 has another VMA lock; the older ones have less use for it."""
    scenario = OF_TWO[scene](policy=policy, generation=generation)

    assert_as_expected(scene, policy, EveryOrder(scenario))


def told(steps: list[Told]) -> list[str]:
    return [str(step) for step in steps]


def test_waiting_for_mmap_lock_with_a_folio_locked_is_a_deadlock_of_three() -> None:
    """The waiter has the folio that the dirtier needs, who is in the VMA that is protected."""
    orders = every_order("a dirtier, a reader and a writer", "relock_blocking")

    assert told(orders.story_to(Stop.DEADLOCK)) == [
        "waiter: program",
        "waiter: lock_vma (has a VMA lock)",
        "waiter: lookup (lets go of a VMA lock)",
        "waiter: readahead_sync",
        "waiter: readahead_sync (sleeps for device)",
        "the device: read ends",
        "dirtier: program",
        "dirtier: lock_vma (has a VMA lock)",
        "dirtier: lookup (has a VMA lock)",
        "protector: program",
        "protector: write_lock (has mmap_lock for write, spins for vma)",
        "protector: drain_expired (has mmap_lock for write, sleeps for vma)",
        "waiter: folio_woken (has a folio)",
        "waiter: relock (has a folio, sleeps for mmap_lock)",
        "dirtier: mkwrite_folio (has a VMA lock, sleeps for folio)",
    ]


def test_the_deadlock_is_none_in_the_order_of_scheduling() -> None:
    """So it takes another order to find it."""
    scenario = OF_THREE["a dirtier, a reader and a writer"](policy="relock_blocking")

    assert Played(scenario).ended


def test_a_page_under_writeback_is_faulted_again_and_again_until_it_is_written() -> None:
    """U2: in the circle nobody sleeps, and the device does not go on."""
    lead, circle = every_order("a page under writeback", "rfc").circle()

    assert told(lead)[-2:] == [
        "reader: lock_vma (has a VMA lock)",
        "reader: lookup (lets go of a VMA lock)",
    ]
    assert told(circle) == [
        "reader: lock_vma (has a VMA lock)",
        "reader: lookup (lets go of a VMA lock)",
    ]


@pytest.mark.parametrize("policy", sorted(RETRYING_READS))
def test_a_page_that_cannot_be_read_is_read_again_and_again(policy: str) -> None:
    """U4: each attempt sleeps, and drops the error with its lock."""
    circle = every_order("a page that cannot be read", policy).circle()[1]

    assert told(circle) == [
        "reader: lock_vma (has a VMA lock)",
        "reader: lookup (lets go of a VMA lock, has a folio)",
        "reader: sync_read (lets go of a folio, sleeps for device)",
        "the device: read ends",
        "reader: sync_read_done",
    ]


def test_blind_never_gets_past_a_mapping_without_map_pages() -> None:
    assert told(every_order("a page of a device", "blind").circle()[1]) == ["reader: lock_vma"]


def test_blind_spins_for_an_anon_vma_while_mmap_lock_is_written() -> None:
    lead, circle = every_order("a first copy", "blind").circle()

    assert "protector: write_lock (has mmap_lock for write)" in told(lead)
    assert told(circle) == ["copier: lock_vma"]


def test_who_finds_a_page_claimed_looks_again_until_it_is_read() -> None:
    """The wait for another one's read from zram ends with a jiffy."""
    circle = every_order("a page in zram", "mainline").circle()[1]

    assert "the timer: timer ends" in told(circle)
    assert {step.who for step in circle} <= {"a", "b", "the timer"}
    assert len({step.who for step in circle}) == 2


@pytest.mark.parametrize(
    ("policy", "attempts"), [("mainline", 3), ("mmap_lock_only", 2), ("blind_once", 4)]
)
def test_the_most_attempts_that_a_policy_allows_are_made_in_some_order(
    policy: str, attempts: int
) -> None:
    assert every_order("a page under writeback", policy).attempts_max == attempts


def computing(name: str, times: int) -> ThreadGroup:
    """Return a thread of so many events, and one more in which it begins."""
    return one(name, *[Compute(Fixed(0))] * times)


@pytest.mark.uncompiled_too
@pytest.mark.parametrize("times", [(2, 2), (1, 4), (1, 2, 1)])
def test_threads_that_do_not_meet_have_all_orders_of_their_events(times: tuple[int, ...]) -> None:
    """So many as there are ways to merge their sequences, and a state for each set of places."""
    orders = EveryOrder(free(*[computing(f"{n}", count) for n, count in enumerate(times)]))

    events = [count + 1 for count in times]
    ways, states = factorial(sum(events)), 1
    for count in events:
        ways //= factorial(count)
        states *= count + 1
    assert orders.orders == ways
    assert len(orders.follow) == states
    assert orders.stops == {Stop.FINISHED: 1}


@pytest.mark.uncompiled_too
def test_threads_that_meet_at_a_barrier_have_the_orders_before_it_times_those_after() -> None:
    """Each begins and computes, then goes on and computes: two events of each on either side."""
    steps = Compute(Fixed(0)), Barrier("meeting"), Compute(Fixed(0))

    orders = EveryOrder(free(ThreadGroup("pair", 2, steps)))

    assert orders.orders == comb(4, 2) * comb(4, 2)


@pytest.mark.uncompiled_too
def test_two_readers_of_different_pages_have_all_orders_of_their_steps() -> None:
    """Each begins, has the VMA lock and maps its page, lets it go, and is back: four events."""
    story = free(one("a", touch(0)), one("b", touch(1)), data=CACHED, fault_around=False)

    alone = EveryOrder(free(one("a", touch(0)), data=CACHED, fault_around=False))
    both = EveryOrder(story)

    events = len(alone.follow) - 1
    assert alone.orders == 1
    assert both.orders == comb(2 * events, events)


@pytest.mark.uncompiled_too
def test_of_two_writers_either_can_be_the_first() -> None:
    first = set()

    def look(world: Any) -> None:
        if world.mms[0].mmap_lock.writer != NOBODY and world.mms[0].seq == 1:
            first.add(int(world.mms[0].mmap_lock.writer))

    EveryOrder(free(one("a", Munmap("data", 0, PAGE)), one("b", Munmap("data", PAGE, PAGE))), look)

    assert first == {0, 1}


def test_who_has_waited_for_long_in_the_queue_is_handed_the_lock_in_some_order() -> None:
    handoffs = set()

    def look(world: Any) -> None:
        handoffs.add(int(world.mms[0].mmap_lock.handoff))

    EveryOrder(OF_THREE["two writers and a reader in the kernel"](), look)

    assert handoffs == {0, 1}


@pytest.mark.uncompiled_too
def test_what_breaks_is_told_with_the_steps_before_it() -> None:
    def refuse(world: Any) -> None:
        assert world.mms[0].mmap_lock.writer == NOBODY, "nobody writes"

    with pytest.raises(Broken) as broken:
        EveryOrder(free(one("unmapper", Munmap("data"))), refuse)

    story = str(broken.value).splitlines()
    assert story[:3] == ["unmapper: program", "unmapper", "nobody writes"]


@pytest.mark.uncompiled_too
@pytest.mark.parametrize("scene", OF_TWO)
def test_a_run_straight_on_comes_by_the_states_that_were_found(scene: str) -> None:
    """Going back loses nothing, and states that were taken for one go on alike."""
    orders = every_order(scene, "mainline")
    for seed in range(10):
        dice = Random(seed)
        player, state = Player(OF_TWO[scene](policy="mainline"), counts_attempts=True), 0
        while moves := player.moves():
            assert moves == list(orders.follow[state])
            move = dice.choice(moves)
            player.do(move)
            state = orders.follow[state][move]
            assert orders.known[player.digest()] == state
        assert player.end() == orders.ends[state]
