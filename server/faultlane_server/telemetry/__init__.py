"""What the server tells of itself: logs, metrics for Prometheus, traces for OpenTelemetry."""

from faultlane_server.telemetry.logs import CallLog, set_up_logging
from faultlane_server.telemetry.metrics import CannotServeMetrics, Metrics, MetricsPort
from faultlane_server.telemetry.traces import CannotTrace, Traces, exporting_provider

__all__ = [
    "CallLog",
    "CannotServeMetrics",
    "CannotTrace",
    "Metrics",
    "MetricsPort",
    "Traces",
    "exporting_provider",
    "set_up_logging",
]
