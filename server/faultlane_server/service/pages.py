"""Lists of simulations, page by page.

A page token is the number of the last simulation of a page: what is created meanwhile
moves nothing from one page to another.
"""

import re
from collections.abc import Sequence

from faultlane.v1 import simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Query, Simulation
from faultlane_server.scenario import Violation
from faultlane_server.service.requests import label_violations, require, violations_of
from faultlane_server.service.translate import simulation_to_wire

PAGE_SIZE = 50
PAGE_BYTES_MAX = 1 << 20  # about: a page of long labels ends earlier

_TOKEN = re.compile(r"before-([0-9]{1,18})")


def query_of(request: pb.ListSimulationsRequest, owner: str) -> Query:
    """Return what is asked for: one more than fits the page, which tells whether there is more."""
    token = _TOKEN.fullmatch(request.page_token)
    found = [*violations_of(request), *label_violations("labels", request.labels)]
    if request.page_token and not token:
        want = "the next_page_token of the page before"
        found.append(Violation("page_token", want, request.page_token))
    known = set(simulation_pb2.SimulationState.values()) - {0}
    for index, state in enumerate(request.states):
        if state not in known:
            found.append(Violation(f"states[{index}]", "a state", state))
    require(found)
    return Query(
        owner=owner,
        states=tuple(request.states),
        labels=dict(request.labels),
        before=int(token[1]) if token else None,
        count=(request.page_size or PAGE_SIZE) + 1,
    )


def page_of(found: Sequence[tuple[int, Simulation]], query: Query) -> pb.ListSimulationsResponse:
    """Return the page that a query found."""
    response = pb.ListSimulationsResponse()
    page_bytes = 0
    for number, simulation in found[: query.count - 1]:
        message = _short(simulation)
        response.simulations.append(message)
        response.next_page_token = f"before-{number}"
        page_bytes += message.ByteSize()
        if page_bytes >= PAGE_BYTES_MAX:
            break
    if len(response.simulations) == len(found):
        response.ClearField("next_page_token")
    return response


def _short(simulation: Simulation) -> simulation_pb2.Simulation:
    message = simulation_to_wire(simulation)
    message.ClearField("scenario")
    message.ClearField("summary")
    return message
