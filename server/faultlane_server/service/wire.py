"""Columns as the bytes of a batch message, without a Python number on the way.

A packed field of fixed32 or fixed64 is its tag, its length in bytes and a
little-endian array, and messages written one after another are merged by whoever
reads them. So a response is put together out of its pieces, and every column is
copied once.
"""

from functools import lru_cache
from itertools import chain
from typing import TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from faultlane.v1 import events_pb2 as events
from faultlane_server.runs import LogKind, Part
from faultlane_server.store import Columns, rows_of

_LENGTH_DELIMITED = 2

_BYTES_OF = {FieldDescriptor.TYPE_FIXED32: 4, FieldDescriptor.TYPE_FIXED64: 8}

_BATCH: dict[LogKind, type[Message]] = {
    LogKind.FAULTS: events.FaultBatch,
    LogKind.OPERATIONS: events.OperationBatch,
}

_Pieces: TypeAlias = list[bytes | memoryview]


def response_bytes(part: Part | None, response: Message) -> bytes:
    """Return `response` on the wire, with the rows of `part`, which it takes, in their field."""
    rest = response.SerializeToString()
    if part is None:
        return rest
    field = response.DESCRIPTOR.fields_by_name[part.kind.value].number
    batch = _pieces(part.hand_over(), part.kind)
    length = sum(memoryview(piece).nbytes for piece in batch)
    return b"".join([_head(field, length), *batch, rest])


def batch_bytes(columns: Columns, kind: LogKind) -> bytes:
    """Return what a batch of these columns is on the wire."""
    return b"".join(_pieces(columns, kind))


def _pieces(columns: Columns, kind: LogKind) -> _Pieces:
    heads = _heads(kind, rows_of(columns))
    views = [column.data for column in columns.values()]
    return list(chain.from_iterable(zip(heads, views, strict=True)))


@lru_cache(maxsize=64)  # most batches are as long as the one before
def _heads(kind: LogKind, rows: int) -> list[bytes]:
    """Return what stands before each column of a batch of so many rows."""
    fields = _BATCH[kind].DESCRIPTOR.fields
    return [_head(field.number, rows * _BYTES_OF[field.type]) if rows else b"" for field in fields]


def _head(field: int, length: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
