"""Appends rows to a log file. One writer for one file."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from faultlane_server.store.log import Columns, LogHeader, LogNotWritten, pack_block, pack_header


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
        self._rows_waiting += _rows_of(columns)
        if self._rows_waiting >= self.header.block_rows_max:
            self.flush()

    def flush(self) -> None:
        """Write all rows that were taken."""
        rows = self._rows_waiting
        columns = _joined(self._waiting, self.header)
        self._waiting, self._rows_waiting = [], 0
        for first in range(0, rows, self.header.block_rows_max):
            self._write_block(columns, first, min(rows, first + self.header.block_rows_max))

    def close(self) -> None:
        """Close the file. Rows that were not flushed are lost."""
        self._file.close()

    def _write_block(self, columns: Columns, first: int, end: int) -> None:
        payload = b"".join(column[first:end].tobytes() for column in columns.values())
        self._write(pack_block(self.rows, end - first, payload))
        self.rows += end - first

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


def _rows_of(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _joined(parts: Sequence[Columns], header: LogHeader) -> Columns:
    if not parts:
        return {}
    columns = {name: np.concatenate([part[name] for part in parts]) for name in header.columns}
    for name, dtype in header.columns.items():
        assert columns[name].dtype == dtype, f"column {name}: want {dtype}"
    return columns
