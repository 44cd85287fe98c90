"""What a request asks for, in the terms of the rooms below; all that is wrong with it at once."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import Message

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.codes import FaultChoice
from faultlane_server.runs import Order, Which, Window
from faultlane_server.scenario import Violation
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.service.translate import scenario_from_wire

BATCH_ROWS = 8192
BATCH_ROWS_MAX = 65536
REQUEST_ID_CHARACTERS_MAX = 128

_NAME = re.compile(r"simulations/[a-z0-9-]{1,64}")

NamedRequest: TypeAlias = (
    pb.GetSimulationRequest | pb.CancelSimulationRequest | pb.ExplainFaultRequest
)
StreamRequest: TypeAlias = pb.StreamEventsRequest | pb.StreamOperationsRequest


class _Rule(NamedTuple):
    want: str
    holds: Callable[[Any], bool]


# Fields that mean the same in every request that has them.
_RULES = {
    "name": _Rule("simulations/{id}", lambda name: bool(_NAME.fullmatch(name))),
    "request_id": _Rule(
        f"at most {REQUEST_ID_CHARACTERS_MAX} characters",
        lambda request_id: len(request_id) <= REQUEST_ID_CHARACTERS_MAX,
    ),
    "batch_rows": _Rule(f"0 to {BATCH_ROWS_MAX}", lambda rows: rows <= BATCH_ROWS_MAX),
}


def name_of(request: NamedRequest | StreamRequest) -> str:
    """Return the name of the simulation that the request is about."""
    _require(_violations_of(request))
    return request.name


def window_of(request: StreamRequest) -> Window:
    """Return the rows that the request is about."""
    _require(_violations_of(request))
    return Window(
        offset=request.offset,
        rows_at_once=request.batch_rows or BATCH_ROWS,
        limit=request.limit or None,
        follows=not request.no_follow,
    )


def which_of(request: pb.ExplainFaultRequest) -> Which:
    """Return which fault the request is about."""
    found = _violations_of(request)
    kind = request.WhichOneof("which")
    choices: dict[int, FaultChoice] = {choice.value: choice for choice in FaultChoice}
    if kind is None:
        found.append(Violation("which", "a fault, or a choice", None))
    elif kind == "choice" and request.choice not in choices:
        want = f"one of {', '.join(choice.name for choice in FaultChoice)}"
        found.append(Violation("choice", want, request.choice))
    _require(found)
    return choices[request.choice] if kind == "choice" else request.fault


def whole_log(request: pb.RunSimulationRequest) -> Window:
    """Return a window over all rows of a run, in batches as asked for."""
    return Window(offset=0, rows_at_once=request.batch_rows or BATCH_ROWS)


def order_of(request: pb.CreateSimulationRequest | pb.RunSimulationRequest) -> Order:
    """Return what is to be simulated. Takes long for long lists of pages."""
    found = _violations_of(request)
    try:
        scenario = scenario_from_wire(request.scenario if request.HasField("scenario") else None)
    except InvalidRequest as error:
        raise InvalidRequest([*found, *error.violations]) from error
    _require(found)
    return Order(
        scenario=scenario,
        as_asked=request.scenario.SerializeToString(deterministic=True),
        request_id=request.request_id,
        validate_only=isinstance(request, pb.CreateSimulationRequest) and request.validate_only,
    )


def _violations_of(request: Message) -> list[Violation]:
    return [
        Violation(field, rule.want, getattr(request, field))
        for field, rule in _RULES.items()
        if field in request.DESCRIPTOR.fields_by_name and not rule.holds(getattr(request, field))
    ]


def _require(violations: list[Violation]) -> None:
    """Raise if anything is wrong."""
    if violations:
        raise InvalidRequest(violations)
