"""Appends rows to a log file. One writer for one file."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from faultlane_server.store.log import (
    BLOCK_ROWS_MAX,
    Columns,
    LogHeader,
    LogNotWritten,
    pack_block,
    pack_header,
    rows_of,
)


class LogWriter:
    """Collects rows and writes them as blocks; what was flushed can be read at once."""

    def __init__(self, path: Path, header: LogHeader) -> None:
        self.header = header
        self.rows = 0  # that can be read
        self._waiting: list[Columns] = []
        self._rows_waiting = 0
        self._failure: LogNotWritten | None = None
        try:
            self._file = FileIO(path, "xb")
        except OSError as error:
            raise LogNotWritten(f"cannot create {path}: {error.strerror}") from error
        self._write(pack_header(header))

    def append(self, columns: Columns) -> None:
        """Take rows; they reach the file with the next block or flush."""
        self._waiting.append(columns)
        self._rows_waiting += rows_of(columns)
        if self._rows_waiting >= BLOCK_ROWS_MAX:
            self._write_rows(self._rows_waiting - self._rows_waiting % BLOCK_ROWS_MAX)

    def flush(self) -> None:
        """Write all rows that were taken."""
        if self._rows_waiting:
            self._write_rows(self._rows_waiting)

    def close(self) -> None:
        """Close the file. Rows that were not flushed are lost."""
        self._file.close()

    def _write_rows(self, count: int) -> None:
        """Write so many of the rows that wait."""
        columns = _joined(self._waiting, self.header)
        for first in range(0, count, BLOCK_ROWS_MAX):
            self._write_block(_cut(columns, first, min(count, first + BLOCK_ROWS_MAX)))
        self._waiting = [_cut(columns, count, self._rows_waiting)]
        self._rows_waiting -= count

    def _write_block(self, columns: Columns) -> None:
        rows = rows_of(columns)
        payload = b"".join(column.data for column in columns.values())
        self._write(pack_block(self.rows, rows, payload))
        self.rows += rows

    def _write(self, content: bytes) -> None:
        """Write all of it. After a failure nothing more is written: the file ends torn."""
        if self._failure:
            raise self._failure
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._failure = LogNotWritten(f"cannot write the log: {error.strerror}")
            raise self._failure from error


def _cut(columns: Columns, first: int, end: int) -> Columns:
    return {name: column[first:end] for name, column in columns.items()}


def _joined(parts: Sequence[Columns], header: LogHeader) -> Columns:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in header.columns}
    for name, dtype in header.columns.items():
        assert columns[name].dtype == dtype, f"column {name}: want {dtype}"
    return columns
