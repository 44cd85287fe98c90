"""The preset `same-page` shows what its description says."""

import pytest

from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated

PRESET = "same-page"
TOUCHES = 32 * 200

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def attempts_per_fault(summary: Summary) -> float:
    return summary.metrics["faults.attempts"] / summary.metrics["faults.count"]


def test_nearly_every_touch_is_a_fault_that_waits_for_the_same_page(seed):
    mainline = simulated(PRESET, "mainline", seed)

    assert mainline.metrics["touches.count"] == TOUCHES
    assert mainline.metrics["faults.count"] > 0.95 * TOUCHES
    assert mainline.metrics["device.reads"] == 200


def test_under_mainline_the_line_comes_back_under_mmap_lock_and_under_rfc_it_does_not(seed):
    mainline, rfc = simulated(PRESET, "mainline", seed), simulated(PRESET, "rfc", seed)

    assert mainline.metrics["mmap_lock.read.acquired"] > 0.9 * TOUCHES
    assert rfc.metrics["mmap_lock.read.acquired"] < 0.01 * TOUCHES
    assert attempts_per_fault(rfc) == pytest.approx(attempts_per_fault(mainline), rel=0.01)


def test_under_rfc_the_slowest_mappers_become_faster_and_the_rounds_stay_as_they_are(seed):
    mainline, rfc = simulated(PRESET, "mainline", seed), simulated(PRESET, "rfc", seed)

    slow_ns = latency(mainline, "section.map_unmap").p99_ns
    assert latency(rfc, "section.map_unmap").p99_ns < slow_ns / 1.3
    assert rfc.end_ns == pytest.approx(mainline.end_ns, rel=0.01)


def test_under_hold_one_attempt_is_enough_but_the_line_moves_more_slowly(seed):
    mainline, hold = simulated(PRESET, "mainline", seed), simulated(PRESET, "hold", seed)

    assert attempts_per_fault(mainline) > 1.9
    assert attempts_per_fault(hold) == 1
    assert hold.metrics["wait.folio_ns"] > 1.05 * mainline.metrics["wait.folio_ns"]
    assert hold.end_ns > 1.015 * mainline.end_ns
