"""Who runs, for how long, and who has to wait for it."""

from typing import Any

import pytest

from faultlane_server.codes import Preemption, Protection, SchedPolicy, SignalKind
from faultlane_server.engine import Simulator
from faultlane_server.engine.fair import WEIGHT
from faultlane_server.engine.scheduling import WEIGHTS
from faultlane_server.engine.world import ThreadState
from faultlane_server.scenario import (
    AnonymousMapping,
    Compute,
    Exponential,
    Fixed,
    Kernel,
    Kill,
    Loop,
    Machine,
    Measure,
    Mprotect,
    Process,
    Scenario,
    Scheduling,
    Sleep,
    Step,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    check,
)
from tests.engine.small_stories import PAGE, READ_WRITE, Played

US = 1_000
MS = 1_000_000
CHUNK_NS = 100 * US  # what a busy thread computes between two touches
SLICE_NS = 3 * MS
SLACK_NS = 50 * US  # what switches and wake-ups cost
HEAP = Vma("heap", 64 * PAGE, AnonymousMapping(), protection=READ_WRITE)
FAIR = Scheduling()
BATCH = Scheduling(SchedPolicy.BATCH)
IDLE = Scheduling(SchedPolicy.IDLE)
FIFO, RR = SchedPolicy.FIFO, SchedPolicy.RR


def nice(level: int) -> Scheduling:
    return Scheduling(SchedPolicy.OTHER, level)


def real_time(priority: int, policy: SchedPolicy = FIFO) -> Scheduling:
    return Scheduling(policy, rt_priority=priority)


def group(
    name: str, *steps: Step, how: Scheduling = FAIR, cpus: tuple[int, ...] = (), threads: int = 1
) -> ThreadGroup:
    """Make threads that do some steps again and again."""
    return ThreadGroup(name, threads, (Loop(0, steps),), True, how, cpus)


def busy(name: str, how: Scheduling = FAIR, **more: Any) -> ThreadGroup:
    """Make threads that use their CPU as long as they have it, and touch a page now and then."""
    return group(name, Compute(Fixed(CHUNK_NS)), Touch("heap", Uniform()), how=how, **more)


def napping(name: str, how: Scheduling = FAIR, nap_ns: int = 5 * MS, **more: Any) -> ThreadGroup:
    """Make a thread that naps, and measure how long that is until it runs again."""
    nap = Measure("nap", (Sleep(Fixed(nap_ns)), Compute(Fixed(US))))
    return group(name, nap, how=how, **more)


def a_scenario(
    *groups: ThreadGroup,
    cpus: int = 1,
    ms: int = 1000,
    costs_ns: dict[str, int] | None = None,
    cpus_per_cache: int = 0,
    **kernel: Any,
) -> Scenario:
    """Let some threads do what they do for so many milliseconds; ticks come every millisecond."""
    settings = {"hz": 1000, "base_slice_ns": SLICE_NS, **kernel}
    return check(
        Scenario(
            workload=Workload((Process("app", (HEAP,), groups),)),
            machine=Machine("x86", cpus, costs_ns=costs_ns or {}, cpus_per_cache=cpus_per_cache),
            kernel=Kernel(**settings),
            horizon_ns=ms * MS,
        )
    )


def played(*groups: ThreadGroup, **more: Any) -> Played:
    return Played(a_scenario(*groups, **more))


def touches(run: Played, name: str) -> int:
    return int(run.world.threads[run.names[name]].touches)


def longest_delay_ns(run: Played, nap_ns: int = 5 * MS) -> int:
    (row,) = (row for row in run.summary.latencies if row.name.endswith("nap"))
    assert row.count > 5
    return row.max_ns - nap_ns


# Shares.


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_of_one_priority_share_a_cpu_evenly_in_turns_of_a_slice(threads):
    run = played(*(busy(f"t{n}") for n in range(threads)))

    shares = [touches(run, f"t{n}") for n in range(threads)]
    assert max(shares) - min(shares) <= 2 * SLICE_NS / CHUNK_NS
    assert run["cpu.nonvoluntary_switches"] == pytest.approx(1000 * MS / SLICE_NS, rel=0.01)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 5), (-5, 5), (-20, 0), (18, 19)])
def test_the_share_of_a_thread_is_as_its_weight(one, other):
    run = played(busy("one", nice(one)), busy("other", nice(other)), ms=4000)

    wanted = WEIGHTS[one + 20] / WEIGHTS[other + 20]
    assert touches(run, "one") / touches(run, "other") == pytest.approx(wanted, rel=0.1)


