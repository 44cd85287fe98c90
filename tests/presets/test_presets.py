"""Every preset is small, compares something, and is told of in the README."""

from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.policy import POLICIES
from faultlane_server.presets import preset_files
from tests.presets.runs import simulated

PRESETS = {name: Parse(content, pb.Preset()) for name, content in preset_files()}
README = Path(__file__).parents[2] / "README.md"

FAULTS_MAX = 100_000  # of one run: a comparison takes seconds


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_compares_known_policies_with_the_one_that_it_runs_by_itself(name):
    preset = PRESETS[name]

    assert len(preset.policies) >= 3
    assert set(preset.policies) <= POLICIES.keys()
    assert preset.scenario.kernel.policy_id in preset.policies
    assert preset.policies[0] == "mainline", "all differences are from what the kernel does"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_runs_in_a_moment(name):
    for policy in PRESETS[name].policies:
        metrics = simulated(name, policy).metrics
        assert metrics["faults.count"] < FAULTS_MAX
        assert metrics["faults.attempts"] < 10 * FAULTS_MAX


@pytest.mark.parametrize("name", PRESETS)
def test_a_description_tells_of_all_policies_and_what_to_look_at(name):
    preset = PRESETS[name]

    untold = [policy for policy in preset.policies if policy not in preset.description]
    assert untold == []
    assert "Look at" in preset.description or "Compare" in preset.description


def test_the_readme_has_a_row_for_each_preset():
    rows = [row for row in README.read_text().splitlines() if row.startswith("| `")]
    named = [name for row in rows for name in row.split("|")[1].replace("`", "").split(", ")]

    assert {name.strip() for name in named} >= PRESETS.keys()
