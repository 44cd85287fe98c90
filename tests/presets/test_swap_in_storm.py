"""The preset `swap-in-storm` shows what its description says."""

import pytest

from tests.presets.runs import is_told, latency, simulated

PRESET = "swap-in-storm"
MAPPER = "workload.processes[test].groups[mapper].program[0].loop"
NOBODY_MAPS = f"{MAPPER}.steps[1].sleep.duration.exponential_mean_ns=10s"
ON_THE_VMA_LOCK = ["rfc", "hold", "v2"]

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def attempts_per_fault(policy: str, seed: int) -> float:
    metrics = simulated(PRESET, policy, seed).metrics
    return metrics["faults.attempts"] / metrics["faults.count"]


@pytest.mark.parametrize("policy", ON_THE_VMA_LOCK)
def test_swap_ins_are_twice_as_many_if_faults_do_not_come_back_under_mmap_lock(seed, policy):
    mainline, other = simulated(PRESET, "mainline", seed), simulated(PRESET, policy, seed)

    assert other.metrics["touches.per_second"] > 2 * mainline.metrics["touches.per_second"]
    assert mainline.metrics["wait.mmap_lock_ns"] > 10**9
    assert other.metrics["wait.mmap_lock_ns"] == other.metrics["faults.via_mmap_lock"] == 0


@pytest.mark.parametrize("policy", ON_THE_VMA_LOCK)
def test_who_maps_gets_through_sooner_too(seed, policy):
    mainline_ns = latency(simulated(PRESET, "mainline", seed), "section.map_unmap").mean_ns

    assert mainline_ns > 8_000_000
    map_ns = latency(simulated(PRESET, policy, seed), "section.map_unmap").mean_ns
    assert map_ns < 0.5 * mainline_ns


def test_v2_saves_a_few_attempts_and_hold_saves_all_but_one(seed):
    assert attempts_per_fault("hold", seed) < 1.001
    assert attempts_per_fault("v2", seed) < 0.99 * attempts_per_fault("rfc", seed)
    rfc, v2 = (simulated(PRESET, name, seed).metrics for name in ("rfc", "v2"))
    assert v2["touches.per_second"] == pytest.approx(rfc["touches.per_second"], rel=0.03)


@pytest.mark.parametrize("policy", ON_THE_VMA_LOCK)
def test_without_the_thread_that_maps_all_policies_are_alike(seed, policy):
    mainline, other = (
        simulated(PRESET, name, seed, (NOBODY_MAPS,)).metrics["touches.per_second"]
        for name in ("mainline", policy)
    )

    assert is_told(PRESET, NOBODY_MAPS)
    assert other == pytest.approx(mainline, rel=0.1)