def test_policy_idle_gets_next_to_nothing_beside_others_and_all_without_them():
    beside = played(busy("idle", IDLE), busy("other"), ms=4000)
    alone = played(busy("idle", IDLE))

    assert 0 < touches(beside, "idle") < 0.01 * touches(beside, "other")
    assert touches(alone, "idle") > 9000


def test_a_slice_ends_at_a_tick():
    often = played(busy("one"), busy("other"), hz=1000, base_slice_ns=100_000)
    rarely = played(busy("one"), busy("other"), hz=100, base_slice_ns=100_000)

    assert often["cpu.nonvoluntary_switches"] == pytest.approx(1000, abs=5)
    assert rarely["cpu.nonvoluntary_switches"] == pytest.approx(100, abs=2)


def test_nobody_is_switched_away_from_a_cpu_that_nobody_else_wants():
    run = played(busy("one"), busy("other"), cpus=2)

    assert run["cpu.nonvoluntary_switches"] == 0


def test_no_thread_is_ever_more_than_its_last_turn_away_from_its_share():
    """Stoica and Abdel-Wahab, EEVDF (1995): a lag stays within one request, here up to the tick."""
    levels = (-10, -3, 0, 0, 4, 12)
    groups = [busy(f"t{level}.{n}", nice(level)) for n, level in enumerate(levels)]
    simulator = Simulator(a_scenario(*groups, napping("napper", nap_ns=7 * MS), ms=500))
    is_over = False
    while not is_over:
        is_over = simulator.advance(events=97)
        cpu = simulator.world.cpus[0]
        time_ns = int(cpu.origin_ns) + int(cpu.weighted_ns) // int(cpu.load)
        for number, level in enumerate(levels):
            thread = simulator.world.threads[number]
            if thread.state == ThreadState.RUNNABLE:
                lag_ns = time_ns - int(thread.virtual_ns)
                bound_ns = (SLICE_NS + MS + CHUNK_NS) * WEIGHT // WEIGHTS[level + 20]
                assert abs(lag_ns) <= max(bound_ns, SLICE_NS + MS)


# Real-time priorities.


def test_a_real_time_thread_runs_until_it_sleeps():
    run = played(busy("urgent", real_time(1)), busy("fair", nice(-20)))

    assert touches(run, "fair") == 0
    assert touches(run, "urgent") > 9000


def test_of_real_time_threads_the_one_with_the_higher_priority_runs():
    run = played(busy("low", real_time(10)), busy("high", real_time(11)))

    assert touches(run, "low") <= 1
    assert touches(run, "high") > 9000


def test_fifo_threads_of_one_priority_take_no_turns():
    run = played(busy("first", real_time(10)), busy("second", real_time(10)))

    assert touches(run, "second") == 0


def test_round_robin_threads_of_one_priority_take_turns_of_100_ms():
    run = played(busy("one", real_time(10, RR)), busy("other", real_time(10, RR)))

    assert touches(run, "one") == pytest.approx(touches(run, "other"), rel=0.01)
    assert run["cpu.nonvoluntary_switches"] == pytest.approx(10, abs=1)


def test_a_real_time_thread_that_wakes_up_goes_where_the_least_urgent_thread_runs():
    run = played(
        busy("fifo", real_time(50), cpus=(0,)),
        busy("fair", cpus=(1,)),
        napping("napper", real_time(20)),
        cpus=2,
    )

    assert longest_delay_ns(run) < SLACK_NS


def test_a_cpu_that_is_left_takes_a_real_time_thread_from_another_queue_first():
    run = played(
        busy("first", real_time(50)),
        busy("second", real_time(50)),
        busy("third", real_time(50)),
        busy("fair"),
        napping("last", real_time(60), nap_ns=MS),
        cpus=3,
        ms=200,
    )

    assert touches(run, "fair") == 0


# Waking up.


def test_a_thread_that_has_slept_runs_at_once_when_it_wakes_up():
    run = played(busy("busy"), napping("napper"))

    assert longest_delay_ns(run) < SLICE_NS


@pytest.mark.parametrize(
    ("how", "kernel"),
    [(BATCH, {}), (FAIR, {"wakeup_preemption": False})],
    ids=["policy BATCH", "without wakeup_preemption"],
)
def test_who_may_not_preempt_waits_for_the_end_of_a_slice(how, kernel):
    may = played(busy("busy"), napping("napper"), ms=2000)
    may_not = played(busy("busy"), napping("napper", how), ms=2000, **kernel)

    def mean_ns(run: Played) -> float:
        return next(r.mean_ns for r in run.summary.latencies if r.name.endswith("nap"))

    assert mean_ns(may_not) > mean_ns(may) + SLICE_NS / 4
    assert longest_delay_ns(may_not) < SLICE_NS + MS + SLACK_NS


