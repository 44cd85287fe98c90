"""The preset `fork-of-many-vmas` shows what its description says."""

import pytest

from tests.presets.runs import is_told, latency, lock_row, simulated

PRESET = "fork-of-many-vmas"
VMAS = 300 * 16
DEVICE_NS = 6_000_000  # half of the faults wait longer than that: the device has a queue
SKIPS = "kernel.fork_skips=FILE_WITHOUT_ANON_VMA"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_each_thread_maps_its_parts_and_its_faults_wait_for_the_device(seed, policy):
    summary = simulated(PRESET, policy, seed)

    assert latency(summary, "operation.mmap").count > VMAS
    assert latency(summary, "fault.all").p50_ns > DEVICE_NS


@pytest.mark.parametrize("policy", ["mainline", "rfc"])
def test_who_lets_go_of_the_lock_lets_a_fork_pass(seed, policy):
    summary = simulated(PRESET, policy, seed)

    assert latency(summary, "section.fork").max_ns < 2_000_000
    assert latency(summary, "section.map_unmap").max_ns < 2_000_000


def test_under_hold_a_fork_waits_for_one_read_after_another_and_everybody_behind_it(seed):
    mainline, hold = simulated(PRESET, "mainline", seed), simulated(PRESET, "hold", seed)

    fork_ns = latency(mainline, "section.fork").mean_ns
    assert latency(hold, "section.fork").mean_ns > 40 * fork_ns
    assert latency(hold, "section.fork").p50_ns > 10 * DEVICE_NS
    assert latency(hold, "section.map_unmap").max_ns > 10 * DEVICE_NS
    assert latency(hold, "section.work").p99_ns > 1.3 * latency(mainline, "section.work").p99_ns
    assert hold.metrics["wait.mmap_lock_ns"] > 10 * mainline.metrics["wait.mmap_lock_ns"]


def test_forks_under_hold_wait_for_readers_of_vmas_and_otherwise_do_not(seed):
    waits_ns = {
        policy: lock_row(simulated(PRESET, policy, seed), "vma_lock", "write").wait_total_ns
        for policy in ("mainline", "rfc", "hold")
    }

    assert waits_ns["hold"] > 300_000_000
    assert waits_ns["mainline"] < 1_000_000
    assert waits_ns["rfc"] < 1_000_000


def test_a_fork_that_passes_by_the_files_is_as_fast_under_hold(seed):
    mainline = latency(simulated(PRESET, "mainline", seed), "section.fork")
    skipping = simulated(PRESET, "hold", seed, (SKIPS,))

    assert is_told(PRESET, SKIPS)
    assert latency(skipping, "section.fork").max_ns <= mainline.max_ns
    assert latency(skipping, "section.map_unmap").max_ns < 2_000_000
