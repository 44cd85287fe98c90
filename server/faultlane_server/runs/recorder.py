"""Writes the two logs of a run, so that readers are never far behind it.

A run that was cut off is simulated again from its begin, and makes the same rows
again: those that are in its logs already are compared and not written twice.
"""

import time
from enum import Enum
from pathlib import Path

import numpy as np

from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.store import (
    Columns,
    CorruptLog,
    LogHeader,
    LogNotWritten,
    LogReader,
    LogWriter,
    WrongLogFormat,
    rows_of,
    sync_directory,
)

FLUSH_S = 0.05


class LogKind(Enum):
    """The logs of a run."""

    FAULTS = "faults"
    OPERATIONS = "operations"


LOG_COLUMNS = {LogKind.FAULTS: FAULT_COLUMNS, LogKind.OPERATIONS: OPERATION_COLUMNS}


class TooManyRows(Exception):
    """A log would be longer than is allowed; it ends exactly at the limit."""


class AnotherRun(Exception):
    """The rows are not those that the same run made before."""


def log_path(directory: Path, kind: LogKind) -> Path:
    """Return where a log of a run is."""
    return directory / f"{kind.value}.log"


class Recorder:
    """The writers of both logs."""

    def __init__(self, directory: Path, digest: str, model_version: int, rows_max: int) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogNotWritten(f"cannot create {directory}: {error.strerror}") from error
        self._logs = {
            kind: _Log(
                log_path(directory, kind),
                LogHeader(kind.value, digest, model_version, LOG_COLUMNS[kind]),
                rows_max,
            )
            for kind in LogKind
        }
        self._flush_time_s = time.monotonic()

    @property
    def bytes(self) -> int:
        """How long the logs are."""
        return sum(log.writer.bytes for log in self._logs.values())

    def rows(self, kind: LogKind) -> int:
        """How many rows readers can see."""
        return self._logs[kind].writer.rows

    def take(self, faults: Columns, operations: Columns) -> None:
        """Take what a slice of the run brought."""
        self._logs[LogKind.FAULTS].take(faults)
        self._logs[LogKind.OPERATIONS].take(operations)

    def is_due(self) -> bool:
        """Whether readers have waited long enough for what was taken."""
        return time.monotonic() - self._flush_time_s >= FLUSH_S

    def flush(self) -> None:
        for log in self._logs.values():
            log.writer.flush()
        self._flush_time_s = time.monotonic()

    def finish(self, *, durable: bool) -> None:
        """Say that the run has ended by itself; `durable` logs outlive a loss of power."""
        for log in self._logs.values():
            log.finish()
            if durable:
                log.writer.sync()
        if durable:
            sync_directory(self._directory)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


class _Log:
    """One log, of which there may be rows already."""

    def __init__(self, path: Path, header: LogHeader, rows_max: int) -> None:
        self.writer = _writer(path, header)
        self._known = LogReader(path) if self.writer.rows else None
        self._rows_known = self.writer.rows
        self._rows_taken = 0
        self._rows_max = rows_max
        self._kind = header.kind

    def take(self, columns: Columns) -> None:
        rows, room = rows_of(columns), self._rows_max - self._rows_taken
        taken = {name: column[:room] for name, column in columns.items()}
        self.writer.append(self._without_known(taken))
        self._rows_taken += min(rows, room)
        if rows > room:
            raise TooManyRows(f"the log of {self._kind} is full at {self._rows_max} rows")

    def finish(self) -> None:
        if self._rows_taken < self._rows_known:
            raise self._another_run(self._rows_taken)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
        if self._known:
            self._known.close()

    def _without_known(self, columns: Columns) -> Columns:
        """Compare the rows that are there already, and return the others."""
        known = min(max(self._rows_known - self._rows_taken, 0), rows_of(columns))
        row = 0
        while self._known and row < known:
            before = self._known.read(self._rows_taken + row, known - row)
            end = row + rows_of(before)
            if any(not np.array_equal(before[name], columns[name][row:end]) for name in before):
                raise self._another_run(self._rows_taken + row)
            row = end
        return {name: column[known:] for name, column in columns.items()}

    def _another_run(self, row: int) -> AnotherRun:
        return AnotherRun(
            f"simulated again, the log of {self._kind} is another one from row {row} on"
        )


def _writer(path: Path, header: LogHeader) -> LogWriter:
    """Go on with the log that is there, or begin one in its place if it is of no use."""
    if not path.exists():
        return LogWriter.create(path, header)
    try:
        return LogWriter.resume(path, header)
    except (CorruptLog, WrongLogFormat):
        path.unlink()
        path.with_suffix(".index").unlink(missing_ok=True)
        return LogWriter.create(path, header)
