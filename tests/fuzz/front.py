"""The server without a network: bytes of requests go in where gRPC would hand them over."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from unittest.mock import patch

import grpc

from faultlane.v1 import catalog_service_pb2, simulation_service_pb2
from faultlane_server.runs import Engine, Limits, RunEnd, Runs
from faultlane_server.service.access import Access
from faultlane_server.service.catalog import CatalogServicer
from faultlane_server.service.handlers import Door, handlers_of
from faultlane_server.service.simulations import SimulationServicer
from faultlane_server.service.translate import scenario_from_bytes

SERVICES = [
    simulation_service_pb2.DESCRIPTOR.services_by_name["SimulationService"],
    catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
]


class Answer(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    message: str
    responses: Sequence[bytes]


class Front:
    """Answers requests in the event loop that makes it."""

    def __init__(self, engine: Engine, directory: Path, limits: Limits) -> None:
        self.broken: list[RunEnd] = []  # runs that found a bug of the simulator
        self._stack = ExitStack()
        self.runs = Runs(
            engine, directory, limits, scenario_from_bytes, durable=False, on_end=self._look_at
        )
        door = Door(Access(None))
        info = catalog_service_pb2.GetServerInfoResponse()
        servicers = [SimulationServicer(self.runs), CatalogServicer(info)]
        self._handlers = [
            handlers_of(servicer, service, door)
            for servicer, service in zip(servicers, SERVICES, strict=True)
        ]

    def __enter__(self) -> Self:
        self._stack.enter_context(_threads_as_calls())
        self.runs.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.runs.close()
        self._stack.close()

    async def answer(self, method: str, content: bytes, timeout_s: float) -> Answer:
        """Answer a request; TimeoutError says that it hangs."""
        context = _Context(content)
        handler = self._handler(method)
        async with asyncio.timeout(timeout_s):
            try:
                if handler.response_streaming:
                    await handler.stream_stream(None, context)
                else:
                    await context.write(await handler.stream_unary(None, context))
            except grpc.aio.AbortError:
                pass
        return Answer(context.status, context.details, context.written)

    def _handler(self, method: str) -> Any:
        details: Any = _Details(method, ())
        return next(found for each in self._handlers if (found := each.service(details)))

    def _look_at(self, end: RunEnd) -> None:
        error = end.simulation.error
        if error and error.reason == "INVARIANT_BROKEN":
            self.broken.append(end)


@contextmanager
def _threads_as_calls() -> Iterator[None]:
    """Let what the service hands to a thread be done at once: the way there is most of the time."""

    async def call(function: Any, /, *args: Any, **named: Any) -> Any:
        return function(*args, **named)

    with patch("asyncio.to_thread", call):
        yield


class _Details(NamedTuple):
    method: str
    invocation_metadata: Sequence[tuple[str, str]]


class _Context:
    """A call, as far as our handlers use it."""

    def __init__(self, content: bytes) -> None:
        self.status = grpc.StatusCode.OK
        self.details = ""
        self.written: list[bytes] = []
        self._content: list[Any] = [content]

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def set_trailing_metadata(self, _: object) -> None:
        pass

    def code(self) -> grpc.StatusCode:
        return self.status

    async def read(self) -> Any:
        return self._content.pop() if self._content else grpc.aio.EOF

    async def write(self, response: bytes) -> None:
        self.written.append(response)

    async def abort(self, code: grpc.StatusCode, details: str, _: object) -> None:
        self.status, self.details = code, details
        raise grpc.aio.AbortError
