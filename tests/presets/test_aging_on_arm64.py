"""The preset `aging-on-arm64` shows what its description says."""

import pytest

from tests.presets.runs import is_told, latency, lock_row, simulated

PRESET = "aging-on-arm64"
NO_WALKS = "kernel.lru_gen_enabled=1"
POLICIES = ["mainline", "rfc", "hold"]

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.mark.parametrize("policy", POLICIES)
def test_walks_make_the_slowest_mmaps_wait(seed, policy):
    summary = simulated(PRESET, policy, seed)

    assert summary.metrics["lru_gen.walks"] >= 3
    assert latency(summary, "section.map_unmap").max_ns > 500_000
    assert lock_row(summary, "mmap_lock", "write").wait_max_ns > 500_000


@pytest.mark.parametrize("policy", POLICIES)
def test_without_walks_nobody_waits_for_long_and_reading_takes_as_long_as_before(seed, policy):
    walking, still = simulated(PRESET, policy, seed), simulated(PRESET, policy, seed, (NO_WALKS,))

    assert is_told(PRESET, NO_WALKS)
    assert still.metrics["lru_gen.walks"] == still.metrics["lru_gen.walks_skipped"] == 0
    assert latency(still, "section.map_unmap").max_ns < 20_000
    read_ns = latency(walking, "section.read").mean_ns
    assert latency(still, "section.read").mean_ns == pytest.approx(read_ns, rel=0.02)


def test_under_mainline_faults_wait_behind_those_who_map_while_a_walk_goes_on(seed):
    walking = simulated(PRESET, "mainline", seed)
    still = simulated(PRESET, "mainline", seed, (NO_WALKS,))

    assert lock_row(walking, "mmap_lock", "read").wait_max_ns > 500_000
    assert walking.metrics["wait.mmap_lock_ns"] > 3 * still.metrics["wait.mmap_lock_ns"]


@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_otherwise_next_to_no_fault_needs_mmap_lock(seed, policy):
    mainline, other = (simulated(PRESET, name, seed).metrics for name in ("mainline", policy))

    assert mainline["faults.via_mmap_lock"] > 0.99 * mainline["faults.count"]
    assert other["faults.via_mmap_lock"] < 0.001 * other["faults.count"]
    assert other["wait.mmap_lock_ns"] < 0.75 * mainline["wait.mmap_lock_ns"]
