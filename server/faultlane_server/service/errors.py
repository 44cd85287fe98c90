"""What is wrong with a request, as far as only the service can tell.

* RequestError
  + InvalidRequest    fields have values that make no sense
  + NoSuchPreset      there is no preset of that id
  + RequestTooSlow    it did not arrive in time
  + Unauthenticated   it has no token, or one that is not good
  + NotAllowed        the role of its token does not reach that far
  + TooManyCalls      whoever has the token has made too many calls lately
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


class RequestTooSlow(RequestError):
    """The request did not arrive in the time that one may take."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"want a request within {seconds:g} s of the call, got none")


class Unauthenticated(RequestError):
    """The call has no token, or one that is not good; which of both, and nothing else."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotAllowed(RequestError):
    """The role of the token does not reach that far."""

    def __init__(self, role: str, needs: str) -> None:
        super().__init__(f"want a token with the role {needs}, got one with the role {role}")
        self.role = role
        self.needs = needs


class TooManyCalls(RequestError):
    """Whoever has the token has made as many calls in the last minute as they may."""

    def __init__(self, calls_max: int, retry_after_s: float) -> None:
        super().__init__(f"want at most {calls_max} calls a minute")
        self.retry_after_s = retry_after_s
