"""The presets `ground-truth-s1` and `ground-truth-s2` come out as the guest was measured.

Nothing in them is drawn, so one seed tells all.
"""

import csv
from pathlib import Path

import pytest

from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated

ROWS = list(
    csv.DictReader((Path(__file__).parents[1] / "ground_truth/cold_file_faults_icount.csv").open())
)
MEASURED = {
    "ground-truth-s1": {"scenario": "S1", "threads": "16", "readahead": "readahead_1page"},
    "ground-truth-s2": {"scenario": "S2", "threads": "4", "writer_op": "mprotect_same_vma"},
}
VARIANT_OF = {"mainline": "base", "rfc": "rfc", "hold": "hold"}
RUNS = [(preset, policy) for preset in MEASURED for policy in VARIANT_OF]

MMAP_READS_OFF = 0.01  # absolute, per touch
RATES_OFF = 0.05  # relative


def measured(preset: str, policy: str) -> dict[str, str]:
    wanted = {**MEASURED[preset], "variant": VARIANT_OF[policy]}
    (row,) = [row for row in ROWS if wanted.items() <= row.items()]
    return row


def writer_pairs_per_s(summary: Summary) -> float:
    return latency(summary, "section.writer").count * 1e9 / summary.end_ns


@pytest.mark.parametrize(("preset", "policy"), RUNS)
def test_faults_are_as_many_and_take_mmap_lock_as_often_as_measured(preset, policy):
    row, metrics = measured(preset, policy), simulated(preset, policy).metrics

    assert metrics["touches.count"] == int(row["threads"]) * int(row["faults_per_thread"])
    assert metrics["vmstat.pgmajfault"] == float(row["pgmajfault_median"])
    assert metrics["touches.per_second"] == pytest.approx(
        float(row["touches_per_s_median"]), rel=RATES_OFF
    )
    assert metrics["mmap_lock.read.per_touch"] == pytest.approx(
        float(row["mmap_read_per_touch_median"]), abs=MMAP_READS_OFF
    )


@pytest.mark.parametrize("policy", VARIANT_OF)
def test_the_writer_gets_as_much_done_as_measured(policy):
    row, summary = measured("ground-truth-s2", policy), simulated("ground-truth-s2", policy)

    assert writer_pairs_per_s(summary) == pytest.approx(
        float(row["writer_ops_per_s_median"]), rel=RATES_OFF
    )


def test_under_hold_the_writer_waits_for_the_device():
    waits_ns = {
        policy: latency(simulated("ground-truth-s2", policy), "section.writer").p50_ns
        for policy in VARIANT_OF
    }

    assert max(waits_ns["mainline"], waits_ns["rfc"]) < 20_000
    assert waits_ns["hold"] > 900_000
