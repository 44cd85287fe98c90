"""Interrupts that wait while all CPUs work, in a guest whose emulator has no CPU of its own."""

from faultlane_server.scenario import ThreadGroup
from tests.engine import test_scheduler
from tests.engine.small_stories import MS, US, Played
from tests.engine.test_scheduler import busy, napping

WAIT_NS = 20 * MS
NAP_NS = 5 * MS  # as long as `napping` sleeps
# Switches in a second: a tick each 23 ms on average, some of which leave the CPU to who had less.
FEW = range(10, 60)


def played(*groups: ThreadGroup, wait_ns: int, cpus: int = 1) -> Played:
    return test_scheduler.played(*groups, cpus=cpus, costs_ns={"interrupt_wait": wait_ns})


def mean_delay_ns(run: Played) -> float:
    (row,) = (row for row in run.summary.latencies if row.name.endswith("nap"))
    assert row.count > 5
    return row.mean_ns - NAP_NS


def test_a_timer_waits_while_all_cpus_work():
    at_once = played(busy("other"), napping("who"), wait_ns=0)
    late = played(busy("other"), napping("who"), wait_ns=WAIT_NS)

    assert mean_delay_ns(at_once) < 3 * MS
    assert mean_delay_ns(late) > WAIT_NS / 2


def test_a_timer_waits_for_nothing_if_a_cpu_is_idle():
    groups = (busy("other"), napping("who"))

    runs = [played(*groups, wait_ns=wait_ns, cpus=2) for wait_ns in (0, WAIT_NS)]

    assert mean_delay_ns(runs[1]) == mean_delay_ns(runs[0]) < 50 * US


def test_ticks_wait_too_so_slices_are_longer():
    at_once, late = (played(busy("a"), busy("b"), wait_ns=wait_ns) for wait_ns in (0, WAIT_NS))

    assert at_once["cpu.nonvoluntary_switches"] > 300
    assert late["cpu.nonvoluntary_switches"] in FEW
