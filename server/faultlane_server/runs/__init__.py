"""Runs simulations: a bounded queue, worker threads, and what is known of every simulation.

Knows nothing of gRPC: the service asks, the engine simulates, the store keeps the rows.
"""

from faultlane_server.runs.digest import digest_of
from faultlane_server.runs.engine import Engine, compiled_engine
from faultlane_server.runs.errors import (
    ModelChanged,
    NoFaults,
    NoSuchFault,
    NoSuchSimulation,
    NotEnded,
    NotReady,
    OffsetOutOfRange,
    QueueFull,
    RequestIdTaken,
    RunsError,
    ShuttingDown,
    TooManyExplained,
)
from faultlane_server.runs.explaining import Explained, Which
from faultlane_server.runs.follow import Part, Window
from faultlane_server.runs.job import Job, Order
from faultlane_server.runs.recorder import LOG_COLUMNS, LogKind
from faultlane_server.runs.runs import Limits, Runs, default_workers
from faultlane_server.runs.simulation import RunError, Simulation

__all__ = [
    "LOG_COLUMNS",
    "Engine",
    "Explained",
    "Job",
    "Limits",
    "LogKind",
    "ModelChanged",
    "NoFaults",
    "NoSuchFault",
    "NoSuchSimulation",
    "NotEnded",
    "NotReady",
    "OffsetOutOfRange",
    "Order",
    "Part",
    "QueueFull",
    "RequestIdTaken",
    "RunError",
    "Runs",
    "RunsError",
    "ShuttingDown",
    "Simulation",
    "TooManyExplained",
    "Which",
    "Window",
    "compiled_engine",
    "default_workers",
    "digest_of",
]
