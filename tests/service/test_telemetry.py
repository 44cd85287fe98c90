"""What the server tells of itself: metrics, a line for each call, traces."""

import json
import logging
import ssl
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions
from faultlane_server.runs import Figures, Limits, RunEnd
from faultlane_server.service.calls import Call
from faultlane_server.service.local import LocalServer
from faultlane_server.service.tls import TlsFiles
from faultlane_server.telemetry import CallLog, CannotServeMetrics, Metrics, MetricsPort, Traces
from faultlane_server.telemetry.logs import _Json, _Text
from tests.service.certificates import Authority
from tests.service.fake import (
    FAULTS_A_SLICE,
    MODEL_VERSION,
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    cancel,
    create,
    get,
    refused,
    run,
    starts,
)

MISSING = "simulations/missing"


class Watched:
    """A server whose metrics are read as Prometheus would."""

    def __init__(self, servers: Servers, engine: Any = None, limits: Limits | None = None) -> None:
        self._metrics = Metrics(MODEL_VERSION, lambda: self._server.runs.figures())
        self.over = Over()
        self._server: LocalServer = servers.server(
            engine,
            limits,
            observers=[self._metrics, self.over],
            on_run_end=self._metrics.run_ended,
        )
        self.peer = servers.peer(self._server.address)

    def value(self, name: str, **labels: str) -> float:
        """One figure; 0 if there is none of this name."""
        found = self._metrics.registry.get_sample_value(f"faultlane_{name}", labels)
        return found or 0.0


def test_calls_are_counted_by_rpc_and_code_with_their_bytes(servers: Servers) -> None:
    watched = Watched(servers)
    name = run(watched.peer).name
    answer = watched.peer.simulations.GetSimulation(pb.GetSimulationRequest(name=name))
    refused(lambda: get(watched.peer, MISSING))
    for _ in range(2):
        watched.over.waited_for("GetSimulation")

    rpc = "SimulationService/GetSimulation"
    assert watched.value("calls_total", rpc=rpc, code="OK") == 1
    assert watched.value("calls_total", rpc=rpc, code="NOT_FOUND") == 1
    assert watched.value("call_seconds_count", rpc=rpc) == 2
    assert watched.value("sent_bytes_total", rpc=rpc) == answer.ByteSize()
    assert watched.value("received_bytes_total", rpc=rpc) == sum(
        pb.GetSimulationRequest(name=each).ByteSize() for each in (name, MISSING)
    )
    assert watched.value("calls_open", rpc=rpc) == 0


def test_bytes_of_streams_are_counted(servers: Servers) -> None:
    watched = Watched(servers, an_engine(slices=10))
    name = run(watched.peer).name

    rows = starts(watched.peer, name)
    watched.over.waited_for("StreamEvents")

    rpc = "SimulationService/StreamEvents"
    assert watched.value("sent_bytes_total", rpc=rpc) > 8 * len(rows) > 0
    assert watched.value("sent_messages_total", rpc=rpc) >= 2


def test_faults_are_counted_where_they_are_simulated_and_nowhere_else(servers: Servers) -> None:
    """Not for an equal run, which takes over what another one has simulated."""
    watched = Watched(servers, an_engine(slices=3))

    run(watched.peer)
    run(watched.peer)

    assert watched.value("faults_total") == 3 * FAULTS_A_SLICE
    run(watched.peer, options=RunOptions(skip_cache=True))
    assert watched.value("faults_total") == 6 * FAULTS_A_SLICE


def test_runs_are_counted_by_how_they_ended(servers: Servers) -> None:
    gate = Gate()
    watched = Watched(servers, an_engine(on_slice=lambda _: gate.pass_through()), Limits(1))
    running, waiting = create(watched.peer).name, create(watched.peer, seed=2).name
    assert gate.reached.wait(PATIENCE_S)

    assert (watched.value("running"), watched.value("queued")) == (1, 1)
    cancel(watched.peer, waiting)
    assert watched.value("queued") == 0
    stream = watched.peer.simulations.WatchSimulation(pb.WatchSimulationRequest(name=running))
    next(stream)
    assert watched.value("streams_open") == 1
    assert watched.value("calls_open", rpc="SimulationService/WatchSimulation") == 1
    gate.opened.set()
    list(stream)
    run(watched.peer, seed=3)  # what the first one counts for is counted by then

    succeeded = {"state": "SUCCEEDED", "reason": "", "reused": "false"}
    assert watched.value("runs_total", **succeeded) >= 1
    assert watched.value("run_seconds_count") >= 1


