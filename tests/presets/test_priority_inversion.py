"""The preset `priority-inversion` shows what its description says."""

import pytest

from tests.presets.runs import is_told, latency, simulated

PRESET = "priority-inversion"
URGENT_BACKGROUND = "workload.processes[0].groups[background].scheduling.policy=OTHER"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def test_under_mainline_urgent_faults_wait_for_a_holder_that_does_not_run(seed):
    mainline = simulated(PRESET, "mainline", seed)

    assert latency(mainline, "touch.all").max_ns > 10_000_000
    assert mainline.metrics["wait.mmap_lock_ns"] > 20 * mainline.metrics["wait.run_queue_ns"]


def inverted_ns(seed, policy):
    victims = simulated(PRESET, policy, seed).blame.victims
    return sum(row.inversion_total_ns for row in victims if row.waiter.group == "app/render")


def test_nearly_all_that_time_somebody_less_urgent_is_to_blame(seed):
    waited_ns = simulated(PRESET, "mainline", seed).metrics["wait.mmap_lock_ns"]

    assert inverted_ns(seed, "mainline") > 0.9 * waited_ns
    assert inverted_ns(seed, "rfc") == inverted_ns(seed, "hold") == 0


@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_who_comes_back_without_mmap_lock_waits_for_the_device_alone(seed, policy):
    mainline, other = simulated(PRESET, "mainline", seed), simulated(PRESET, policy, seed)

    assert other.metrics["wait.mmap_lock_ns"] == 0
    frame, frame_of_mainline = latency(other, "section.frame"), latency(mainline, "section.frame")
    assert frame.p99_ns < frame_of_mainline.p99_ns / 5
    assert frame.mean_ns < frame_of_mainline.mean_ns / 1.5


def test_a_background_that_shares_its_cpu_fairly_holds_less_up(seed):
    idle = latency(simulated(PRESET, "mainline", seed), "section.frame")
    fair = latency(simulated(PRESET, "mainline", seed, (URGENT_BACKGROUND,)), "section.frame")

    assert is_told(PRESET, URGENT_BACKGROUND)
    assert fair.p99_ns < idle.p99_ns / 2
