"""What can go wrong, and what to do about it.

* FaultlaneError
  + InvalidRequest        fields of a request make no sense: change them
    - InvalidScenario     the same for a scenario, also one that was read from a file
  + NoSuchSimulation      the server does not know the simulation: look at the name
  + NoSuchPreset          the server has no such preset: see `list_presets`
  + AlreadyExists         the request id belongs to another request: choose a new one
  + OffsetOutOfRange      the log ends before the offset: begin earlier
    - LogExpired          the server has let the rows go: run the scenario again
  + NoSuchFault           the log has no such fault: the message says how many it has
  + CannotExplain         the fault cannot be explained, now or at all: see the reason
  + NotEnded              what is to be deleted is queued or runs: cancel it first
  + QueueFull             the server has no room for it: try again later
  + TooLarge              the scenario needs more than one run may have: make it smaller
  + Unauthenticated       the server wants a token, or another one: see `faultlane.Access`
  + NotAllowed            the token is not good for this: ask for one with another role
  + Unavailable           the server did not answer: look at the address
  + TimedOut              the answer did not come in time: allow more time
  + StreamCut             the stream ended before the run did: read on from where it stopped
  + ServerBug             the server failed: report it with the incident id
  + RunFailed             the run could not be brought to an end: see the reason
  + RunCancelled          the run was cancelled, so it has no summary
  + MissingExtra          a part of faultlane is not installed: install the extra
  + CannotMeasure         the costs of this machine cannot be measured: see the reason
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from reprlib import Repr
from typing import NamedTuple, TypeVar, cast

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

Detail = TypeVar("Detail", bound=Message)

_SHORT = Repr()  # of what may be a whole file
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


class FaultlaneError(Exception):
    """Anything that goes wrong in a call, and the only error itself that no other name fits.

    Examples
    --------
    >>> try:
    ...     client.get_simulation("simulations/nobody")
    ... except FaultlaneError as error:
    ...     print(f"{type(error).__name__}: {error}")
    NoSuchSimulation: there is no simulation simulations/nobody
    """


class Violation(NamedTuple):
    """A field whose value makes no sense."""

    field: str
    description: str  # "want ..., got ..."
    place: str = ""  # `file:line`, if the value was read from a file

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.place, self.field, self.description]))


def want_got(field: str, want: str, got: object) -> Violation:
    """A violation in the one form that all of them have."""
    return Violation(field, f"want {want}, got {_SHORT.repr(got)}")


class InvalidRequest(FaultlaneError):
    """Fields of a request have values that make no sense: all of them, not the first."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(str(violation) for violation in violations))
        self.violations = tuple(violations)


class InvalidScenario(InvalidRequest):
    """Fields of a scenario have values that make no sense: all of them, not the first.

    Their paths begin in the scenario, as those of `set_field` do.

    Examples
    --------
    >>> try:
    ...     client.submit(pb.Scenario())
    ... except InvalidScenario as error:
    ...     print([violation.field for violation in error.violations])
    ['workload', 'machine', 'kernel', 'horizon_ns']
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(
            [each._replace(field=each.field.removeprefix("scenario.")) for each in violations]
        )


class NoSuchSimulation(FaultlaneError):
    """The server has no simulation of that name."""


class NoSuchPreset(FaultlaneError):
    """The server has no preset of that id."""


class AlreadyExists(FaultlaneError):
    """The request id was used before, with another request."""


class OffsetOutOfRange(FaultlaneError):
    """The offset is beyond the end of the log of a simulation that has ended."""


class LogExpired(OffsetOutOfRange):
    """The rows are gone; `earliest_offset` is the first that can be read, the end of the log."""

    def __init__(self, message: str, earliest_offset: int) -> None:
        super().__init__(message)
        self.earliest_offset = earliest_offset


class NoSuchFault(FaultlaneError):
    """The log of a simulation that has ended has no such row."""


class CannotExplain(FaultlaneError):
    """A fault cannot be explained; `reason` is the word for it in the proto's `ExplainFault`."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotEnded(FaultlaneError):
    """Only what has ended can be deleted."""


class TooLarge(FaultlaneError):
    """The scenario makes sense, but needs more than the server gives to one run."""


