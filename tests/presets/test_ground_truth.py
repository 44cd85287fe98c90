"""The presets `ground-truth-s1` and `ground-truth-s2` come out as the guest was measured.

Nothing in them is drawn, so one seed tells all.
"""

import csv
from importlib.resources import files
from statistics import median

import pytest

from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated

with files("faultlane_server.fidelity").joinpath("measured.csv").open() as lines:
    ROWS = [row for row in csv.DictReader(lines) if row["set"] == "icount"]
MEASURED = {
    "ground-truth-s1": {"scenario": "S1", "threads": "16", "readahead": "readahead_1page"},
    "ground-truth-s2": {"scenario": "S2", "threads": "4", "writer_op": "mprotect_same_vma"},
}
VARIANT_OF = {"mainline": "base", "rfc": "rfc", "hold": "hold"}
RUNS = [(preset, policy) for preset in MEASURED for policy in VARIANT_OF]

MMAP_READS_OFF = 0.01  # absolute, per touch
RATES_OFF = 0.05  # relative


def measured(preset: str, policy: str, column: str) -> float:
    """Return the median over the repeats."""
    wanted = {**MEASURED[preset], "variant": VARIANT_OF[policy]}
    return median(float(row[column]) for row in ROWS if wanted.items() <= row.items())


def writer_pairs_per_s(summary: Summary) -> float:
    return latency(summary, "section.writer").count * 1e9 / summary.end_ns


@pytest.mark.parametrize(("preset", "policy"), RUNS)
def test_faults_are_as_many_as_measured(preset, policy):
    metrics = simulated(preset, policy).metrics

    assert metrics["touches.count"] == measured(preset, policy, "touches")
    assert metrics["vmstat.pgmajfault"] == measured(preset, policy, "pgmajfault")
    assert metrics["touches.per_second"] == pytest.approx(
        measured(preset, policy, "touches_per_s"), rel=RATES_OFF
    )


@pytest.mark.parametrize(("preset", "policy"), RUNS)
def test_faults_take_mmap_lock_as_often_as_measured(preset, policy):
    metrics = simulated(preset, policy).metrics

    assert metrics["mmap_lock.read.per_touch"] == pytest.approx(
        measured(preset, policy, "mmap_read_per_touch"), abs=MMAP_READS_OFF
    )


@pytest.mark.parametrize("policy", VARIANT_OF)
def test_the_writer_gets_as_much_done_as_measured(policy):
    summary = simulated("ground-truth-s2", policy)

    assert writer_pairs_per_s(summary) == pytest.approx(
        measured("ground-truth-s2", policy, "writer_ops_per_s"), rel=RATES_OFF
    )


def test_under_hold_the_writer_waits_for_the_device():
    waits_ns = {
        policy: latency(simulated("ground-truth-s2", policy), "section.writer").p50_ns
        for policy in VARIANT_OF
    }

    assert max(waits_ns["mainline"], waits_ns["rfc"]) < 20_000
    assert waits_ns["hold"] > 900_000
