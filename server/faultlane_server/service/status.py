"""Which error becomes which status. What is not in the table is our bug: INTERNAL."""

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from faultlane_server.explanation import NotReproduced
from faultlane_server.runs import (
    DiskFull,
    LogExpired,
    ModelChanged,
    NoFaults,
    NoSuchFault,
    NoSuchSimulation,
    NotEnded,
    NotReady,
    OffsetOutOfRange,
    QueueFull,
    RegisterNotWritten,
    RequestIdTaken,
    ShuttingDown,
    TooLarge,
    TooManyExplained,
    TooManyStreams,
)
from faultlane_server.scenario import Violation
from faultlane_server.service.calls import CALL_ID, Context, current
from faultlane_server.service.errors import (
    InvalidRequest,
    NoSuchPreset,
    NotAllowed,
    RequestTooSlow,
    TooManyCalls,
    Unauthenticated,
)
from faultlane_server.store import CorruptLog, WrongLogFormat

DOMAIN = "faultlane"
STATUS_BYTES_MAX = 6000  # larger trailers are lost on the way
MESSAGE_CHARACTERS_MAX = 500
RETRY_LOADING_S = 1.0
RETRY_STORAGE_S = 10.0

logger = logging.getLogger(__name__)


class _Rule(NamedTuple):
    code: grpc.StatusCode
    reason: str  # empty: the error has one
    details: Callable[[Any], Sequence[Message]]
    metadata: Callable[[Any], Mapping[str, str]] = lambda _: {}  # of the ErrorInfo


def _bad_request(error: InvalidRequest) -> list[Message]:
    return [bad_request(error.violations)]


def _no_such_simulation(error: NoSuchSimulation) -> list[Message]:
    return [_resource("faultlane.v1.Simulation", error.name)]


def _no_such_preset(error: NoSuchPreset) -> list[Message]:
    return [_resource("faultlane.v1.Preset", error.preset)]


def _taken(error: RequestIdTaken) -> list[Message]:
    return [_resource("faultlane.v1.Simulation", error.name)]


def _not_ended(error: NotEnded) -> list[Message]:
    return [_resource("faultlane.v1.Simulation", error.name)]


def _roles(error: NotAllowed) -> dict[str, str]:
    return {"role": error.role, "needs": error.needs}


def _later(
    error: QueueFull | TooManyStreams | TooManyExplained | TooManyCalls | DiskFull,
) -> list[Message]:
    return [_retry_after(error.retry_after_s)]


def _too_large(error: TooLarge) -> list[Message]:
    failure = details.QuotaFailure()
    for excess in error.excesses:
        failure.violations.add(
            subject=excess.what, description=f"want at most {excess.most}, got {excess.got}"
        )
    return [failure]


def _earliest(error: LogExpired) -> dict[str, str]:
    return {"earliest_offset": str(error.earliest)}


def _not_ready(_: NotReady) -> list[Message]:
    return [_retry_after(RETRY_LOADING_S)]


def _storage(_: RegisterNotWritten) -> list[Message]:
    return [_retry_after(RETRY_STORAGE_S)]


def _no_details(_: Exception) -> list[Message]:
    return []


