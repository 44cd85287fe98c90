"""The preset `one-vma-under-hold` shows what its description says."""

import pytest

from faultlane_server.codes import StopReason
from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated

PRESET = "one-vma-under-hold"
DISK_NS = 400_000  # half of the reads take longer

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def p99_ns(summary: Summary, name: str) -> int:
    return latency(summary, name).p99_ns


@pytest.mark.parametrize("policy", ["mainline", "rfc"])
def test_who_lets_go_of_the_lock_makes_nobody_wait_for_the_disk(seed, policy):
    summary = simulated(PRESET, policy, seed)

    assert summary.stop == StopReason.FINISHED
    assert p99_ns(summary, "section.protect") < DISK_NS / 4
    assert p99_ns(summary, "section.map_unmap") < DISK_NS / 4
    assert summary.metrics["wait.mmap_lock_ns"] < 0.001 * summary.metrics["wait.device_ns"]


def test_under_hold_the_protector_waits_for_the_disk_and_everybody_behind_it(seed):
    hold = simulated(PRESET, "hold", seed)

    assert latency(hold, "section.protect").p50_ns > DISK_NS
    assert p99_ns(hold, "section.map_unmap") > DISK_NS
    assert hold.metrics["wait.mmap_lock_ns"] > 0.2 * hold.metrics["wait.device_ns"]


def test_under_hold_readers_pay_for_it_too(seed):
    mainline, hold = simulated(PRESET, "mainline", seed), simulated(PRESET, "hold", seed)

    assert p99_ns(hold, "section.request") > 1.5 * p99_ns(mainline, "section.request")
    assert hold.metrics["touches.per_second"] < 0.8 * mainline.metrics["touches.per_second"]
