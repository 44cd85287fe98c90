"""Reads a log file from any row, also while it is being written."""

import os
from bisect import bisect_right
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from faultlane_server.store.log import (
    HEAD_BYTES,
    BlockHead,
    Columns,
    CorruptLog,
    unpack_columns,
    unpack_head,
    unpack_header,
)

_HEADER_BYTES_MAX = 1 << 16


class _Block(NamedTuple):
    head: BlockHead
    position: int  # of its columns in the file


class LogReader:
    """A reader of its own pace: it keeps the index of the blocks and the one it read last."""

    def __init__(self, path: Path) -> None:
        self.rows = 0  # that were there at the last refresh
        self._blocks: list[_Block] = []
        self._first_rows: list[int] = []
        self._last_read: tuple[int, Columns] | None = None
        self._file = os.open(path, os.O_RDONLY)
        try:
            self.header, self._end = unpack_header(os.pread(self._file, _HEADER_BYTES_MAX, 0))
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

    def refresh(self) -> None:
        """Find the blocks that were added; one that is not there in full is left for later."""
        size = os.fstat(self._file).st_size
        while self._end + HEAD_BYTES <= size:
            head = unpack_head(os.pread(self._file, HEAD_BYTES, self._end), self.header, self.rows)
            block = _Block(head, self._end + HEAD_BYTES)
            if block.position + head.byte_length > size:
                return
            self._blocks.append(block)
            self._first_rows.append(head.first_row)
            self.rows += head.rows
            self._end = block.position + head.byte_length

    def read(self, first: int, rows_max: int) -> Columns:
        """Return up to `rows_max` rows from row `first` on, none beyond its block."""
        assert 0 <= first < self.rows, "a row that is there"
        number = bisect_right(self._first_rows, first) - 1
        begin = first - self._first_rows[number]
        return {
            name: column[begin : begin + rows_max] for name, column in self._block(number).items()
        }

    def _block(self, number: int) -> Columns:
        if self._last_read is None or self._last_read[0] != number:
            self._last_read = number, self._read_block(self._blocks[number])
        return self._last_read[1]

    def _read_block(self, block: _Block) -> Columns:
        payload = os.pread(self._file, block.head.byte_length, block.position)
        if len(payload) != block.head.byte_length:
            raise CorruptLog(f"the block of row {block.head.first_row} was cut off")
        return unpack_columns(payload, block.head, self.header)
