"""Memory that is short: who is charged, who reclaims, who waits, and who dies.

Without swap nothing takes anonymous memory away: it is what fills a memcg for good.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from faultlane_server.codes import (
    Access,
    Advice,
    DeviceKind,
    LruKind,
    RetryReason,
    StopReason,
    VmFault,
)
from faultlane_server.engine import Simulator
from faultlane_server.engine.world import ThreadState
from faultlane_server.machines.profile import COSTS
from faultlane_server.scenario import (
    Device,
    FileMapping,
    Fixed,
    Mprotect,
    Munmap,
    Scenario,
    Sequential,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    check,
)
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    MS,
    PAGE,
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
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

JIFFY_NS = 4 * MS  # at 250 Hz
S = 1000 * MS
BOTH_LRUS = pytest.mark.parametrize("lru", list(LruKind), ids=lambda lru: lru.name)
SWAP: dict[str, Any] = {"swap": DeviceKind.BLOCK, "swap_ns": 20 * US}


def played(scenario: Scenario, traced: str = "") -> Played:
    run = Played(scenario, traced)
    assert_recounted(run.world)
    return run


def watched(scenario: Scenario, look: Callable[[Any], None]) -> Simulator:
    """Play a story event by event, and look at the world after each."""
    simulator = Simulator(scenario)
    while not simulator.advance(events=1):
        look(simulator.world)
    assert_recounted(simulator.world)
    return simulator


QUICK = Device("disk", Fixed(10 * US), channels=64)


def data_vma(page_count: int = 64) -> Vma:
    return Vma("data", page_count * PAGE, FileMapping("data"), 0, READ_WRITE)


def put(*page_numbers: int) -> Touch:
    return write(*page_numbers, vma="heap")


def everywhere(vma: str, count: int, access: Access = Access.READ) -> Touch:
    return Touch(vma, Uniform(), access, count)


# memory.max.


@BOTH_LRUS
@pytest.mark.parametrize(
    ("story", "memory"),
    [
        ({"cast": everywhere("data", 60)}, {}),
        ({"cast": everywhere("data", 60, Access.WRITE)}, {}),
        ({"cast": everywhere("heap", 100, Access.WRITE), "vmas": [heap(200)]}, SWAP),
    ],
    ids=["reads", "shared writes", "anonymous memory"],
)
def test_a_memcg_never_has_more_than_its_limit(
    story: dict[str, Any], memory: dict[str, Any], lru: LruKind
) -> None:
    cast = ThreadGroup("threads", 3, (story["cast"],))
    scenario = a_story(
        cast,
        data_pages=200,
        vmas=story.get("vmas", ()),
        memory=Memory(most=80, lru=lru, unkillable=True, **memory),
        horizon_ns=10 * S,
    )

    def look(world: Any) -> None:
        assert world.memcgs[1].usage <= 80

    simulator = watched(scenario, look)
    summary = simulator.summary()
    assert summary.stop is StopReason.FINISHED
    assert summary.metrics["memory.events.max"] > 0
    assert summary.metrics["vmstat.pgsteal_direct"] > 0


def test_only_who_dies_is_charged_beyond_the_limit() -> None:
    most = []

    def look(world: Any) -> None:
        most.append(int(world.memcgs[1].usage))

    writer = one("writer", put(*range(100)))
    watched(a_story(writer, vmas=[heap(100)], memory=Memory(most=64)), look)

    assert max(most) == 65


def readahead_without_room(mapped: int) -> Played:
    """Read a page of a file with a memcg that only some pages are left in."""
    return played(
        a_story(
            one("reader", touch(32)),
            vmas=[
                data_vma(),
                heap(64, mapped=(page_range(0, mapped),)),
            ],
            fault_around=False,
            disk=QUICK,
            memory=Memory(most=64),
        ),
        "reader",
    )


def test_readahead_that_cannot_be_charged_stops_silently_and_the_target_is_read_alone() -> None:
    """There is room for one page of the window, and not for the second."""
    run = readahead_without_room(63)

    fault = run.fault_of("reader")
    assert run["readahead.stopped"] == 1
    assert run["device.pages"] == fault["reads"] == 2
    assert reasons(fault) == {RetryReason.F8}
    assert run.attempts()[0] == "V→MAJOR+RETRY"
    tries = fault["wait_reclaim_ns"] // run.world.config.cost.reclaim_ns
    assert tries > 2, "until the page that was read ahead can be taken"
    assert run["memory.events.oom"] == 0


def test_readahead_that_reaches_its_target_is_row_2() -> None:
    run = readahead_without_room(40)

    assert reasons(run.fault_of("reader")) == {RetryReason.F7}
    assert run["readahead.stopped"] == 1
    assert run["device.pages"] == 24


# memory.high.


def over_high(high: int, mapped: int, *others: ThreadGroup, **more: Any) -> Played:
    """Let a thread take the page with which its memcg, of so many pages, charges a batch of 64."""
    vma = heap(mapped + 8, mapped=(page_range(0, mapped),))
    return played(
        a_story(
            one("writer", put(mapped)),
            *others,
            vmas=[vma],
            memory=Memory(high=high),
            horizon_ns=20 * S,
            **more,
        )
    )


@pytest.mark.parametrize(
    ("high", "jiffies"),
    [
        # 64 pages over 1024 are 1/16; squared 1/256; times HZ 250 and 64 (2 ** 20 >> 14): 62.5.
        (1024, 62),
        # 1/8: four times that.
        (512, 250),
        # 1: two seconds are the most.
        (64, 500),
        # 1/64: 3.9.
        (4096, 3),
    ],
)
def test_who_charges_over_memory_high_sleeps_by_the_square_of_the_overage(
    high: int, jiffies: int
) -> None:
    run = over_high(high, high)

    fault = run.fault_of("writer")
    assert fault["wait_throttle_ns"] == pytest.approx(jiffies * JIFFY_NS, rel=0.001)
    assert run["memory.high_delays"] == 1
    assert run["memory.events.high"] == 1


def test_a_small_penalty_is_forgiven() -> None:
    """1/94: less than two jiffies; up to 10 ms nobody sleeps."""
    run = over_high(6000, 6000)

    assert run.fault_of("writer")["wait_throttle_ns"] == 0
    assert (run["memory.events.high"], run["memory.high_delays"]) == (1, 0)


def test_a_batch_over_memory_high_is_paid_for_on_the_way_to_user_mode_without_a_lock() -> None:
    protector = one("protector", after(MS), Mprotect("heap", protection=READ_WRITE[:1]))
    run = over_high(64, 64, protector)

    assert run.faults_of("writer")[0]["wait_throttle_ns"] > S
    operation = run.operation_of("protector")
    assert operation["wait_vma_ns"] == operation["wait_mmap_lock_ns"] == 0


@pytest.mark.parametrize("policy", ["mainline", "hold"])
def test_more_than_a_batch_over_memory_high_is_paid_for_inside_the_charge(policy: str) -> None:
    """A window of 256 pages takes what is left of the memcg, and the target waits for its page.

    Under hold the VMA lock is held all the time, and a writer waits as long.
    """
    data = data_vma(512)
    run = played(
        a_story(
            one("reader", touch(256)),
            one("protector", after(3 * MS), Mprotect("data", protection=READ_WRITE[:1])),
            vmas=[data, heap(30, mapped=(page_range(0, 30),))],
            data_pages=512,
            disk=replace(QUICK, readahead_bytes=256 * PAGE),
            memory=Memory(high=1, most=100),
            policy=policy,
            horizon_ns=20 * S,
        )
    )

    assert run.faults_of("reader")[0]["wait_throttle_ns"] > S
    is_held = policy == "hold"
    assert (run.operation_of("protector")["wait_vma_ns"] > S) == is_held


def test_the_sleep_over_memory_high_can_be_killed() -> None:
    vma = heap(72, mapped=(page_range(0, 64),))
    run = Played(
        a_story(
            one("writer", put(64)),
            elsewhere=[one("killer", after(5 * MS), kill())],
            vmas=[vma],
            memory=Memory(high=64),
            horizon_ns=20 * S,
        )
    )

    assert run.fault_of("writer")["wait_throttle_ns"] < 6 * MS


# Out of memory.


def two_processes(*unkillable: str, big_pages: int = 80) -> Played:
    """Let `small` have 10 pages for itself, and `big` more than there are."""
    story = a_story(
        one("small", put(*range(10)), after(5 * MS)),
        vmas=[heap(big_pages)],
        memory=Memory(most=64),
        horizon_ns=10 * MS,
    )
    (small,) = story.workload.processes
    big = replace(small, name="big", groups=(one("big", after(MS), put(*range(big_pages))),))
    processes = tuple(
        replace(process, oom_unkillable=process.groups[0].name in unkillable)
        for process in (small, big)
    )
    return played(check(replace(story, workload=replace(story.workload, processes=processes),
                                machine=replace(story.machine, cpus=2))))  # fmt: skip


def touches(run: Played, name: str) -> int:
    return int(run.world.threads[run.names[name]].touches)


def test_the_oom_killer_kills_the_largest_process() -> None:
    run = two_processes()

    assert run.ended
    assert run["memory.events.oom_kill"] == 1
    assert run.world.threads[run.names["big"]].killed
    assert not run.world.threads[run.names["small"]].killed
    assert touches(run, "big") < 80


def test_an_unkillable_process_is_passed_over() -> None:
    run = two_processes("big")

    assert run.world.threads[run.names["small"]].killed
    assert not run.world.threads[run.names["big"]].killed


def test_a_process_that_was_killed_gives_its_memory_back() -> None:
    """So who is left has enough, and goes on."""
    run = two_processes("big", big_pages=60)

    assert run.ended
    assert touches(run, "big") == 60


def test_when_nobody_can_be_killed_the_fault_ends_in_oom_and_the_access_is_made_again() -> None:
    run = played(
        a_story(
            one("writer", put(*range(80))),
            vmas=[heap(80)],
            memory=Memory(most=64, unkillable=True),
            horizon_ns=MS,
        )
    )

    assert run.stop is StopReason.HORIZON
    failed = [row for row in run.faults if row["finished"] and VmFault.OOM in result(row)]
    assert len(failed) > 5
    assert run["faults.oom"] == len(failed)
    assert len({row["address"] for row in failed}) == 1
    tries_ns = 18 * run.world.config.cost.reclaim_ns
    assert all(row["wait_reclaim_ns"] == tries_ns for row in failed), "1, a drain, and 16 more"
    assert all(row["major"] == 0 for row in failed)
    assert run["memory.events.oom_kill"] == 0


def test_where_nothing_costs_time_who_is_short_of_pages_lets_it_pass() -> None:
    run = played(
        a_story(
            one("writer", put(*range(80))),
            vmas=[heap(80)],
            memory=Memory(most=64, unkillable=True),
            costs_ns=dict.fromkeys(COSTS, 0),
        )
    )

    assert run.stop is StopReason.HORIZON
    assert run["faults.oom"] > 5


def test_who_waits_for_memory_in_a_fault_holds_its_lock() -> None:
    run = played(
        a_story(
            one("writer", put(*range(300))),
            one("protector", after(20 * MS), Mprotect("heap", protection=READ_WRITE[:1])),
            vmas=[heap(300)],
            memory=Memory(of_the_machine=256, unkillable=True),
        )
    )

    assert run.operation_of("protector")["wait_vma_ns"] > JIFFY_NS


@pytest.mark.parametrize(("step", "freed_far"), [(1, False), (64, True)])
def test_a_page_costs_more_to_free_if_it_is_far_from_the_one_before(
    step: int, freed_far: bool
) -> None:
    """Far is what has another node in the page cache: 64 pages have one."""
    far_ns = 50 * US

    def ran(costs_ns: dict[str, int]) -> Played:
        reader = touch(*range(0, 150 * step, step))
        return played(
            a_story(
                one("reader", reader),
                data_pages=150 * step,
                advice=Advice.RANDOM,
                memory=Memory(most=64),
                costs_ns=costs_ns,
            )
        )

    near, far = ran({"reclaim_far": 0}), ran({"reclaim_far": far_ns})
    freed = far["vmstat.pgsteal_direct"]
    assert freed == near["vmstat.pgsteal_direct"] > 60
    paid_ns = far["wait.reclaim_ns"] - near["wait.reclaim_ns"]
    if freed_far:
        assert paid_ns == (freed - 1) * far_ns, "the first one has none before"
    else:
        assert paid_ns < freed * far_ns / 2


# A dropped lock whose page cannot be had (6.4 row 3).


@pytest.mark.parametrize("policy", ["mainline", "rfc", "blind"])
def test_an_allocation_that_fails_after_the_drop_is_a_retry_and_then_oom(policy: str) -> None:
    """The first attempt has dropped its lock for readahead; the next one has TRIED, and cannot."""
    data = data_vma()
    run = played(
        a_story(
            one("reader", touch(32)),
            vmas=[data, heap(64, mapped=(page_range(0, 64),))],
            memory=Memory(most=64, unkillable=True),
            policy=policy,
            horizon_ns=2 * MS,
        ),
        "reader",
    )

    lock = "V" if policy == "blind" else "M"
    retry = "V→MAJOR+RETRY" + ("+VMA" if policy == "blind" else "")
    first, *_ = run.faults_of("reader")
    assert run.attempts()[:2] == [retry, f"{lock}(TRIED)→OOM"]
    assert reasons(first) == {RetryReason.OOM}


# The machine, and kswapd.


@BOTH_LRUS
def test_kswapd_is_woken_at_the_low_watermark_and_works_up_to_the_high_one(lru: LruKind) -> None:
    scenario = a_story(
        one("reader", Touch("data", Sequential(), Access.READ, 500)),
        disk=Device("disk", Fixed(100 * US), readahead_bytes=0),
        data_pages=500,
        fault_around=False,
        memory=Memory(of_the_machine=256, lru=lru),
        horizon_ns=10 * S,
    )
    asleep: list[tuple[bool, int]] = []

    def look(world: Any) -> None:
        config = world.config
        row = world.threads[int(world.kswapd)]
        is_asleep = row.state == ThreadState.BLOCKED
        if asleep and asleep[-1][0] != is_asleep:
            free = int(world.frames_free)
            if is_asleep:
                assert free >= config.frames_high, "it sleeps when there is enough"
            else:
                assert free <= config.frames_low, "it is woken when there is little"
        asleep.append((is_asleep, 0))
        assert world.frames_free >= 0

    simulator = watched(scenario, look)
    assert simulator.summary().metrics["vmstat.pgsteal_kswapd"] > 0
    assert len({state for state, _ in asleep}) == 2


@BOTH_LRUS
def test_the_memory_of_the_machine_is_enough_for_any_number_of_pages(lru: LruKind) -> None:
    run = played(
        a_story(
            ThreadGroup("readers", 3, (everywhere("data", 100),)),
            one("writer", everywhere("heap", 300, Access.WRITE)),
            vmas=[data_vma(200), heap(250)],
            data_pages=200,
            memory=Memory(of_the_machine=256, lru=lru, **SWAP),
            horizon_ns=10 * S,
        )
    )

    assert run.ended
    assert run["touches.count"] == 600
    assert run["vmstat.pgsteal_kswapd"] > 0


# Pages that are dirty.


def test_dirty_pages_that_are_in_the_way_are_written_back() -> None:
    run = played(
        a_story(
            one("writer", Touch("data", Sequential(), Access.WRITE, 400)),
            data_pages=200,
            memory=Memory(most=80),
            horizon_ns=20 * S,
        )
    )

    assert run.ended
    assert run["touches.count"] == 400
    assert run["device.pages_written"] > 100


def test_what_is_unmapped_is_no_longer_charged() -> None:
    run = played(
        a_story(
            one("writer", put(*range(50)), Munmap("heap")), vmas=[heap(64)], memory=Memory(most=64)
        )
    )

    stocks = int(run.world.cpus["stock"][: int(run.world.config.cpus)].sum())
    assert run.world.memcgs[1].usage == stocks


# Devices.


def test_io_max_lets_one_request_through_at_a_time() -> None:
    readers = [one(f"reader-{number}", touch(8 * number)) for number in range(8)]
    disk = Device("disk", Fixed(100 * US), channels=64, readahead_bytes=0, iops_max=1000)
    run = played(a_story(*readers, disk=disk, fault_around=False))

    ends = sorted(end_ns(row) for row in run.faults)
    gaps = [later - before for before, later in pairwise(ends)]
    assert gaps == pytest.approx([MS] * 7, rel=0.01)
    assert ends[0] < 200 * US


def test_a_device_that_is_asked_seldom_does_not_hold_back() -> None:
    disk = Device("disk", Fixed(100 * US), channels=64, readahead_bytes=0, iops_max=1000)
    run = played(
        a_story(one("reader", touch(1), after(2 * MS), touch(20)), disk=disk, fault_around=False)
    )

    assert all(row["wait_device_ns"] < 110 * US for row in run.faults)


def test_holes_are_filled_without_a_device() -> None:
    """The faults are major as any others, and let go of their lock for nothing."""
    disk = Device("disk", kind=DeviceKind.HOLE)
    run = played(a_story(one("reader", touch(1)), disk=disk), "reader")

    fault = run.fault_of("reader")
    assert run.attempts() == ["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    assert (fault["reads"], fault["wait_device_ns"], run["device.reads"]) == (0, 0, 0)
    assert (run["vmstat.pgmajfault"], fault["major"]) == (1, 1)