class QueueFull(FaultlaneError):
    """The server has no room: in its queue, on its disk, or for another stream, call, explanation.

    `retry_after_s`, if known, says when to come back.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unauthenticated(FaultlaneError):
    """The server wants a token and was given none, or none that it knows."""


class NotAllowed(FaultlaneError):
    """The role of the token is not enough for the call."""


class Unavailable(FaultlaneError):
    """The server does not answer, is not ready yet, or shuts down."""


class TimedOut(FaultlaneError):
    """The answer did not come within the time that the call allowed."""


class StreamCut(FaultlaneError):
    """A stream ended without the simulation that its last message carries."""


class ServerBug(FaultlaneError):
    """The server failed in a way that is its own fault; `incident` is what its log calls it."""

    def __init__(self, message: str, incident: str = "") -> None:
        super().__init__(message)
        self.incident = incident


class RunFailed(FaultlaneError):
    """The run could not be brought to an end; `reason` is the word for it in `RunError`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class RunCancelled(FaultlaneError):
    """The run was cancelled, so it has no summary."""


class MissingExtra(FaultlaneError):
    """A part of faultlane that was asked for is not installed."""


class CannotMeasure(FaultlaneError):
    """The costs of this machine cannot be measured."""


@contextmanager
def errors_from_status(
    *,
    invalid: type[InvalidRequest] = InvalidRequest,
    not_found: type[FaultlaneError] = NoSuchSimulation,
    out_of_range: type[FaultlaneError] = OffsetOutOfRange,
    cannot: Callable[[str, str], FaultlaneError] | None = None,
) -> Iterator[None]:
    """Turn the status of a call into one of our errors.

    What a bad argument or a missing thing is depends on the call, so the call says it. `cannot`
    makes an error of a message and a reason when what was asked for is not in a state for it.
    """
    named = {grpc.StatusCode.NOT_FOUND: not_found, grpc.StatusCode.OUT_OF_RANGE: out_of_range}
    try:
        yield
    except grpc.RpcError as error:
        raise _error_from(error, invalid, named, cannot) from error


def _error_from(
    error: grpc.RpcError,
    invalid: type[InvalidRequest],
    named: dict[grpc.StatusCode, type[FaultlaneError]],
    cannot: Callable[[str, str], FaultlaneError] | None,
) -> FaultlaneError:
    code, message = error.code(), error.details() or ""
    status = rpc_status.from_call(cast(grpc.Call, error)) or Status()
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return invalid(_violations(status) or [Violation("", message)])
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _reason(status) != "TOO_LARGE":
        return QueueFull(message, _retry_after_s(status))
    if _reason(status) == "LOG_EXPIRED":
        return LogExpired(message, int(_metadata(status, "earliest_offset")))
    if code is grpc.StatusCode.FAILED_PRECONDITION and cannot is not None:
        return cannot(message, _reason(status))
    if _reason(status) in _BY_REASON:
        return _BY_REASON[_reason(status)](message)
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return ServerBug(message, _metadata(status, "incident"))
    if code is grpc.StatusCode.CANCELLED and _CLOSED not in message:
        # So ends a call with which a server has not begun when it begins to shut down.
        return Unavailable(message)
    plain = {**_PLAIN, **named}
    if code in plain:
        return plain[code](message)
    return FaultlaneError(f"{code.name}: {message}")


_CLOSED = "Channel closed"  # by ourselves

_PLAIN: dict[grpc.StatusCode, type[FaultlaneError]] = {
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


_BY_REASON: dict[str, type[FaultlaneError]] = {
    "NOT_ENDED": NotEnded,
    "TOO_LARGE": TooLarge,
}


def _violations(status: Status) -> list[Violation]:
    found = _detail(status, error_details_pb2.BadRequest)
    if found is None:
        return []
    return [Violation(entry.field, entry.description) for entry in found.field_violations]


def _retry_after_s(status: Status) -> float | None:
    found = _detail(status, error_details_pb2.RetryInfo)
    return None if found is None else found.retry_delay.ToTimedelta().total_seconds()


def _reason(status: Status) -> str:
    found = _detail(status, error_details_pb2.ErrorInfo)
    return "" if found is None else found.reason


def _metadata(status: Status, name: str) -> str:
    found = _detail(status, error_details_pb2.ErrorInfo)
    return "" if found is None else found.metadata.get(name, "")


def _detail(status: Status, kind: type[Detail]) -> Detail | None:
    """The first detail of a kind, if there is one."""
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
