"""Columns as the bytes of a batch message, without a Python number on the way.

A packed field of fixed32 or fixed64 is its tag, its length in bytes and a
little-endian array, and messages written one after another are merged by whoever
reads them.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from numpy.typing import NDArray

from faultlane.v1 import events_pb2 as events
from faultlane_server.runs import LogKind, Part

_LENGTH_DELIMITED = 2

_BATCH: dict[LogKind, type[Message]] = {
    LogKind.FAULTS: events.FaultBatch,
    LogKind.OPERATIONS: events.OperationBatch,
}


def response_bytes(part: Part | None, response: Message) -> bytes:
    """Return `response` on the wire, with the rows of `part` in the field of their kind."""
    if part is None:
        return response.SerializeToString()
    field = response.DESCRIPTOR.fields_by_name[part.kind.value].number
    batch = batch_bytes(part.columns, _BATCH[part.kind])
    return _length_delimited(field, batch) + response.SerializeToString()


def batch_bytes(columns: Mapping[str, NDArray[Any]], batch: type[Message]) -> bytes:
    """Return what `batch` with these columns is on the wire."""
    fields = batch.DESCRIPTOR.fields_by_name
    return b"".join(
        _length_delimited(fields[name].number, column.tobytes()) for name, column in columns.items()
    )


def _length_delimited(field: int, content: bytes) -> bytes:
    if not content:
        return b""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
