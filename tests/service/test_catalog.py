"""The catalog tells what a scenario may ask for: everything in it is accepted."""

import pytest
from google.protobuf.json_format import Parse

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane.v1 import scenario_pb2
from faultlane_server.policy import POLICIES
from faultlane_server.presets import preset_files
from faultlane_server.service.translate import scenario_from_wire
from tests.service.fake import Peer, Servers, a_scenario

PRESETS = dict(preset_files())


@pytest.fixture(scope="module")
def peer(module_servers: Servers) -> Peer:
    return module_servers.start()


def test_every_architecture_is_accepted_with_each_of_its_page_sizes(peer: Peer) -> None:
    listed = peer.catalog.ListArchitectures(pb.ListArchitecturesRequest()).architectures

    assert {"x86", "arm64"} <= {architecture.name for architecture in listed}
    for architecture in listed:
        for page_size in architecture.page_sizes_bytes:
            scenario = a_scenario()
            scenario.machine.arch = architecture.name
            scenario.machine.page_size_bytes = page_size
            assert scenario_from_wire(scenario).machine.page_size_bytes == page_size


def test_every_cost_of_every_machine_can_be_replaced_and_has_a_source(peer: Peer) -> None:
    for machine in peer.catalog.ListMachines(pb.ListMachinesRequest()).machines:
        scenario = a_scenario()
        scenario.machine.profile = machine.name
        scenario.machine.costs_ns.update({cost.name: cost.ns + 1 for cost in machine.costs})

        assert scenario_from_wire(scenario).machine.costs_ns.keys() >= {
            cost.name for cost in machine.costs
        }
        assert all(cost.source and cost.description for cost in machine.costs)


def test_every_kernel_and_every_policy_is_accepted(peer: Peer) -> None:
    kernels = peer.catalog.ListKernels(pb.ListKernelsRequest()).kernels
    policies = peer.catalog.ListPolicies(pb.ListPoliciesRequest()).policies

    assert {policy.id for policy in policies} == POLICIES.keys()
    for kernel in kernels:
        for policy in policies:
            if kernel.vma_lock == "none" and policy.id not in ("mainline", "mmap_lock_only"):
                continue
            wanted = scenario_pb2.Kernel(generation=kernel.name, policy_id=policy.id)
            scenario = scenario_from_wire(a_scenario(kernel=wanted))
            assert (scenario.kernel.generation, scenario.kernel.policy) == (kernel.name, policy.id)


def test_the_columns_of_a_policy_are_what_a_scenario_can_give(peer: Peer) -> None:
    for policy in peer.catalog.ListPolicies(pb.ListPoliciesRequest()).policies:
        wanted = scenario_pb2.Kernel(generation="6.18", retry_policy=policy.columns)
        scenario = scenario_from_wire(a_scenario(kernel=wanted))
        assert scenario.kernel.policy == POLICIES[policy.id].columns


def test_presets_are_listed_without_and_returned_with_their_scenario(peer: Peer) -> None:
    listed = peer.catalog.ListPresets(pb.ListPresetsRequest()).presets

    assert [preset.id for preset in listed] == sorted(PRESETS)
    for preset in listed:
        full = peer.catalog.GetPreset(pb.GetPresetRequest(id=preset.id)).preset
        assert not preset.HasField("scenario")
        assert full.HasField("scenario")
        assert all((preset.title, preset.description, preset.policies))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_makes_sense_under_each_of_its_policies(name: str) -> None:
    preset = Parse(PRESETS[name], pb.Preset())

    for policy in preset.policies:
        preset.scenario.kernel.policy_id = policy
        scenario_from_wire(preset.scenario)
