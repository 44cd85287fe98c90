"""What a request asks for, in the terms of the rooms below; all that is wrong with it at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import Message

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.codes import FaultChoice, FaultKind, OperationKind
from faultlane_server.runs import Order, RowFilter, RunOptions, Which, Window
from faultlane_server.scenario import Violation
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.service.translate import scenario_from_wire

BATCH_ROWS = 4096
BATCH_ROWS_MAX = 65536
PAGE_SIZE_MAX = 1000
REQUEST_ID_CHARACTERS_MAX = 128
LABELS_MAX = 64
LABEL_NAME_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255
FILTERED_MAX = 1024
RUN_TIMEOUT_MS_MAX = 10**12  # a lifetime: what is longer is a mistake

_NAME = re.compile(r"simulations/[a-z0-9-]{1,64}")

NamedRequest: TypeAlias = (
    pb.GetSimulationRequest
    | pb.WatchSimulationRequest
    | pb.CancelSimulationRequest
    | pb.ExplainFaultRequest
    | pb.DeleteSimulationRequest
)
StreamRequest: TypeAlias = pb.StreamEventsRequest | pb.StreamOperationsRequest
Filter: TypeAlias = pb.FaultFilter | pb.OperationFilter


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
    "page_size": _Rule(f"0 to {PAGE_SIZE_MAX}", lambda size: size <= PAGE_SIZE_MAX),
}


def name_of(request: NamedRequest | StreamRequest) -> str:
    """Return the name of the simulation that the request is about."""
    require(violations_of(request))
    return request.name


def window_of(request: StreamRequest) -> Window:
    """Return the rows that the request is about."""
    has_filter = request.HasField("filter")
    require([*violations_of(request), *(_filter_violations(request.filter) if has_filter else ())])
    return Window(
        offset=request.offset,
        rows_at_once=request.batch_rows or BATCH_ROWS,
        limit=request.limit or None,
        follows=not request.no_follow,
        filter=_filter_of(request.filter) if has_filter else None,
    )


def which_of(request: pb.ExplainFaultRequest) -> Which:
    """Return which fault the request is about."""
    found = violations_of(request)
    kind = request.WhichOneof("which")
    choices: dict[int, FaultChoice] = {choice.value: choice for choice in FaultChoice}
    if kind is None:
        found.append(Violation("which", "a fault, or a choice", None))
    elif kind == "choice" and request.choice not in choices:
        want = f"one of {', '.join(choice.name for choice in FaultChoice)}"
        found.append(Violation("choice", want, request.choice))
    require(found)
    return choices[request.choice] if kind == "choice" else request.fault


def whole_log(request: pb.RunSimulationRequest) -> Window:
    """Return a window over all rows of a run, in batches as asked for."""
    return Window(offset=0, rows_at_once=request.batch_rows or BATCH_ROWS)


def order_of(request: pb.CreateSimulationRequest | pb.RunSimulationRequest, owner: str) -> Order:
    """Return what is to be simulated. Takes long for long lists of pages."""
    found = [*violations_of(request), *_option_violations(request)]
    try:
        scenario = scenario_from_wire(request.scenario if request.HasField("scenario") else None)
    except InvalidRequest as error:
        raise InvalidRequest([*found, *error.violations]) from error
    require(found)
    return Order(
        scenario=scenario,
        as_asked=request.scenario.SerializeToString(deterministic=True),
        owner=owner,
        request_id=request.request_id,
        validate_only=isinstance(request, pb.CreateSimulationRequest) and request.validate_only,
        options=RunOptions(
            run_timeout_ms=request.options.run_timeout_ms,
            labels=dict(request.options.labels),
            skip_cache=request.options.skip_cache,
        ),
    )


def violations_of(request: Message) -> list[Violation]:
    """Return what is wrong with the fields that many requests have."""
    return [
        Violation(field, rule.want, getattr(request, field))
        for field, rule in _RULES.items()
        if field in request.DESCRIPTOR.fields_by_name and not rule.holds(getattr(request, field))
    ]


def label_violations(field: str, labels: Mapping[str, str]) -> list[Violation]:
    """Return what is wrong with labels."""
    names, values = LABEL_NAME_CHARACTERS_MAX, LABEL_VALUE_CHARACTERS_MAX
    found = [
        Violation(f"{field}[{name!r}]", f"a name of 1 to {names} characters", name)
        for name in labels
        if not 1 <= len(name) <= names
    ]
    found += [
        Violation(f"{field}[{name!r}]", f"at most {values} characters", value)
        for name, value in labels.items()
        if len(value) > values
    ]
    if len(labels) > LABELS_MAX:
        found.append(Violation(field, f"at most {LABELS_MAX} labels", len(labels)))
    return found


def require(violations: Sequence[Violation]) -> None:
    """Raise if anything is wrong."""
    if violations:
        raise InvalidRequest(violations)


def _option_violations(
    request: pb.CreateSimulationRequest | pb.RunSimulationRequest,
) -> list[Violation]:
    options = request.options
    found = label_violations("options.labels", options.labels)
    if options.run_timeout_ms > RUN_TIMEOUT_MS_MAX:
        want = f"0 to {RUN_TIMEOUT_MS_MAX}"
        found.append(Violation("options.run_timeout_ms", want, options.run_timeout_ms))
    if options.cancel_on_disconnect and isinstance(request, pb.CreateSimulationRequest):
        want = "false: this call has no stream"
        found.append(Violation("options.cancel_on_disconnect", want, True))
    return found


def _filter_violations(wanted: Filter) -> list[Violation]:
    found = [
        Violation(f"filter.{field}", f"at most {FILTERED_MAX} numbers", len(getattr(wanted, field)))
        for field in ("threads", "processes", "kinds")
        if len(getattr(wanted, field)) > FILTERED_MAX
    ]
    known = [*FaultKind] if isinstance(wanted, pb.FaultFilter) else [*OperationKind]
    for index, kind in enumerate(wanted.kinds[:FILTERED_MAX]):
        if kind not in known:
            found.append(Violation(f"filter.kinds[{index}]", "a kind", kind))
    if wanted.start_ns_max and wanted.start_ns_max < wanted.start_ns_min:
        want = f"0, or at least {wanted.start_ns_min}, the earliest begin"
        found.append(Violation("filter.start_ns_max", want, wanted.start_ns_max))
    return found


def _filter_of(wanted: Filter) -> RowFilter:
    return RowFilter(
        duration_ns_min=wanted.duration_ns_min,
        start_ns_min=wanted.start_ns_min,
        start_ns_max=wanted.start_ns_max,
        attempts_min=wanted.attempts_min if isinstance(wanted, pb.FaultFilter) else 0,
        threads=tuple(wanted.threads),
        processes=tuple(wanted.processes),
        kinds=tuple(wanted.kinds),
    )
