"""Runs of a preset, as its user makes them."""

from functools import cache

from google.protobuf.json_format import Parse

from faultlane.scenario import set_fields
from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.engine import Simulator
from faultlane_server.presets import preset_files
from faultlane_server.service.translate import scenario_from_wire
from faultlane_server.summary import Latency, LockRow, Summary


@cache
def simulated(name: str, policy: str, seed: int = 1, settings: tuple[str, ...] = ()) -> Summary:
    """Run a preset under a policy, with fields set as by `--set`: PATH=VALUE."""
    preset = Parse(dict(preset_files())[name], pb.Preset())
    preset.scenario.kernel.policy_id = policy
    preset.scenario.seed = seed
    set_fields(preset.scenario, [_path_and_value(setting) for setting in settings])
    simulator = Simulator(scenario_from_wire(preset.scenario))
    while not simulator.advance():
        simulator.take_rows()
    return simulator.summary()


def _path_and_value(setting: str) -> tuple[str, str]:
    path, _, value = setting.partition("=")
    return path, value


def is_told(name: str, setting: str) -> bool:
    """Whether a preset's description says to try a setting."""
    return f"--set {setting}" in Parse(dict(preset_files())[name], pb.Preset()).description


def lock_row(summary: Summary, lock: str, mode: str) -> LockRow:
    """Return the row of a lock in the lock table."""
    return next(row for row in summary.locks if (row.lock, row.mode) == (lock, mode))


def latency(summary: Summary, name: str) -> Latency:
    """Return the row of that name."""
    return next(row for row in summary.latencies if row.name == name)
