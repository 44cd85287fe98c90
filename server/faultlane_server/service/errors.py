"""What is wrong with a request, as far as only the service can tell.

* RequestError
  + InvalidRequest   fields have values that make no sense
  + NoSuchPreset     there is no preset of that id
"""

from collections.abc import Sequence

from faultlane_server.scenario import Violation


class RequestError(Exception):
    """A request cannot be answered as it is."""


class InvalidRequest(RequestError):
    """Fields of the request have values that make no sense: all of them, not the first."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(f"fields of the request make no sense: {len(violations)}")
        self.violations = tuple(violations)


class NoSuchPreset(RequestError):
    """There is no preset of that id."""

    def __init__(self, preset: str) -> None:
        super().__init__(f"there is no preset {preset!r}: see ListPresets")
        self.preset = preset
