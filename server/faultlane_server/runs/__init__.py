"""Runs simulations: a queue in which owners take turns, workers, and what becomes of each run.

Knows nothing of gRPC: the service asks, the engine simulates, the store keeps the rows.
"""

from faultlane_server.runs.clock import Clock
from faultlane_server.runs.digest import digest_of
from faultlane_server.runs.engine import Engine, compiled_engine
from faultlane_server.runs.errors import (
    DiskFull,
    Excess,
    LogExpired,
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
    TooLarge,
    TooManyExplained,
    TooManyStreams,
)
from faultlane_server.runs.estimate import Estimate, estimate_of
from faultlane_server.runs.explaining import Explained, Which
from faultlane_server.runs.figures import Figures, RunEnd
from faultlane_server.runs.filter import RowFilter
from faultlane_server.runs.follow import Part, Window
from faultlane_server.runs.job import Job, Order
from faultlane_server.runs.limits import (
    DiskLimits,
    Limits,
    OwnerLimits,
    Quota,
    RunLimits,
    default_workers,
    within_files,
)
from faultlane_server.runs.recorder import LOG_COLUMNS, LogKind
from faultlane_server.runs.runs import Runs
from faultlane_server.runs.simulation import RunError, RunOptions, Simulation
from faultlane_server.store import (
    DataDirError,
    Query,
    RegisterNotWritten,
)

__all__ = [
    "LOG_COLUMNS",
    "Clock",
    "DataDirError",
    "DiskFull",
    "DiskLimits",
    "Engine",
    "Estimate",
    "Excess",
    "Explained",
    "Figures",
    "Job",
    "Limits",
    "LogExpired",
    "LogKind",
    "ModelChanged",
    "NoFaults",
    "NoSuchFault",
    "NoSuchSimulation",
    "NotEnded",
    "NotReady",
    "OffsetOutOfRange",
    "Order",
    "OwnerLimits",
    "Part",
    "Query",
    "QueueFull",
    "Quota",
    "RegisterNotWritten",
    "RequestIdTaken",
    "RowFilter",
    "RunEnd",
    "RunError",
    "RunLimits",
    "RunOptions",
    "Runs",
    "RunsError",
    "ShuttingDown",
    "Simulation",
    "TooLarge",
    "TooManyExplained",
    "TooManyStreams",
    "Which",
    "Window",
    "compiled_engine",
    "default_workers",
    "digest_of",
    "estimate_of",
    "within_files",
]
