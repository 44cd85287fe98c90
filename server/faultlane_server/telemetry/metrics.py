"""Metrics for Prometheus, on a port of their own.

They tell how much everybody does together, so the port is for who runs the server: it is on
a loopback address unless told otherwise, speaks TLS if the server does, and knows no tokens.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from faultlane_server.runs import Figures, RunEnd
from faultlane_server.service.calls import Call
from faultlane_server.service.tls import TlsFiles

CALL_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
RUN_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


class Metrics:
    """Observes calls and runs; `figures` is asked whenever somebody reads the metrics."""

    def __init__(self, model_version: int, figures: Callable[[], Figures]) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(_AtThisMoment(figures))
        Gauge(
            "faultlane_info",
            "Always 1; the labels tell versions.",
            ["version", "model_version"],
            registry=self.registry,
        ).labels(version("faultlane"), model_version).set(1)
        self._calls = Counter(
            "faultlane_calls", "Calls that have ended.", ["rpc", "code"], registry=self.registry
        )
        self._open = Gauge(
            "faultlane_calls_open", "Calls being answered.", ["rpc"], registry=self.registry
        )
        self._call_s = Histogram(
            "faultlane_call_seconds",
            "How long calls took.",
            ["rpc"],
            buckets=CALL_S,
            registry=self.registry,
        )
        self._received = Counter(
            "faultlane_received_bytes", "Bytes of requests.", ["rpc"], registry=self.registry
        )
        self._sent = Counter(
            "faultlane_sent_bytes",
            "Bytes of responses of calls that have ended.",
            ["rpc"],
            registry=self.registry,
        )
        self._messages = Counter(
            "faultlane_sent_messages",
            "Responses of calls that have ended.",
            ["rpc"],
            registry=self.registry,
        )
        self._runs = Counter(
            "faultlane_runs",
            "Simulations that have ended, by state and, if one failed, by reason;"
            " `reused` are those that were not simulated again.",
            ["state", "reason", "reused"],
            registry=self.registry,
        )
        self._run_s = Histogram(
            "faultlane_run_seconds",
            "How long simulations took, of those that were simulated.",
            buckets=RUN_S,
            registry=self.registry,
        )

    def begun(self, call: Call) -> None:
        self._open.labels(_short(call.rpc)).inc()

    def ended(self, call: Call) -> None:
        rpc = _short(call.rpc)
        self._open.labels(rpc).dec()
        self._calls.labels(rpc, call.code).inc()
        self._call_s.labels(rpc).observe(call.seconds)
        self._received.labels(rpc).inc(call.received_bytes)
        self._sent.labels(rpc).inc(call.sent_bytes)
        self._messages.labels(rpc).inc(call.sent_messages)

    def run_ended(self, end: RunEnd) -> None:
        simulation = end.simulation
        if simulation.state is None or not simulation.ended:
            return
        reason = simulation.error.reason if simulation.error else ""
        reused = str(not end.was_simulated).lower()
        self._runs.labels(simulation.state.name, reason, reused).inc()
        if end.was_simulated:
            self._run_s.observe(end.seconds)


class MetricsPort:
    """Serves metrics over HTTP from a thread of its own."""

    def __init__(self, metrics: Metrics, host: str, port: int, tls: TlsFiles | None) -> None:
        client_ca = str(tls.client_ca) if tls and tls.client_ca else None
        try:
            self._server, self._thread = start_http_server(
                port,
                host,
                metrics.registry,
                certfile=str(tls.cert) if tls else None,
                keyfile=str(tls.key) if tls else None,
                client_cafile=client_ca,
                client_auth_required=client_ca is not None,
            )
        except OSError as error:
            raise CannotServeMetrics(
                f"cannot serve metrics on {host}:{port}: {error.strerror}"
            ) from error
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class CannotServeMetrics(Exception):
    """The address is taken, or not one of this machine."""


class _AtThisMoment(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def describe(self) -> Iterator[Metric]:
        """Say nothing in advance: there are no figures before the server is there."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        found = self._figures()
        for name, help_text, value in (
            ("queued", "Simulations that wait.", found.queued),
            ("running", "Simulations being simulated.", found.running),
            ("streams_open", "Streams of runs and logs.", found.streams),
            ("explaining", "Faults being explained, or waiting for it.", found.explained),
        ):
            yield GaugeMetricFamily(f"faultlane_{name}", help_text, value)
        yield CounterMetricFamily(
            "faultlane_faults",
            "Faults simulated since the server began: its rate is the engine's speed.",
            found.faults,
        )


def _short(rpc: str) -> str:
    """Return `SimulationService/GetSimulation`."""
    return rpc.rpartition(".")[2]
