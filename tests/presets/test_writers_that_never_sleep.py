"""The preset `writers-that-never-sleep` shows what its description says."""

import pytest

from tests.presets.runs import is_told, latency, simulated

PRESET = "writers-that-never-sleep"
DEVICE_NS = 200_000
JIFFY_NS = 4_000_000  # a waiter may ask for the handoff after the end of the next one
MORE_CPUS = "machine.cpus=8"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def test_under_mainline_most_of_the_time_goes_to_mmap_lock(seed):
    metrics = simulated(PRESET, "mainline", seed).metrics

    assert metrics["wait.mmap_lock_ns"] > metrics["wait.device_ns"]
    assert metrics["wait.mmap_lock_ns"] > metrics["wait.run_queue_ns"]


@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_without_mmap_lock_faults_end_sooner_and_still_wait_for_slices_of_others(seed, policy):
    mainline, other = simulated(PRESET, "mainline", seed), simulated(PRESET, policy, seed)

    assert latency(other, "touch.all").mean_ns < latency(mainline, "touch.all").mean_ns / 2
    assert latency(other, "touch.all").p99_ns > 10 * DEVICE_NS
    assert other.metrics["wait.run_queue_ns"] > 0.3 * other.metrics["wait.device_ns"]
    assert other.metrics["wait.mmap_lock_ns"] == 0


@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_with_a_cpu_for_everybody_faults_wait_for_the_device_alone(seed, policy):
    summary = simulated(PRESET, policy, seed, (MORE_CPUS,))

    assert is_told(PRESET, MORE_CPUS)
    assert latency(summary, "touch.all").p99_ns < 6 * DEVICE_NS
    assert summary.metrics["wait.mmap_lock_ns"] == 0
    assert summary.metrics["wait.run_queue_ns"] < 0.05 * summary.metrics["wait.device_ns"]


def test_under_mainline_they_wait_until_a_queued_writer_is_handed_the_lock(seed):
    summary = simulated(PRESET, "mainline", seed, (MORE_CPUS,))
    touch = latency(summary, "touch.all")

    assert summary.metrics["wait.run_queue_ns"] < 0.05 * summary.metrics["wait.device_ns"]
    assert summary.metrics["wait.mmap_lock_ns"] > summary.metrics["wait.device_ns"]
    assert touch.p50_ns < 2 * DEVICE_NS, "most faults do not wait so long"
    assert JIFFY_NS < touch.p99_ns < touch.max_ns < 2 * JIFFY_NS + 6 * DEVICE_NS
