"""Scenarios that come with the server: each file is the protojson of a `Preset`."""

from collections.abc import Iterator
from importlib.resources import files


def preset_files() -> Iterator[tuple[str, bytes]]:
    """Yield the id of each preset and the content of its file, in alphabetical order."""
    for entry in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            yield entry.name.removesuffix(".json"), entry.read_bytes()
