"""The presets as messages, parsed when the server starts."""

from google.protobuf import json_format

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.presets import preset_files
from faultlane_server.service.errors import NoSuchPreset


class Presets:
    """All presets, by id."""

    def __init__(self) -> None:
        self._presets = {name: _parsed(name, content) for name, content in preset_files()}

    def get(self, preset: str) -> pb.Preset:
        try:
            return self._presets[preset]
        except KeyError:
            raise NoSuchPreset(preset) from None

    def list(self) -> list[pb.Preset]:
        """Return all of them, without their scenarios."""
        return [_without_scenario(preset) for preset in self._presets.values()]


def _parsed(name: str, content: bytes) -> pb.Preset:
    preset = json_format.Parse(content, pb.Preset())
    assert preset.id == name, f"preset {name} calls itself {preset.id}"
    return preset


def _without_scenario(preset: pb.Preset) -> pb.Preset:
    short = pb.Preset()
    short.CopyFrom(preset)
    short.ClearField("scenario")
    return short
