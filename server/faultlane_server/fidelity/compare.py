"""What a simulation gives for the quantities that rows measure."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from faultlane_server.engine import Simulator
from faultlane_server.fidelity.measured import Case
from faultlane_server.fidelity.rows import Row, scenario_of
from faultlane_server.fidelity.score import Verdict, verdicts
from faultlane_server.summary import Summary

# The counters of a measured run include two faults of the harness itself, which take mmap_lock:
# in every row without a writer, `pgfault` is the number of touches and two.
HARNESS_MMAP_READS = 2


def simulate(row: Row, *, seed: int = 0) -> Summary:
    """Run the scenario of a row to its end."""
    simulator = Simulator(scenario_of(row, seed=seed))
    while not simulator.advance():
        pass
    return simulator.summary()


def quantities_of(summary: Summary) -> dict[str, float]:
    """Return the quantities of a run, by the names that they have as columns of rows.

    If no touch came to its end there is but one: how many did.
    """
    metrics = summary.metrics
    touches = metrics["touches.count"]
    if touches == 0:
        return {"touches_per_s": 0.0}
    latencies = {latency.name: latency for latency in summary.latencies}
    touch = latencies["touch.all"]
    quantities = {
        "touches_per_s": touches * 1e9 / summary.end_ns,
        "touch_p50_ns": float(touch.p50_ns),
        "touch_p99_ns": float(touch.p99_ns),
        "mmap_read_per_touch": (metrics["mmap_lock.read.acquired"] + HARNESS_MMAP_READS) / touches,
        "pgmajfault": metrics["vmstat.pgmajfault"],
    }
    if "section.writer" in latencies:
        quantities["writer_p99_ns"] = float(latencies["section.writer"].p99_ns)
    return quantities


def compare(case: Case) -> list[Verdict]:
    """Simulate a case, and hold what comes out against what was measured."""
    return verdicts(case, quantities_of(simulate(case.row)))


def compare_all(
    cases: Sequence[Case], done: Callable[[int], None] = lambda _: None
) -> list[Verdict]:
    """Compare many cases, as many at once as there are CPUs; `done` hears how many are."""
    found: list[Verdict] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, of_case in enumerate(pool.map(compare, cases), 1):
            found += of_case
            done(number)
    return found
