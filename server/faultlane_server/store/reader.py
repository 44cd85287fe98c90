"""Reads a log file from any row, also while it is being written.

It reads with `pread` and maps nothing: over thousands of rows that is no slower than a mapping,
whose pages must be faulted in, and a disk that fails is an error instead of a SIGBUS.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from faultlane_server.store.index import BlockIndex, Entry, index_path
from faultlane_server.store.log import (
    HEAD_BYTES,
    Columns,
    CorruptLog,
    unpack_columns,
    unpack_head,
    unpack_header,
)

HEADER_BYTES_MAX = 1 << 16


class LogReader:
    """A reader of its own pace: it keeps the block that it has not read to its end."""

    def __init__(self, path: Path) -> None:
        self.rows = 0  # that were there at the last refresh
        self._last_read: tuple[int, Columns] | None = None
        self._file = _opened(path)
        try:
            self.header, _ = unpack_header(os.pread(self._file, HEADER_BYTES_MAX, 0))
            self._index = BlockIndex(index_path(path))
        except FileNotFoundError as error:
            os.close(self._file)
            raise CorruptLog(f"the index of {path.name} is missing") from error
        except BaseException:
            os.close(self._file)
            raise
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)
        self._index.close()

    def refresh(self) -> None:
        """Find the blocks that were added."""
        before = len(self._index)
        self._index.refresh()
        if len(self._index) > before:
            last = self._index[len(self._index) - 1]
            self.rows = last.first_row + last.rows

    def read(self, first: int, rows_max: int) -> Columns:
        """Return up to `rows_max` rows from row `first` on, none beyond its block."""
        assert 0 <= first < self.rows, "a row that is there"
        number = self._index.number_of(first)
        entry = self._index[number]
        begin = first - entry.first_row
        if begin >= entry.rows:
            raise CorruptLog(f"the index has lost the block of row {first}")
        columns = self._block(number, entry)
        if begin + rows_max >= entry.rows:
            self._last_read = None  # who goes on needs the next one
        return {name: column[begin : begin + rows_max] for name, column in columns.items()}

    def _block(self, number: int, entry: Entry) -> Columns:
        if self._last_read is None or self._last_read[0] != number:
            self._last_read = number, self._read_block(entry)
        return self._last_read[1]

    def _read_block(self, entry: Entry) -> Columns:
        packed = self._read_bytes(entry.position, HEAD_BYTES, entry)
        head = unpack_head(packed, self.header, entry.first_row)
        if head.rows != entry.rows:
            raise CorruptLog(f"the block of row {entry.first_row} is not the one of the index")
        payload = self._read_bytes(entry.position + HEAD_BYTES, head.byte_length, entry)
        return unpack_columns(payload, head, self.header)

    def _read_bytes(self, position: int, count: int, entry: Entry) -> bytes:
        try:
            found = os.pread(self._file, count, position)
        except OSError as error:
            what = f"the block of row {entry.first_row} cannot be read"
            raise CorruptLog(f"{what}: {error.strerror}") from error
        if len(found) != count:
            raise CorruptLog(f"the block of row {entry.first_row} was cut off")
        return found


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise CorruptLog(f"{path.name} is missing") from error
