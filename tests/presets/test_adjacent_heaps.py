"""The preset `adjacent-heaps` shows what its description says."""

import pytest

from tests.presets.runs import latency, lock_row, simulated

PRESET = "adjacent-heaps"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_a_part_of_the_heaps_is_in_swap(seed, policy):
    metrics = simulated(PRESET, policy, seed).metrics

    assert metrics["vmstat.pswpin"] > 4000
    assert metrics["memory.events.oom"] == 0


@pytest.mark.parametrize("section", ["section.map", "section.unmap"])
@pytest.mark.parametrize("policy", ["mainline", "rfc"])
def test_who_lets_go_of_the_lock_keeps_no_neighbour_waiting(seed, policy, section):
    assert latency(simulated(PRESET, policy, seed), section).p90_ns < 10_000


@pytest.mark.parametrize("section", ["section.map", "section.unmap"])
def test_under_hold_the_neighbours_of_a_fault_wait_for_the_swap_device(seed, section):
    mainline, hold = simulated(PRESET, "mainline", seed), simulated(PRESET, "hold", seed)

    assert latency(hold, section).p90_ns > 200_000
    assert latency(hold, section).p90_ns > 30 * latency(mainline, section).p90_ns
    assert latency(hold, section).mean_ns > 4 * latency(mainline, section).mean_ns


def test_under_hold_that_is_a_wait_for_readers_of_the_common_vma(seed):
    waits_ns = {
        policy: lock_row(simulated(PRESET, policy, seed), "vma_lock", "write").wait_total_ns
        for policy in ("mainline", "rfc", "hold")
    }

    assert waits_ns["hold"] > 20_000_000
    assert waits_ns["hold"] > 5 * waits_ns["mainline"]
    assert waits_ns["hold"] > 5 * waits_ns["rfc"]


def test_under_rfc_faults_leave_mmap_lock_alone(seed):
    mainline, rfc = (simulated(PRESET, name, seed).metrics for name in ("mainline", "rfc"))

    assert mainline["mmap_lock.read.acquired"] > 0.9 * mainline["vmstat.pgmajfault"]
    assert rfc["mmap_lock.read.acquired"] < 0.05 * rfc["vmstat.pgmajfault"]


def test_split_by_kind_is_rfc_where_there_are_no_files(seed):
    assert simulated(PRESET, "split_by_kind", seed).fingerprint == (
        simulated(PRESET, "rfc", seed).fingerprint
    )
