"""Lists of simulations, page by page.

A page token is the number of the last simulation of a page: what is created meanwhile
moves nothing from one page to another. All owners' simulations are numbered together, so
the number is hidden: nobody can tell from it how many simulations others make. A token is
good as long as the server lives.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from hashlib import blake2b

from faultlane.v1 import simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Query, Simulation
from faultlane_server.scenario import Violation
from faultlane_server.service.requests import label_violations, require, violations_of
from faultlane_server.service.translate import simulation_to_wire

PAGE_SIZE = 50
PAGE_BYTES_MAX = 1 << 20  # about: a page of long labels ends earlier

_TOKEN = re.compile(r"[0-9a-f]{48}")
_KEY = secrets.token_bytes(32)


def query_of(request: pb.ListSimulationsRequest, owner: str | None) -> Query:
    """Return what is asked for: one more than fits the page, which tells whether there is more."""
    before = _number_in(request.page_token)
    found = [*violations_of(request), *label_violations("labels", request.labels)]
    if request.page_token and before is None:
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
        before=before,
        count=(request.page_size or PAGE_SIZE) + 1,
    )


def page_of(found: Sequence[tuple[int, Simulation]], query: Query) -> pb.ListSimulationsResponse:
    """Return the page that a query found."""
    response = pb.ListSimulationsResponse()
    page_bytes = 0
    for number, simulation in found[: query.count - 1]:
        message = _short(simulation)
        response.simulations.append(message)
        response.next_page_token = _token_of(number)
        page_bytes += message.ByteSize()
        if page_bytes >= PAGE_BYTES_MAX:
            break
    if len(response.simulations) == len(found):
        response.ClearField("next_page_token")
    return response


def _token_of(number: int) -> str:
    salt = secrets.token_bytes(8)
    hidden = _xor(number.to_bytes(8, "big"), _keyed(b"hide", salt))
    return (salt + hidden + _keyed(b"seal", salt + hidden)).hex()


def _number_in(token: str) -> int | None:
    """Return the number in a token, or None if we did not make it."""
    if not _TOKEN.fullmatch(token):
        return None
    content = bytes.fromhex(token)
    salt, hidden, seal = content[:8], content[8:16], content[16:]
    if not hmac.compare_digest(seal, _keyed(b"seal", salt + hidden)):
        return None
    return int.from_bytes(_xor(hidden, _keyed(b"hide", salt)), "big")


def _keyed(purpose: bytes, content: bytes) -> bytes:
    return blake2b(content, digest_size=8, key=_KEY, person=purpose).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _short(simulation: Simulation) -> simulation_pb2.Simulation:
    message = simulation_to_wire(simulation)
    message.ClearField("scenario")
    message.ClearField("summary")
    return message
