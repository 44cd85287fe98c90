"""Appends rows to a log file and its index. One writer for one log."""

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Self

import numpy as np

from faultlane_server.store.index import Entry, index_path, pack_entry
from faultlane_server.store.log import (
    BLOCK_ROWS_MAX,
    Columns,
    LogHeader,
    LogNotWritten,
    pack_block,
    pack_header,
    rows_of,
)
from faultlane_server.store.recovery import whole_blocks


class LogWriter:
    """Collects rows and writes them as blocks; what was flushed can be read at once."""

    def __init__(self, header: LogHeader, files: "_Files", entries: Sequence[Entry]) -> None:
        self.header = header
        self.rows = entries[-1].first_row + entries[-1].rows if entries else 0  # that can be read
        self._files = files
        self._waiting: list[Columns] = []
        self._rows_waiting = 0

    @classmethod
    def create(cls, path: Path, header: LogHeader) -> Self:
        """Begin a log. There must be none."""
        files = _Files(_new_file(path), _new_file(index_path(path)))
        files.append_to_log(pack_header(header))
        return cls(header, files, ())

    @classmethod
    def resume(cls, path: Path, header: LogHeader) -> Self:
        """Go on with a log after its last whole block; what follows is cut off.

        Raises
        ------
        LogError
            If it is not a log of this header, or cannot be written.
        """
        entries, log_bytes = whole_blocks(path, header)
        files = _Files(_cut_file(path, log_bytes), _cut_file(index_path(path), 0), log_bytes)
        files.append_to_index(b"".join(map(pack_entry, entries)))
        return cls(header, files, entries)

    @property
    def bytes(self) -> int:
        """How long both files are."""
        return self._files.log_bytes + self._files.index_bytes

    def append(self, columns: Columns) -> None:
        """Take rows, if there are any; they reach the file with the next block or flush."""
        if not rows_of(columns):
            return  # a run that records nothing has nothing that waits, however long it is
        self._waiting.append(columns)
        self._rows_waiting += rows_of(columns)
        if self._rows_waiting >= BLOCK_ROWS_MAX:
            self._write_rows(self._rows_waiting - self._rows_waiting % BLOCK_ROWS_MAX)

    def flush(self) -> None:
        """Write all rows that were taken."""
        if self._rows_waiting:
            self._write_rows(self._rows_waiting)

    def sync(self) -> None:
        """Return when what was written will be there after a loss of power too."""
        self._files.sync()

    def close(self) -> None:
        """Close the files. Rows that were not flushed are lost."""
        self._files.close()

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
        entry = Entry(self.rows, self._files.log_bytes, rows)
        self._files.append_to_log(pack_block(self.rows, rows, payload))
        self._files.append_to_index(pack_entry(entry))
        self.rows += rows


def sync_directory(path: Path) -> None:
    """Return when the names in a directory, and its own, will be there after a loss of power."""
    for directory in (path, path.parent):
        try:
            file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise LogNotWritten(f"cannot write {directory}: {error.strerror}") from error


class _Files:
    """A log and its index. After a failure nothing more is written: they end torn."""

    def __init__(self, log: FileIO, index: FileIO, log_bytes: int = 0) -> None:
        self.log_bytes = log_bytes
        self.index_bytes = 0
        self.log = log
        self.index = index
        self._failure: LogNotWritten | None = None

    def append_to_log(self, content: bytes) -> None:
        self._write(self.log, content)
        self.log_bytes += len(content)

    def append_to_index(self, content: bytes) -> None:
        self._write(self.index, content)
        self.index_bytes += len(content)

    def sync(self) -> None:
        try:
            os.fsync(self.log.fileno())
            os.fsync(self.index.fileno())
        except OSError as error:
            raise LogNotWritten(f"cannot write the log: {error.strerror}") from error

    def close(self) -> None:
        self.log.close()
        self.index.close()

    def _write(self, file: FileIO, content: bytes) -> None:
        if self._failure:
            raise self._failure
        left = memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            self._failure = LogNotWritten(f"cannot write the log: {error.strerror}")
            raise self._failure from error


def _new_file(path: Path) -> FileIO:
    try:
        return FileIO(path, "xb")
    except OSError as error:
        raise LogNotWritten(f"cannot create {path}: {error.strerror}") from error


def _cut_file(path: Path, byte_length: int) -> FileIO:
    """Open a file, which need not be there, to write on after so many bytes."""
    try:
        file = FileIO(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb")
        file.truncate(byte_length)
        file.seek(byte_length)
    except OSError as error:
        raise LogNotWritten(f"cannot write {path}: {error.strerror}") from error
    return file


def _cut(columns: Columns, first: int, end: int) -> Columns:
    return {name: column[first:end] for name, column in columns.items()}


def _joined(parts: Sequence[Columns], header: LogHeader) -> Columns:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in header.columns}
    for name, dtype in header.columns.items():
        assert columns[name].dtype == dtype, f"column {name}: want {dtype}"
    return columns
