"""What a simulation gives for the quantities that rows measure."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from faultlane_server.codes import RecordingKind
from faultlane_server.engine import Simulator
from faultlane_server.fidelity.measured import Case
from faultlane_server.fidelity.rows import scenario_of
from faultlane_server.fidelity.score import Verdict, verdicts
from faultlane_server.scenario import Recording, Scenario, check
from faultlane_server.summary import Summary

# The counters of a measured run include two faults of the harness itself, which take mmap_lock:
# in every row without a writer, `pgfault` is the number of touches and two.
HARNESS_MMAP_READS = 2


class Outcome(NamedTuple):
    """What came out of the scenario of a row: of its touches, how long each took."""

    summary: Summary
    touches_ns: np.ndarray  # of every touch that came to its end, the shortest first


def simulate(scenario: Scenario) -> Outcome:
    """Run the scenario of a row to its end.

    A design may change a latency by less than the buckets of a summary tell apart, so the faults
    are recorded.
    """
    recording = Recording(RecordingKind.ALL)
    simulator = Simulator(check(replace(scenario, recording=recording)))
    faults = []
    is_over = False
    while not is_over:
        is_over = simulator.advance()
        rows, _ = simulator.take_rows()
        faults.append({name: rows[name] for name in FAULT_COLUMNS})
    summary = simulator.summary()
    columns = {name: np.concatenate([part[name] for part in faults]) for name in FAULT_COLUMNS}
    hit_ns = int(simulator.world.config.cost.touch_ns)
    return Outcome(summary, _touches_ns(columns, int(summary.metrics["touches.count"]), hit_ns))


FAULT_COLUMNS = ("thread", "touch", "start_ns", "duration_ns", "finished")


def _touches_ns(faults: dict[str, np.ndarray], touches: int, hit_ns: int) -> np.ndarray:
    """Return how long touches took, from the faults of those that did not hit.

    A touch that faults lasts from the start of its first fault to the end of its last one, and
    then hits.
    """
    order = np.lexsort((faults["start_ns"], faults["touch"], faults["thread"]))
    thread, touch, start_ns, duration_ns, finished = (faults[name][order] for name in FAULT_COLUMNS)
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(thread.astype(np.int64)) != 0) | (np.diff(touch.astype(np.int64)) != 0)
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(order)) - 1 if len(order) else first
    lasted_ns = start_ns[last] + duration_ns[last] - start_ns[first] + hit_ns
    faulted_ns = lasted_ns[finished[last] != 0]
    hits = max(touches - len(faulted_ns), 0)
    return np.sort(np.concatenate([np.full(hits, hit_ns), faulted_ns]))


def _percentile(sorted_ns: np.ndarray, percent: int) -> float:
    """Return the value that so many percent are below, as the harness of the measurements does."""
    return float(sorted_ns[len(sorted_ns) * percent // 100])


def quantities_of(outcome: Outcome) -> dict[str, float]:
    """Return the quantities of a run, by the names that they have as columns of rows.

    If no touch came to its end, each took longer than the run: its length stands for them, and
    nothing can be told per touch.
    """
    summary = outcome.summary
    metrics = summary.metrics
    touches = metrics["touches.count"]
    if touches == 0:
        length_ns = float(summary.end_ns)
        return {
            "touches_per_s": 0.0,
            "touch_p50_ns": length_ns,
            "touch_p99_ns": length_ns,
            "pgmajfault": metrics["vmstat.pgmajfault"],
        }
    quantities = {
        "touches_per_s": touches * 1e9 / summary.end_ns,
        "touch_p50_ns": _percentile(outcome.touches_ns, 50),
        "touch_p99_ns": _percentile(outcome.touches_ns, 99),
        "mmap_read_per_touch": (metrics["mmap_lock.read.acquired"] + HARNESS_MMAP_READS) / touches,
        "pgmajfault": metrics["vmstat.pgmajfault"],
    }
    latencies = {latency.name: latency for latency in summary.latencies}
    if "section.writer" in latencies:
        quantities["writer_p99_ns"] = float(latencies["section.writer"].p99_ns)
    return quantities


def compare(case: Case) -> list[Verdict]:
    """Simulate a case, and hold what comes out against what was measured."""
    return verdicts(case, quantities_of(simulate(scenario_of(case.row))))


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
