"""Runs of a preset, as its user makes them."""

from functools import cache

from google.protobuf.json_format import Parse

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.engine import Simulator
from faultlane_server.presets import preset_files
from faultlane_server.service.translate import scenario_from_wire
from faultlane_server.summary import Latency, Summary


@cache
def simulated(name: str, policy: str, seed: int = 1, *, page_size_bytes: int = 0) -> Summary:
    """Run a preset under a policy, with another page size if one is given."""
    preset = Parse(dict(preset_files())[name], pb.Preset())
    preset.scenario.kernel.policy_id = policy
    preset.scenario.seed = seed
    if page_size_bytes:
        preset.scenario.machine.page_size_bytes = page_size_bytes
    simulator = Simulator(scenario_from_wire(preset.scenario))
    while not simulator.advance():
        simulator.take_rows()
    return simulator.summary()


def latency(summary: Summary, name: str) -> Latency:
    """Return the row of that name."""
    return next(row for row in summary.latencies if row.name == name)