def test_a_run_that_fails_is_counted_with_its_reason(servers: Servers) -> None:
    watched = Watched(servers, an_engine(slices=5), Limits(1, rows_max=2 * FAULTS_A_SLICE))

    run(watched.peer)
    run(watched.peer, seed=2)

    failed = {"state": "FAILED", "reason": "ROWS_LIMIT", "reused": "false"}
    assert watched.value("runs_total", **failed) >= 1


@pytest.fixture
def some_metrics() -> Metrics:
    return Metrics(MODEL_VERSION, lambda: Figures(1, 2, 3, 4, 5))


def test_the_port_speaks_the_format_of_prometheus(some_metrics: Metrics) -> None:
    with closing(MetricsPort(some_metrics, "127.0.0.1", 0, None)) as port:
        text = urllib.request.urlopen(f"http://{port.address}/metrics").read().decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["faultlane_queued"].samples[0].value == 1
    assert families["faultlane_faults"].samples[0].value == 5
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["faultlane_info"].samples[0].labels["model_version"] == str(MODEL_VERSION)


def test_the_port_speaks_tls_with_those_who_show_a_certificate(
    some_metrics: Metrics, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair, own = authority.pair("server"), authority.pair("prometheus")
    tls = TlsFiles(pair.cert, pair.key, authority.cert)
    knows = ssl.create_default_context(cafile=str(authority.cert))
    shows = ssl.create_default_context(cafile=str(authority.cert))
    shows.load_cert_chain(own.cert, own.key)

    with closing(MetricsPort(some_metrics, "127.0.0.1", 0, tls)) as port:
        url = f"https://{port.address}/metrics"
        assert b"faultlane_queued" in urllib.request.urlopen(url, context=shows).read()
        with pytest.raises(OSError, match=r"(?i)certificate required|reset|EOF"):
            urllib.request.urlopen(url, context=knows).read()


def test_a_port_that_is_taken_is_told(some_metrics: Metrics) -> None:
    with closing(MetricsPort(some_metrics, "127.0.0.1", 0, None)) as port:
        number = int(port.address.rpartition(":")[2])
        with pytest.raises(CannotServeMetrics, match="cannot serve metrics on"):
            MetricsPort(some_metrics, "127.0.0.1", number, None)


# Logs.


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """The lines of calls that have ended, as a program reads them."""
    caplog.set_level(logging.INFO)

    def read() -> list[dict[str, Any]]:
        said = [json.loads(_Json().format(record)) for record in caplog.records]
        return [line for line in said if line["event"] == "call ended"]

    return read


def test_a_line_tells_of_a_call_and_its_simulation(
    servers: Servers, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    over = Over()
    peer = servers.start(observers=[CallLog(), over])
    name = create(peer, request_id="mine").name
    over.waited_for("CreateSimulation")
    list(peer.simulations.RunSimulation(pb.RunSimulationRequest(scenario=a_scenario())))
    over.waited_for("RunSimulation")
    refused(lambda: get(peer, MISSING))
    over.waited_for("GetSimulation")

    created, ran, got = lines()

    assert created["rpc"] == "faultlane.v1.SimulationService/CreateSimulation"
    assert (created["code"], created["request_id"], created["simulation"]) == ("OK", "mine", name)
    assert (created["owner"], created["level"]) == ("everybody", "info")
    assert ran["simulation"].startswith("simulations/")
    assert ran["sent_bytes"] > 0
    assert (got["code"], got["simulation"]) == ("NOT_FOUND", MISSING)
    assert len({line["call"] for line in (created, ran, got)}) == 3


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("from-the-caller.1", True), ("", False), ("a b", False), ("x" * 65, False), ("{}", False)],
)
def test_a_caller_may_choose_the_id_of_a_call_and_is_told_it(
    servers: Servers, lines: Callable[[], list[dict[str, Any]]], sent: str, kept: bool
) -> None:
    over = Over()
    peer = servers.start(observers=[CallLog(), over])
    request = pb.GetSimulationRequest(name=MISSING)
    metadata = (("x-request-id", sent),)

    error: Any = refused(lambda: peer.simulations.GetSimulation(request, metadata=metadata))
    over.waited_for("GetSimulation")

    [line] = lines()
    assert (line["call"] == sent) is kept
    assert dict(error.trailing_metadata())["x-request-id"] == line["call"]


