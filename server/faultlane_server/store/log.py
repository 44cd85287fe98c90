"""The format of a log file: a header, then blocks of rows, one after another.

Header: magic, LOG_FORMAT, length of the description; the description as JSON; CRC-32
of all that. Block: magic, number of rows, first row, length of the columns, their
checksum, CRC-32 of these fields; then the columns, each an array of its dtype. All
numbers are little-endian. A file is only ever appended to, so a reader needs no lock:
a block that is not there in full yet is not there.

* LogError
  + WrongLogFormat   the file is no log, or of another version of the program
  + CorruptLog       a checksum or a count is wrong
  + LogNotWritten    the file system did not take it
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOG_FORMAT = 3  # since 3 a log has an index beside it
BLOCK_ROWS_MAX = 4096  # 0.9 MB of faults: a message of as many rows as is usual is one block
PIECE_BYTES = 4096  # what a checksum is folded to

FILE_MAGIC = b"FLTLNLOG"
BLOCK_MAGIC = b"ROWS"

_PREFIX = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
_HEAD = struct.Struct("<4sIQQI")
HEAD_BYTES = _HEAD.size + _CHECKSUM.size

Columns = dict[str, NDArray[Any]]


class LogError(Exception):
    """A log could not be read or written."""


class WrongLogFormat(LogError):
    """The file is no log, or one of another version of the program."""


class CorruptLog(LogError):
    """What the file says contradicts its checksums or its counts."""


class LogNotWritten(LogError):
    """The file system did not take what was to be written."""


@dataclass(frozen=True, slots=True)
class LogHeader:
    """What a log is about, and the dtype of each of its columns in order."""

    kind: str
    digest: str
    model_version: int
    columns: dict[str, str]


class BlockHead(NamedTuple):
    """What stands before the columns of a block."""

    rows: int
    first_row: int
    byte_length: int
    checksum: int


def row_bytes(columns: Mapping[str, str]) -> int:
    """Return how long a row of these columns is."""
    return sum(np.dtype(dtype).itemsize for dtype in columns.values())


def rows_of(columns: Columns) -> int:
    """Return how many rows these columns have."""
    return len(next(iter(columns.values())))


def pack_header(header: LogHeader) -> bytes:
    """Return the bytes that a log begins with."""
    description = json.dumps(
        {
            "kind": header.kind,
            "digest": header.digest,
            "model_version": header.model_version,
            "columns": list(header.columns.items()),
        }
    ).encode()
    return _sealed(_PREFIX.pack(FILE_MAGIC, LOG_FORMAT, len(description)) + description)


def unpack_header(start: bytes) -> tuple[LogHeader, int]:
    """Return the header in the first bytes of a file, and how long it is."""
    if len(start) < _PREFIX.size:
        raise CorruptLog("the file is too short for a log")
    magic, log_format, length = _PREFIX.unpack_from(start)
    if magic != FILE_MAGIC:
        raise WrongLogFormat("the file does not begin like a log")
    if log_format != LOG_FORMAT:
        raise WrongLogFormat(f"want log format {LOG_FORMAT}, got {log_format}")
    header_bytes = _PREFIX.size + length + _CHECKSUM.size
    description = json.loads(_unsealed(start[:header_bytes], "header")[_PREFIX.size :])
    return LogHeader(**description | {"columns": dict(description["columns"])}), header_bytes


def pack_block(first_row: int, rows: int, payload: bytes) -> bytes:
    """Return the bytes of a block with its head."""
    head = _HEAD.pack(BLOCK_MAGIC, rows, first_row, len(payload), _checksum_of(payload))
    return _sealed(head) + payload


def unpack_head(head: bytes, header: LogHeader, first_row: int) -> BlockHead:
    """Return the head of the block that begins with `first_row`."""
    content = _unsealed(head, f"head of the block of row {first_row}")
    magic, *fields = _HEAD.unpack(content)
    block = BlockHead(*fields)
    if magic != BLOCK_MAGIC or block.first_row != first_row:
        raise CorruptLog(f"the block of row {first_row} is not where it should be")
    if block.byte_length != block.rows * row_bytes(header.columns):
        raise CorruptLog(f"the block of row {first_row} has a wrong length")
    return block


def unpack_columns(payload: bytes, block: BlockHead, header: LogHeader) -> Columns:
    """Return the columns of a block as read-only arrays over its bytes."""
    if _checksum_of(payload) != block.checksum:
        raise CorruptLog(f"the block of row {block.first_row} has a wrong checksum")
    columns, position = {}, 0
    for name, dtype in header.columns.items():
        columns[name] = np.frombuffer(payload, dtype, block.rows, position)
        position += columns[name].nbytes
    return columns


def _checksum_of(payload: bytes | bytearray) -> int:
    """Return the CRC-32 of all pieces folded into one by exclusive or, and of what is left.

    Damage to one piece is found as a CRC-32 of everything would find it, at a tenth of its cost.
    """
    whole = len(payload) - len(payload) % PIECE_BYTES
    pieces = np.frombuffer(payload, "<u8", whole // 8).reshape(-1, PIECE_BYTES // 8)
    folded = np.bitwise_xor.reduce(pieces, axis=0)
    return zlib.crc32(payload[whole:], zlib.crc32(folded.data))


def _sealed(content: bytes) -> bytes:
    return content + _CHECKSUM.pack(zlib.crc32(content))


def _unsealed(sealed: bytes, what: str) -> bytes:
    content, seal = sealed[: -_CHECKSUM.size], sealed[-_CHECKSUM.size :]
    if len(seal) < _CHECKSUM.size or _CHECKSUM.pack(zlib.crc32(content)) != seal:
        raise CorruptLog(f"the {what} has a wrong checksum")
    return content
