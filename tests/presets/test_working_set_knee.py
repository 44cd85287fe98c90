"""The preset `working-set-knee` shows what its description says."""

from statistics import mean

import pytest

from faultlane_server.machines import MACHINES
from tests.presets.runs import is_told, latency, simulated

PRESET = "working-set-knee"
ROUND_NS = 20 * 5  # of touches that hit
TICK_NS = MACHINES["neutral"].costs["tick"].ns  # one may strike a round
ROOM_FOR_ALL = "workload.memcgs[limited].max_bytes=72MiB"
POLICIES = ["mainline", "rfc", "hold"]
FILE_PAGES = 64 * 256

SEEDS = range(1, 4)
MORE_SEEDS = range(1, 7)  # for a mean: at 110 percent, runs differ by 3 percent

of_each_seed = pytest.mark.parametrize("seed", SEEDS)


def round_ns(policy: str, seed: int, percent: int, settings: tuple[str, ...] = ()) -> float:
    """Return the mean time of a round in one phase."""
    summary = simulated(PRESET, policy, seed, settings)
    return latency(summary, f"section.at_{percent}_percent").mean_ns


@of_each_seed
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("percent", [50, 90])
def test_no_round_faults_as_long_as_the_working_set_fits(seed, policy, percent):
    row = latency(simulated(PRESET, policy, seed), f"section.at_{percent}_percent")

    assert row.p99_ns == ROUND_NS
    assert row.max_ns <= 2 * ROUND_NS + TICK_NS


@of_each_seed
@pytest.mark.parametrize("policy", POLICIES)
def test_a_tenth_too_much_makes_rounds_a_thousand_times_as_long(seed, policy):
    assert round_ns(policy, seed, 110) > 1500 * ROUND_NS
    assert round_ns(policy, seed, 200) > 4 * round_ns(policy, seed, 110)


@of_each_seed
@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_no_policy_reads_less(seed, policy):
    mainline, other = (simulated(PRESET, name, seed).metrics for name in ("mainline", policy))
    assert other["touches.per_read"] == pytest.approx(mainline["touches.per_read"], rel=0.02)
    assert other["faults.reads_lost"] == mainline["faults.reads_lost"] == 0


@pytest.mark.parametrize("policy", ["rfc", "hold"])
@pytest.mark.parametrize("percent", [110, 200])
def test_no_policy_is_the_remedy(policy, percent):
    mainline_ns = mean(round_ns("mainline", seed, percent) for seed in MORE_SEEDS)
    other_ns = mean(round_ns(policy, seed, percent) for seed in MORE_SEEDS)

    assert other_ns == pytest.approx(mainline_ns, rel=0.02)


@of_each_seed
@pytest.mark.parametrize("policy", POLICIES)
def test_room_is(seed, policy):
    limited = simulated(PRESET, policy, seed).metrics
    roomy = simulated(PRESET, policy, seed, (ROOM_FOR_ALL,)).metrics

    assert is_told(PRESET, ROOM_FOR_ALL)
    assert roomy["device.reads"] == FILE_PAGES
    assert roomy["touches.per_read"] > 2 * limited["touches.per_read"]
    assert round_ns(policy, seed, 200, (ROOM_FOR_ALL,)) < 2 * ROUND_NS
