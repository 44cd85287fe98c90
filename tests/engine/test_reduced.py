"""What is found to be broken is told as a small scenario that anybody can run."""

import pytest
from google.protobuf.json_format import Parse

from faultlane import v1 as pb
from faultlane_server.scenario import Scenario, Step, check
from faultlane_server.scenario.tree import Loop, Measure, Munmap
from faultlane_server.service.translate import scenario_from_wire
from tests.engine.random_scenarios import a_random_scenario
from tests.engine.reduced import reduced, to_message, write_scenario

SEEDS = range(40)


def steps_of(steps: tuple[Step, ...]) -> list[Step]:
    inner = [each for step in steps if isinstance(step, Loop | Measure) for each in step.steps]
    return [*steps, *(steps_of(tuple(inner)) if inner else [])]


def unmaps(scenario: Scenario) -> bool:
    """Whether any thread calls munmap."""
    groups = [group for process in scenario.workload.processes for group in process.groups]
    return any(isinstance(step, Munmap) for group in groups for step in steps_of(group.program))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scenario_is_the_same_as_a_file(seed, tmp_path):
    scenario = a_random_scenario(seed)
    write_scenario(scenario, tmp_path / "scenario.json")

    read = Parse((tmp_path / "scenario.json").read_text(), pb.Scenario())
    assert scenario_from_wire(read) == check(scenario)


def test_nothing_stays_that_is_not_needed():
    seed = next(seed for seed in SEEDS if unmaps(a_random_scenario(seed)))

    small = reduced(a_random_scenario(seed), unmaps)

    assert unmaps(small)
    (process,) = small.workload.processes
    (group,) = process.groups
    assert len(steps_of(group.program)) <= 4, "munmap, what it unmaps, and loops around them"
    assert len(to_message(small).SerializeToString()) < 400
