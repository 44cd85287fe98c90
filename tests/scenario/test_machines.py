"""Every machine profile has every cost, and says where it comes from."""

import re

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.machines import COSTS, MACHINES
from faultlane_server.machines.profile import Cost, MachineProfile, based_on

SOURCE = re.compile(r"assumed|(assumed|derived|published|measured): .+")
BASE = MachineProfile(
    "base", "", {"trap": Cost(150, "assumed"), "wake": Cost(701, "measured: 701")}
)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
def test_every_cost_is_there_with_its_source(machine):
    assert machine.costs.keys() == COSTS.keys()
    for cost in machine.costs.values():
        assert cost.ns >= 0
        assert SOURCE.fullmatch(cost.source), cost


def test_every_architecture_has_a_machine_of_its_own_of_which_nothing_is_measured():
    for arch in ARCHITECTURES:
        sources = [cost.source for cost in MACHINES[f"{arch}-machine"].costs.values()]
        assert not any(source.startswith(("measured", "published")) for source in sources)


def test_a_profile_has_the_costs_of_its_base_and_some_of_its_own():
    made = based_on(BASE, "mine", "", {"trap": Cost(9, "assumed: so")})

    assert made.costs == {"trap": Cost(9, "assumed: so"), "wake": BASE.costs["wake"]}


def test_costs_that_are_scaled_are_assumed_whatever_those_of_the_base_are():
    made = based_on(BASE, "mine", "", {}, tenths=25)

    assert made.costs["wake"] == Cost(1752, "assumed: 2.5 times base")


def test_a_cost_of_no_known_name_is_a_mistake():
    with pytest.raises(AssertionError, match="no known name"):
        based_on(BASE, "mine", "", {"trp": Cost(9, "assumed")})


def test_only_two_figures_of_the_pft_server_are_fitted_and_sources_say_which():
    sources = " ".join(cost.source for cost in MACHINES["pft-server"].costs.values())

    assert set(re.findall(r"pft, published ([\d.]+)", sources)) == {"0.899", "6.461"}
