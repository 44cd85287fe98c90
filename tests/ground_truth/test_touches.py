"""The touches of a simulated row are those of its summary, one by one."""

import numpy as np
import pytest

from faultlane_server.fidelity.compare import quantities_of, simulate
from faultlane_server.fidelity.measured import shipped_cases
from faultlane_server.fidelity.rows import scenario_of
from tests.ground_truth.a_row import a_row

BUCKET = 0.01  # a percentile of a summary is off by less


@pytest.mark.parametrize("family", ["S1", "S2", "S5", "S6"])
def test_they_are_as_many_and_as_long_as_the_summary_says(family):
    row = next(case.row for case in shipped_cases() if case.row["scenario"] == family)
    outcome = simulate(scenario_of(row))
    latencies = {latency.name: latency for latency in outcome.summary.latencies}
    told, touches_ns = latencies["touch.all"], outcome.touches_ns

    assert len(touches_ns) == told.count
    assert touches_ns.mean() == pytest.approx(told.mean_ns, rel=1e-6)
    assert (touches_ns[0], touches_ns[-1]) == (told.min_ns, told.max_ns)
    assert (np.diff(touches_ns) >= 0).all()
    quantities = quantities_of(outcome)
    assert quantities["touch_p50_ns"] == pytest.approx(told.p50_ns, rel=BUCKET)
    assert quantities["touch_p99_ns"] == pytest.approx(told.p99_ns, rel=BUCKET)


def test_designs_are_told_apart_that_differ_by_less_than_a_bucket():
    """One thread, cold: hold spares the second attempt, 0.1 % of what the device takes."""
    p50_ns = {
        case.row["variant"]: quantities_of(simulate(scenario_of(case.row)))["touch_p50_ns"]
        for case in shipped_cases()
        if (case.row["set"], case.row["scenario"], case.row["threads"]) == ("icount", "S1", "1")
        and case.row["readahead"] == "advise_random"
    }

    assert 0.998 < p50_ns["hold"] / p50_ns["base"] < 1


def test_where_no_touch_ends_each_took_longer_than_the_run():
    row = a_row(
        scenario="S5",
        threads=4,
        faults_per_thread=20,
        memcg_limit_kib=16384,
        file_pages=16384,
        device_latency_ns=5 * 10**9,
    )

    outcome = simulate(scenario_of(row))

    length_ns = float(outcome.summary.end_ns)
    assert quantities_of(outcome) == {
        "touches_per_s": 0,
        "touch_p50_ns": length_ns,
        "touch_p99_ns": length_ns,
        "pgmajfault": outcome.summary.metrics["vmstat.pgmajfault"],
    }
    assert length_ns > 10**9