def test_a_thread_of_policy_idle_makes_room_for_any_other_that_wakes_up():
    run = played(busy("idle", IDLE), napping("napper", BATCH))
    other = played(busy("idle", IDLE), napping("napper"))

    assert longest_delay_ns(other) < SLACK_NS
    assert longest_delay_ns(run) < SLACK_NS


# Affinity.


def test_threads_run_where_they_may():
    faults = group("pinned", Touch("heap", Uniform(), count=8), Compute(Fixed(CHUNK_NS)), cpus=(1,))
    run = played(faults, busy("one"), busy("other"), cpus=3, ms=50)

    assert {row["cpu"] for row in run.faults_of("pinned")} == {1}


def test_threads_that_may_run_on_one_cpu_share_it_while_others_are_idle():
    run = played(busy("one", cpus=(2,)), busy("other", cpus=(2,)), cpus=4)

    assert touches(run, "one") + touches(run, "other") < 10_000
    assert touches(run, "one") == pytest.approx(touches(run, "other"), rel=0.02)


def test_a_cpu_whose_queue_is_longer_by_two_gives_a_thread_away():
    """Six threads that may run anywhere, and one CPU that is taken by a pinned one."""
    run = played(*(busy(f"t{n}") for n in range(6)), busy("pinned", cpus=(0,)), cpus=2, ms=2000)

    shares = [touches(run, f"t{n}") for n in range(6)]
    assert min(shares) > 0.6 * max(shares)


# Caches.


@pytest.mark.parametrize(("cpus_per_cache", "finds_it"), [(0, True), (2, True), (1, False)])
def test_who_wakes_up_takes_an_idle_cpu_that_shares_a_cache_with_its_own(cpus_per_cache, finds_it):
    """The CPU on which a thread has slept is busy, and the other one has nothing to do."""
    run = played(
        napping("napper", BATCH), busy("busy", cpus=(0,)), cpus=2, cpus_per_cache=cpus_per_cache
    )

    assert (longest_delay_ns(run) < SLACK_NS) == finds_it


def handing_over(cpus_per_cache: int, ipi_ns: int) -> Played:
    """Let a reader on one CPU wait for mmap_lock again and again, which the other one gives it."""
    writes = group("writer", Mprotect("heap"), Sleep(Fixed(200 * US)), cpus=(0,))
    faults = group("reader", Touch("heap", Uniform()), Compute(Fixed(US)), cpus=(1,))
    return played(
        writes,
        faults,
        cpus=2,
        ms=100,
        cpus_per_cache=cpus_per_cache,
        costs_ns={"mprotect": 100 * US, "timer": 0, "tick": 0, "ipi": ipi_ns, "ipi_irq": 777},
        policy="mmap_lock_only",
    )


def test_a_wake_up_on_a_cpu_with_another_cache_interrupts_it():
    shared, apart = handing_over(2, 0), handing_over(1, 0)

    assert shared["cpu.interrupts_ns"] == 0
    assert apart["cpu.interrupts_ns"] > 0
    assert apart["cpu.interrupts_ns"] % 777 == 0


def test_who_wakes_it_pays_for_that():
    cheap, dear = handing_over(1, 0), handing_over(1, 300 * US)

    assert dear["operations.count"] < 0.7 * cheap["operations.count"]
    assert handing_over(2, 300 * US)["operations.count"] == handing_over(2, 0)["operations.count"]


def test_a_cpu_is_as_cold_as_it_is_long_that_it_left_off_work():
    """Who wakes up in the middle of another thread's work finds the CPU warm, an idle one cold."""
    costs_ns = {"cold": 200 * US, "cold_work": 10 * US}
    faults = group("napper", Sleep(Fixed(4 * MS)), Touch("heap", Uniform()))

    def fault_ns(*others: ThreadGroup) -> float:
        run = played(faults, *others, costs_ns=costs_ns)
        return float(run.faults_of("napper")[-1]["cpu_ns"])

    assert fault_ns() > 10 * fault_ns(busy("busy"))


# Preemption in the kernel.

SLOW = {"trap": 20 * MS}  # a fault that takes long before its first lock


def delay_in_kernel_ns(preemption: Preemption, costs_ns: dict[str, int]) -> int:
    """Return how long an urgent thread waits for one that faults all the time."""
    faulting = group(
        "faulting",
        Touch("heap", Uniform()),
        Mprotect("heap"),
        Mprotect("heap", protection=(Protection.READ,)),
    )
    run = played(
        faulting,
        napping("urgent", real_time(9), nap_ns=MS),
        preemption=preemption,
        costs_ns=costs_ns,
        policy="mmap_lock_only",
        ms=3000,
    )
    return longest_delay_ns(run, nap_ns=MS)


