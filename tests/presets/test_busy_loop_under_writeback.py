"""The preset `busy-loop-under-writeback` shows what its description says."""

import pytest

from faultlane_server.codes import StopReason
from tests.presets.runs import latency, simulated

PRESET = "busy-loop-under-writeback"
PAGES = 6 * 32

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.mark.parametrize(("policy", "attempts"), [("mainline", 3), ("blind_once", 4), ("hold", 1)])
def test_each_page_is_mapped_after_a_few_attempts_without_waiting(seed, policy, attempts):
    summary = simulated(PRESET, policy, seed)

    assert summary.metrics["faults.count"] == PAGES
    assert summary.metrics["faults.attempts"] == attempts * PAGES
    assert latency(summary, "section.scan").max_ns < 100_000


def test_a_third_attempt_counts_as_major_although_nothing_is_read(seed):
    metrics = simulated(PRESET, "mainline", seed).metrics

    assert metrics["perf.major_faults"] == PAGES
    assert metrics["vmstat.pgmajfault"] == metrics["device.reads"] == 0


def test_under_rfc_readers_burn_the_cpu_until_the_page_is_written(seed):
    mainline, rfc = simulated(PRESET, "mainline", seed), simulated(PRESET, "rfc", seed)

    assert rfc.stop == StopReason.FINISHED
    assert rfc.metrics["faults.attempts_max"] > 1000
    assert rfc.metrics["faults.cpu_ns"] > 100 * mainline.metrics["faults.cpu_ns"]
    assert rfc.metrics["cpu.context_switches"] < 100
    assert latency(rfc, "section.scan").mean_ns > 2_000_000
    assert rfc.metrics["perf.major_faults"] == rfc.metrics["mmap_lock.read.acquired"] == 0
