"""Traces for OpenTelemetry: a span for each call, and one for each run below the call it is from.

A call that brings a `traceparent` is a part of the caller's trace.
"""

import threading
from collections import OrderedDict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from faultlane_server.runs import RunEnd
from faultlane_server.service.calls import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

REMEMBERED_MAX = 10_000  # calls whose runs have not ended

_MAKING = frozenset({"CreateSimulation", "RunSimulation"})
_FAULTS_OF_SERVER = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class CannotTrace(Exception):
    """OpenTelemetry is not installed."""


def exporting_provider() -> "TracerProvider":
    """Return what sends spans by OTLP; the variables OTEL_* say where to and which.

    Raises
    ------
    CannotTrace
        If the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise CannotTrace(
            f"no traces without {error.name}: pip install 'faultlane[otel]'"
        ) from error
    resource = Resource.create(
        {"service.name": "faultlane", "service.version": version("faultlane")}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Traces:
    """Observes calls and runs, and makes spans of them."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("faultlane", version("faultlane"))
        self._propagator = TraceContextTextMapPropagator()
        self._open: dict[int, tuple[Call, Span]] = {}
        self._makers: OrderedDict[str, Span] = OrderedDict()  # by the simulation they made
        self._lock = threading.Lock()  # runs end in threads of their own

    def begun(self, call: Call) -> None:
        from opentelemetry.trace import SpanKind

        carrier = {name: str(value) for name, value in call.metadata if name.startswith("trace")}
        service, _, method = call.rpc.partition("/")
        span = self._tracer.start_span(
            call.rpc,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "faultlane.call": call.id,
            },
        )
        with self._lock:
            self._open[id(call)] = (call, span)

    def ended(self, call: Call) -> None:
        from opentelemetry.trace import StatusCode

        with self._lock:
            _, span = self._open.pop(id(call))
            if _made_one(call):
                self._makers[call.simulation] = span
                while len(self._makers) > REMEMBERED_MAX:
                    self._makers.popitem(last=False)
        span.set_attributes(_attributes_of(call))
        if call.code in _FAULTS_OF_SERVER:
            span.set_status(StatusCode.ERROR, call.code)
        span.end()

    def run_ended(self, end: RunEnd) -> None:
        from opentelemetry.trace import set_span_in_context

        simulation = end.simulation
        if not (simulation.start_time and simulation.end_time):
            return
        maker = self._maker_of(simulation.name)
        span = self._tracer.start_span(
            "simulation",
            context=set_span_in_context(maker) if maker else None,
            start_time=_ns(simulation.start_time),
            attributes={
                "faultlane.simulation": simulation.name,
                "faultlane.owner": simulation.owner,
                "faultlane.state": simulation.state.name if simulation.state else "",
                "faultlane.faults": simulation.progress.faults,
                "faultlane.was_simulated": end.was_simulated,
            },
        )
        span.end(_ns(simulation.end_time))

    def _maker_of(self, name: str) -> "Span | None":
        with self._lock:
            for call, span in self._open.values():
                if call.simulation == name and _made_one(call):
                    return span
            return self._makers.pop(name, None)


def _made_one(call: Call) -> bool:
    return bool(call.simulation) and call.rpc.rpartition("/")[2] in _MAKING


def _attributes_of(call: Call) -> dict[str, Any]:
    attributes = {
        "rpc.grpc.status_code": call.code,
        "faultlane.owner": call.owner,
        "faultlane.simulation": call.simulation,
        "faultlane.request_id": call.request_id,
        "faultlane.sent_bytes": call.sent_bytes,
    }
    return {name: value for name, value in attributes.items() if value != ""}


def _ns(moment: Any) -> int:
    return int(moment.timestamp() * 1e9)