def test_a_preemptible_kernel_is_left_at_once():
    assert delay_in_kernel_ns(Preemption.FULL, SLOW) < SLACK_NS


@pytest.mark.parametrize("preemption", [Preemption.NONE, Preemption.VOLUNTARY])
def test_another_kernel_is_left_when_its_step_is_over(preemption):
    assert 5 * MS < delay_in_kernel_ns(preemption, SLOW) < 21 * MS


def test_without_preemption_a_fault_goes_on_to_its_end():
    before_and_after_the_lock = {"trap": 6 * MS, "handle": 6 * MS}

    none = delay_in_kernel_ns(Preemption.NONE, before_and_after_the_lock)
    voluntary = delay_in_kernel_ns(Preemption.VOLUNTARY, before_and_after_the_lock)

    assert voluntary < 7 * MS
    assert none > 9 * MS


@pytest.mark.parametrize("preemption", list(Preemption))
def test_a_loop_that_takes_long_has_a_place_to_leave_it(preemption):
    long = {"mprotect": 20 * MS}

    assert delay_in_kernel_ns(preemption, long) < SLACK_NS


# Locks whose holders do not run.

HOLD = {"mprotect": 3 * MS}


def held_up_ns(holder: Scheduling, hog: Scheduling) -> int:
    """Return how long an urgent fault waits for mmap_lock while a thread computes.

    The thread that holds mmap_lock shares its CPU with the one that computes.
    """
    toggling = group(
        "holder",
        Mprotect("heap", length_bytes=PAGE),
        Mprotect("heap", length_bytes=PAGE, protection=(Protection.READ,)),
        how=holder,
        cpus=(0,),
    )
    faulting = group(
        "victim", Sleep(Fixed(5 * MS)), Touch("heap", Uniform()), how=real_time(50), cpus=(1,)
    )
    hogs = group("hog", Compute(Fixed(20 * MS)), Sleep(Fixed(MS)), how=hog, cpus=(0,))
    run = played(
        *(toggling, faulting, hogs), cpus=2, costs_ns=HOLD, policy="mmap_lock_only", ms=2000
    )
    return max(row["wait_mmap_lock_ns"] for row in run.faults_of("victim"))


def test_a_fault_waits_for_a_holder_that_waits_for_a_cpu():
    assert held_up_ns(holder=IDLE, hog=FAIR) > 10 * MS


def test_a_fault_does_not_if_the_holder_is_the_more_urgent_one():
    assert held_up_ns(holder=real_time(60), hog=FAIR) < 4 * MS


def test_a_writer_that_spins_learns_that_the_owner_has_lost_its_cpu():
    owner = group("owner", Mprotect("heap", length_bytes=PAGE), cpus=(0,))
    spinner = group("spinner", Mprotect("heap", PAGE, PAGE), cpus=(1,))
    urgent = group(
        "urgent", Sleep(Exponential(2 * MS)), Compute(Fixed(20 * MS)), how=real_time(5), cpus=(0,)
    )
    simulator = Simulator(
        a_scenario(owner, spinner, urgent, cpus=2, ms=200, costs_ns={"mprotect": MS})
    )
    slept = 0
    while not simulator.advance(events=1):
        holder, waiter = simulator.world.threads[0], simulator.world.threads[1]
        holds = simulator.world.mms[0].mmap_lock.writer == 0
        if holds and holder.state == ThreadState.RUNNABLE:
            assert waiter.state != ThreadState.SPINNING
            slept += waiter.state == ThreadState.BLOCKED

    assert slept > 0


def test_who_was_switched_away_before_its_fault_began_faults_later_not_longer():
    """User mode is left at any time: the touch before which that was faults afterwards."""
    run = played(
        busy("one"),
        busy("other"),
        ms=200,
        costs_ns={"touch": 700},
    )

    waits = [row["wait_run_queue_ns"] for row in run.faults]
    assert run["cpu.nonvoluntary_switches"] > 30
    assert sum(wait > MS for wait in waits) <= run["cpu.nonvoluntary_switches"]
    assert all(
        row["duration_ns"]
        == sum(v for k, v in row.items() if k.startswith("wait_")) + row["cpu_ns"]
        for row in run.faults
    )


def test_a_fatal_signal_ends_what_a_thread_was_computing_though_it_has_no_cpu():
    victim = ThreadGroup("victim", 1, (Compute(Fixed(900 * MS)),), False, IDLE)
    killer = ThreadGroup("killer", 1, (Compute(Fixed(50 * MS)), Kill(SignalKind.FATAL)))
    run = played(victim, killer)

    assert run.ended
    assert run.world.now_ns < 100 * MS