STATUS_OF: dict[type[Exception], _Rule] = {
    InvalidRequest: _Rule(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", _bad_request),
    NoSuchSimulation: _Rule(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SIMULATION", _no_such_simulation),
    NoSuchPreset: _Rule(grpc.StatusCode.NOT_FOUND, "NO_SUCH_PRESET", _no_such_preset),
    RequestIdTaken: _Rule(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_TAKEN", _taken),
    OffsetOutOfRange: _Rule(grpc.StatusCode.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", _no_details),
    NotEnded: _Rule(grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENDED", _not_ended),
    LogExpired: _Rule(grpc.StatusCode.OUT_OF_RANGE, "LOG_EXPIRED", _no_details, _earliest),
    NoSuchFault: _Rule(grpc.StatusCode.OUT_OF_RANGE, "NO_SUCH_FAULT", _no_details),
    NoFaults: _Rule(grpc.StatusCode.FAILED_PRECONDITION, "NO_FAULTS", _no_details),
    ModelChanged: _Rule(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CHANGED", _no_details),
    NotReproduced: _Rule(grpc.StatusCode.FAILED_PRECONDITION, "NOT_REPRODUCED", _no_details),
    QueueFull: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", _later),
    TooManyStreams: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", _later),
    TooManyExplained: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_EXPLAINED", _later),
    DiskFull: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL", _later),
    TooLarge: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE", _too_large),
    RegisterNotWritten: _Rule(grpc.StatusCode.UNAVAILABLE, "STORAGE", _storage),
    WrongLogFormat: _Rule(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_LOG_FORMAT", _no_details),
    NotReady: _Rule(grpc.StatusCode.UNAVAILABLE, "NOT_READY", _not_ready),
    ShuttingDown: _Rule(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", _no_details),
    CorruptLog: _Rule(grpc.StatusCode.DATA_LOSS, "CORRUPT_LOG", _no_details),
    RequestTooSlow: _Rule(grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW", _no_details),
    Unauthenticated: _Rule(grpc.StatusCode.UNAUTHENTICATED, "", _no_details),
    NotAllowed: _Rule(grpc.StatusCode.PERMISSION_DENIED, "ROLE", _no_details, _roles),
    TooManyCalls: _Rule(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", _later),
}

# What tells a client that it should have a token, as in HTTP.
ASK_FOR_TOKEN = ("www-authenticate", 'Bearer realm="faultlane"')


@asynccontextmanager
async def errors_as_status(context: Context) -> AsyncIterator[None]:
    """End the call with the status of whatever error comes out of the block."""
    try:
        yield
    except Exception as error:
        code, status = status_of(error)
        trailers: list[tuple[str, str | bytes]] = [
            ("grpc-status-details-bin", status.SerializeToString())
        ]
        if call := current():
            trailers.append((CALL_ID, call.id))
        if code is grpc.StatusCode.UNAUTHENTICATED:
            trailers.append(ASK_FOR_TOKEN)
        await context.abort(code, status.message, tuple(trailers))


def status_of(error: Exception) -> tuple[grpc.StatusCode, Status]:
    """Return the status of an error, with its details."""
    rule = STATUS_OF.get(type(error))
    if rule is None:
        return grpc.StatusCode.INTERNAL, _internal(error)
    reason = rule.reason or getattr(error, "reason", "")
    info = details.ErrorInfo(reason=reason, domain=DOMAIN, metadata=rule.metadata(error))
    return rule.code, _status(rule.code, str(error), [info, *rule.details(error)])


def bad_request(violations: Sequence[Violation]) -> details.BadRequest:
    """Name the violations, as many as a trailer can carry."""
    found = details.BadRequest()
    for number, violation in enumerate(violations):
        entry = found.field_violations.add(
            field=_cut(violation.field, 300),
            description=f"want {_cut(violation.want, 400)}, got {_cut(repr(violation.got), 100)}",
        )
        if found.ByteSize() > STATUS_BYTES_MAX - MESSAGE_CHARACTERS_MAX * 2:
            entry.field = ""
            entry.description = f"and {len(violations) - number} more"
            break
    return found


def _internal(error: Exception) -> Status:
    incident = uuid.uuid4().hex
    call = current()
    extra = {"call": call.id, "simulation": call.simulation} if call else {}
    logger.error("internal error, incident %s", incident, exc_info=error, extra=extra)
    info = details.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": incident})
    message = f"a bug of the server: please report it with the incident id {incident}"
    return _status(grpc.StatusCode.INTERNAL, message, [info])


def _status(code: grpc.StatusCode, message: str, contents: Sequence[Message]) -> Status:
    status = Status(code=code.value[0], message=_cut(message, MESSAGE_CHARACTERS_MAX))
    for content in contents:
        packed = AnyMessage()
        packed.Pack(content)
        status.details.append(packed)
    return status


def _resource(kind: str, name: str) -> details.ResourceInfo:
    return details.ResourceInfo(resource_type=kind, resource_name=_cut(name, 300))


def _retry_after(seconds: float) -> details.RetryInfo:
    return details.RetryInfo(retry_delay=Duration(nanos=0, seconds=max(1, round(seconds))))


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