def test_who_went_away_is_told_as_cancelled(
    servers: Servers, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    gate, over = Gate(), Over()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    peer = servers.start(engine, Limits(1), observers=[CallLog(), over])
    stream = peer.simulations.WatchSimulation(pb.WatchSimulationRequest(name=create(peer).name))
    next(stream)

    stream.cancel()

    assert over.waited_for("WatchSimulation")
    assert lines()[-1]["code"] == "CANCELLED"
    gate.opened.set()


class Over:
    """Tells a test when a call or a run has ended."""

    def __init__(self) -> None:
        self._ended: Queue[Call] = Queue()
        self._ended_runs: Queue[RunEnd] = Queue()

    def begun(self, call: Call) -> None:
        pass

    def ended(self, call: Call) -> None:
        self._ended.put(call)

    def waited_for(self, method: str) -> Call:
        while True:
            call = self._ended.get(timeout=PATIENCE_S)
            if call.rpc.endswith(method):
                return call

    def run_ended(self, end: RunEnd) -> None:
        self._ended_runs.put(end)

    def waited_for_run(self) -> RunEnd:
        return self._ended_runs.get(timeout=PATIENCE_S)


def test_an_incident_is_logged_with_its_call(
    servers: Servers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = servers.start()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("faultlane_server.service.simulations.name_of", broken)
    error: Any = refused(lambda: get(peer, MISSING))

    [record] = [record for record in caplog.records if "incident" in record.getMessage()]
    assert vars(record)["call"] == dict(error.trailing_metadata())["x-request-id"]
    assert vars(record)["simulation"] == MISSING


def test_nothing_that_a_caller_sent_looks_like_another_line() -> None:
    record = logging.makeLogRecord(
        {"msg": "call ended", "request_id": "x\n2026 info all is well\x1b[31m\u2028\r"}
    )

    for formatter in (_Text(), _Json()):
        line = formatter.format(record)
        assert line.isprintable()
        assert len(line.splitlines()) == 1


# Traces.


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(servers: Servers, spans: InMemorySpanExporter, **of_server: Any) -> tuple[Peer, Over]:
    provider, over = TracerProvider(), Over()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    traces = Traces(provider)

    def run_ended(end: RunEnd) -> None:
        traces.run_ended(end)
        over.run_ended(end)

    peer = servers.start(
        limits=Limits(1), observers=[traces, over], on_run_end=run_ended, **of_server
    )
    return peer, over


TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize("rpc", ["CreateSimulation", "RunSimulation"])
def test_a_run_is_a_part_of_the_trace_of_who_asked_for_it(
    servers: Servers, spans: InMemorySpanExporter, rpc: str
) -> None:
    peer, over = traced(servers, spans)
    request = getattr(pb, f"{rpc}Request")(scenario=a_scenario(), request_id="mine")
    metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
    answer = getattr(peer.simulations, rpc)(request, metadata=metadata, timeout=PATIENCE_S)
    if rpc == "RunSimulation":
        answer = next(iter(list(answer)))
    over.waited_for(rpc)
    over.waited_for_run()

    finished: list[Any] = [*spans.get_finished_spans()]
    found = {span.name: span for span in finished if trace_of(span) == TRACE}

    call = found[f"faultlane.v1.SimulationService/{rpc}"]
    simulation = found["simulation"]
    assert f"{call.parent.span_id:016x}" == SPAN
    assert simulation.parent.span_id == call.get_span_context().span_id
    assert call.attributes["faultlane.request_id"] == "mine"
    assert call.attributes["rpc.grpc.status_code"] == "OK"
    assert simulation.attributes["faultlane.simulation"] == answer.simulation.name
    assert simulation.attributes["faultlane.faults"] == 3 * FAULTS_A_SLICE
    assert simulation.end_time >= simulation.start_time


def trace_of(span: Any) -> str:
    return f"{span.get_span_context().trace_id:032x}"


def test_a_mistake_of_the_caller_is_no_failure_of_the_server(
    servers: Servers, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, over = traced(servers, spans)
    refused(lambda: get(peer, MISSING))
    over.waited_for("GetSimulation")
    monkeypatch.setattr("faultlane_server.service.simulations.name_of", lambda _: 1 // 0)
    refused(lambda: get(peer, MISSING))
    over.waited_for("GetSimulation")

    mistake, failure = spans.get_finished_spans()

    assert mistake.status.is_ok
    assert mistake.attributes is not None
    assert mistake.attributes["rpc.grpc.status_code"] == "NOT_FOUND"
    assert not failure.status.is_ok


def test_a_traceparent_that_makes_no_sense_is_ignored(
    servers: Servers, spans: InMemorySpanExporter
) -> None:
    peer, over = traced(servers, spans)
    request = pb.GetSimulationRequest(name=MISSING)
    metadata = (("traceparent", "nonsense"), ("tracestate", "x" * 999))

    error = refused(lambda: peer.simulations.GetSimulation(request, metadata=metadata))

    assert error.code() == grpc.StatusCode.NOT_FOUND
    over.waited_for("GetSimulation")
    [span] = spans.get_finished_spans()
    assert span.parent is None


def test_without_the_extra_the_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from faultlane_server.telemetry import CannotTrace, exporting_provider

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(CannotTrace, match=r"pip install 'faultlane\[otel\]'"):
        exporting_provider()
