"""Finds the fault that somebody asks for in the log of a simulation, and has it explained."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from faultlane_server.codes import FaultChoice
from faultlane_server.explanation import Cancelled, Explanation
from faultlane_server.runs.asked import scenario_of
from faultlane_server.runs.engine import Engine
from faultlane_server.runs.errors import LogExpired, NoFaults, NoSuchFault, NotEnded
from faultlane_server.runs.job import Job
from faultlane_server.runs.recorder import LogKind
from faultlane_server.store import Columns, CorruptLog, LogReader, rows_of

Which = int | FaultChoice  # the row of a fault, or which one is looked for


class Explained(NamedTuple):
    """A fault: its row in the log, with what stands there, and its explanation."""

    row: int
    columns: Columns
    explanation: Explanation


def explain_fault(
    job: Job, engine: Engine, which: Which, is_cancelled: Callable[[], bool]
) -> Explained:
    """Explain a fault of a simulation that has ended. Takes about as long as the run took.

    Raises
    ------
    NotEnded, NoSuchFault, NoFaults, LogExpired, ModelChanged
        If it cannot be explained.
    NotReproduced
        If the run is another one when it is simulated again.
    Cancelled
        If it was.
    """
    if not job.simulation.ended:
        raise NotEnded(job.simulation.name)
    scenario = scenario_of(job, engine.model_version)
    row, columns = _find(job, which, is_cancelled)
    fault = {name: int(column[0]) for name, column in columns.items()}
    return Explained(row, columns, engine.explain(scenario, fault, is_cancelled))


def _find(job: Job, which: Which, is_cancelled: Callable[[], bool]) -> tuple[int, Columns]:
    with _log_with(job, which) as reader:
        row = which
        if isinstance(which, FaultChoice):
            rows = job.simulation.progress.fault_rows  # in the log of a run that went on are more
            row = _chosen(reader, rows, which, is_cancelled)
        return row, {name: column.copy() for name, column in reader.read(row, 1).items()}


def _log_with(job: Job, which: Which) -> LogReader:
    """Open the log of faults; the fault, or any to choose from, is in it."""
    rows = job.simulation.progress.fault_rows
    if isinstance(which, FaultChoice) and not rows:
        raise NoFaults(job.simulation.name)
    if not isinstance(which, FaultChoice) and which >= rows:
        raise NoSuchFault(which, rows)
    if job.simulation.log_expired:
        raise LogExpired(0 if isinstance(which, FaultChoice) else which, rows)
    reader = job.open_log(LogKind.FAULTS)
    if reader is None or reader.rows < rows:
        if reader:
            reader.close()
        raise CorruptLog("the log of faults has lost its last rows")
    return reader


def _chosen(
    reader: LogReader, rows: int, choice: FaultChoice, is_cancelled: Callable[[], bool]
) -> int:
    """Return the row of a fault that stands out, the first of several that are equal."""
    best, best_row = (-1, -1), 0
    for first, columns in _blocks(reader, rows):
        if is_cancelled():
            raise Cancelled
        at = _best_of(columns, choice)
        found = _rank(columns, choice, at)
        if found > best:
            best, best_row = found, first + at
    return best_row


def _blocks(reader: LogReader, rows: int) -> Iterator[tuple[int, Columns]]:
    """Go through so many rows of a log, with one block of it in memory."""
    first = 0
    while first < rows:
        columns = reader.read(first, rows - first)
        yield first, columns
        first += rows_of(columns)


def _best_of(columns: Columns, choice: FaultChoice) -> int:
    durations = columns["duration_ns"]
    if choice is FaultChoice.MOST_RETRIED:
        attempts = columns["attempts"]
        durations = np.where(attempts == attempts.max(), durations, 0)
        return int(np.flatnonzero((attempts == attempts.max()) & (durations == durations.max()))[0])
    return int(np.argmax(durations))


def _rank(columns: Columns, choice: FaultChoice, at: int) -> tuple[int, int]:
    attempts = int(columns["attempts"][at]) if choice is FaultChoice.MOST_RETRIED else 0
    return attempts, int(columns["duration_ns"][at])
