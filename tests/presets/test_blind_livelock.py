"""The preset `blind-livelock` shows what its description says."""

import pytest

from faultlane_server.codes import StopReason
from tests.presets.runs import simulated

PRESET = "blind-livelock"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def test_blind_never_gets_past_the_first_touch_of_the_special_mapping(seed):
    blind = simulated(PRESET, "blind", seed)

    assert blind.stop == StopReason.NO_PROGRESS
    assert blind.diagnosis is not None
    assert "65536 attempts" in blind.diagnosis.message
    assert blind.metrics["mmap_lock.read.acquired"] == 0


@pytest.mark.parametrize(
    ("policy", "attempts"), [("mainline", 2), ("blind_once", 3), ("retry_hard", 2)]
)
def test_who_goes_to_mmap_lock_gets_past_it(seed, policy, attempts):
    summary = simulated(PRESET, policy, seed)

    assert summary.stop == StopReason.FINISHED
    assert summary.metrics["faults.attempts_max"] == attempts


def test_retry_hard_does_what_mainline_does(seed):
    mainline, hard = (simulated(PRESET, policy, seed) for policy in ("mainline", "retry_hard"))

    assert hard.fingerprint == mainline.fingerprint
