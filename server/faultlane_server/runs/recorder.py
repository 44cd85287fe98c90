"""Writes the two logs of a run, so that readers are never far behind it."""

import time
from enum import Enum
from pathlib import Path

from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.store import Columns, LogHeader, LogNotWritten, LogWriter

FLUSH_S = 0.05


class LogKind(Enum):
    """The logs of a run."""

    FAULTS = "faults"
    OPERATIONS = "operations"


LOG_COLUMNS = {LogKind.FAULTS: FAULT_COLUMNS, LogKind.OPERATIONS: OPERATION_COLUMNS}


class TooManyRows(Exception):
    """A log would be longer than is allowed; it ends exactly at the limit."""


class Recorder:
    """The writers of both logs."""

    def __init__(self, directory: Path, digest: str, model_version: int, rows_max: int) -> None:
        try:
            directory.mkdir(parents=True)
        except OSError as error:
            raise LogNotWritten(f"cannot create {directory}: {error.strerror}") from error
        self.paths = {kind: directory / f"{kind.value}.log" for kind in LogKind}
        self._writers = {
            kind: LogWriter(path, LogHeader(kind.value, digest, model_version, LOG_COLUMNS[kind]))
            for kind, path in self.paths.items()
        }
        self._rows_taken = dict.fromkeys(LogKind, 0)
        self._rows_max = rows_max
        self._flush_time_s = time.monotonic()

    def rows(self, kind: LogKind) -> int:
        """How many rows readers can see."""
        return self._writers[kind].rows

    def take(self, faults: Columns, operations: Columns) -> None:
        """Take what a slice of the run brought."""
        self._append(LogKind.FAULTS, faults)
        self._append(LogKind.OPERATIONS, operations)

    def is_due(self) -> bool:
        """Whether readers have waited long enough for what was taken."""
        return time.monotonic() - self._flush_time_s >= FLUSH_S

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()
        self._flush_time_s = time.monotonic()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _append(self, kind: LogKind, columns: Columns) -> None:
        room = self._rows_max - self._rows_taken[kind]
        rows = len(columns["thread"])
        self._writers[kind].append({name: column[:room] for name, column in columns.items()})
        self._rows_taken[kind] += min(rows, room)
        if rows > room:
            raise TooManyRows(f"the log of {kind.value} is full at {self._rows_max} rows")
