"""Whatever a scenario does, its faults can be explained, and the explanations add up."""

import os
from collections.abc import Mapping

import numpy as np
import pytest

from faultlane_server.engine import Simulator
from faultlane_server.explain import explain
from faultlane_server.scenario import Scenario
from tests.engine.random_scenarios import a_random_scenario
from tests.explain.told import assert_adds_up

pytestmark = pytest.mark.uncompiled_too

IS_UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
SEEDS = range(2 if IS_UNCOMPILED else 15)
EVENTS_MAX = 1_000 if IS_UNCOMPILED else 40_000


def faults_of(scenario: Scenario) -> Mapping[str, np.ndarray]:
    """The faults that end within some events."""
    simulator = Simulator(scenario)
    parts = []
    has_ended = False
    while not has_ended and simulator.world.events < EVENTS_MAX:
        has_ended = simulator.advance(EVENTS_MAX // 8)
        parts.append(simulator.take_rows()[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_slowest_the_most_retried_and_some_others_add_up(seed: int) -> None:
    scenario = a_random_scenario(seed)
    faults = faults_of(scenario)
    count = len(faults["thread"])
    if not count:
        return
    slowest, most_retried = (int(np.argmax(faults[name])) for name in ("duration_ns", "attempts"))
    for number in {slowest, most_retried, 0, count - 1}:
        fault = {name: int(column[number]) for name, column in faults.items()}

        assert_adds_up(explain(scenario, fault), fault)
