"""The index of a log: where each block is, one entry of fixed size for each.

An entry is written after its block, so what the index names is there, and a reader
finds any row with a few small reads, however long the log is. All numbers are
little-endian; each entry has a CRC-32 of its own.
"""

import os
import struct
import zlib
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from faultlane_server.store.log import CorruptLog

_ENTRY = struct.Struct("<QQI")
_CHECKSUM = struct.Struct("<I")
ENTRY_BYTES = _ENTRY.size + _CHECKSUM.size


class Entry(NamedTuple):
    """Where a block is."""

    first_row: int
    position: int  # of its head in the log
    rows: int


def index_path(log: Path) -> Path:
    """Return where the index of a log is."""
    return log.with_suffix(".index")


def pack_entry(entry: Entry) -> bytes:
    content = _ENTRY.pack(*entry)
    return content + _CHECKSUM.pack(zlib.crc32(content))


class BlockIndex:
    """The entries of an index file, as far as it had been written at the last `refresh`."""

    def __init__(self, path: Path) -> None:
        self._count = 0
        self._file = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._file)

    def refresh(self) -> None:
        """Find the entries that were added; one that is not there in full is left for later."""
        self._count = os.fstat(self._file).st_size // ENTRY_BYTES

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Entry:
        if number >= self._count:
            raise IndexError(number)
        packed = os.pread(self._file, ENTRY_BYTES, number * ENTRY_BYTES)
        content, seal = packed[: _ENTRY.size], packed[_ENTRY.size :]
        if _CHECKSUM.pack(zlib.crc32(content)) != seal:
            raise CorruptLog(f"entry {number} of the index has a wrong checksum")
        return Entry(*_ENTRY.unpack(content))

    def number_of(self, row: int) -> int:
        """Return the number of the block that has a row."""
        return bisect_right(self, row, key=_first_row) - 1


def _first_row(entry: Entry) -> int:
    return entry.first_row
