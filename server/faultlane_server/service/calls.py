"""What is known of a call while it is answered, for those who observe: logs, metrics, traces."""

import asyncio
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import grpc

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

CALL_ID = "x-request-id"  # in the metadata, of a request that brings its own, and of the answer

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Call:
    """One call."""

    rpc: str  # `faultlane.v1.SimulationService/GetSimulation`
    metadata: Metadata
    id: str
    owner: str = ""  # empty: it was not let in
    request_id: str = ""
    simulation: str = ""
    code: str = grpc.StatusCode.OK.name
    received_bytes: int = 0
    sent_bytes: int = 0
    sent_messages: int = 0
    begin_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # when it has ended

    def sees_request(self, request: Any, byte_length: int) -> None:
        self.received_bytes = byte_length
        self.request_id = getattr(request, "request_id", "")
        self.simulation = getattr(request, "name", "")

    def sees_response(self, response: Any) -> None:
        """Look at a response before it is sent: the first one names a new simulation."""
        if not self.simulation and hasattr(response, "simulation"):
            self.simulation = response.simulation.name

    def sends(self, content: bytes) -> None:
        self.sent_bytes += len(content)
        self.sent_messages += 1


class Observer(Protocol):
    """Is told of calls. It must be quick, and nothing may go wrong in it."""

    def begun(self, call: Call) -> None: ...

    def ended(self, call: Call) -> None: ...


_call: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call | None:
    """Return the call that is being answered."""
    return _call.get()


@contextmanager
def observed(rpc: str, context: Context, observers: Sequence[Observer]) -> Iterator[Call]:
    """Tell `observers` of a call, and how it ended."""
    metadata = tuple(context.invocation_metadata() or ())
    call = Call(rpc, metadata, _id_in(metadata) or uuid.uuid4().hex)
    _call.set(call)
    for observer in observers:
        observer.begun(call)
    try:
        yield call
    except asyncio.CancelledError:
        call.code = grpc.StatusCode.CANCELLED.name
        raise
    except BaseException:
        call.code = _code_of(context)
        raise
    finally:
        call.seconds = time.monotonic() - call.begin_s
        for observer in observers:
            observer.ended(call)


def _id_in(metadata: Metadata) -> str:
    """Return the id that the caller gave the call, if it is one that can be shown anywhere."""
    found = [value for name, value in metadata if name == CALL_ID and isinstance(value, str)]
    return found[0] if found and _ID.fullmatch(found[0]) else ""


def _code_of(context: Context) -> str:
    number: Any = context.code()
    return next((code.name for code in grpc.StatusCode if number in (code, code.value[0])), "")
