"""Finds out how much of a log that nobody closed can be relied on."""

import os
from pathlib import Path

from faultlane_server.store.index import Entry
from faultlane_server.store.log import (
    HEAD_BYTES,
    BlockHead,
    CorruptLog,
    LogHeader,
    WrongLogFormat,
    unpack_columns,
    unpack_head,
    unpack_header,
)
from faultlane_server.store.reader import HEADER_BYTES_MAX


def whole_blocks(path: Path, header: LogHeader) -> tuple[list[Entry], int]:
    """Return the blocks up to the first one that is torn or damaged, and where they end.

    Every block is read and its checksum compared, and the index is not asked: after a loss
    of power any of what was written last may be missing.

    Raises
    ------
    LogError
        If it is not a log of this header.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise CorruptLog(f"{path.name} cannot be opened: {error.strerror}") from error
    try:
        found, end = unpack_header(os.pread(file, HEADER_BYTES_MAX, 0))
        if found != header:
            raise WrongLogFormat(f"{path.name} is the log of another run")
        return _blocks(file, header, end)
    finally:
        os.close(file)


def _blocks(file: int, header: LogHeader, end: int) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    rows = 0
    while head := _whole_block(file, header, rows, end):
        entries.append(Entry(rows, end, head.rows))
        rows += head.rows
        end += HEAD_BYTES + head.byte_length
    return entries, end


def _whole_block(file: int, header: LogHeader, first_row: int, position: int) -> BlockHead | None:
    try:
        head = unpack_head(os.pread(file, HEAD_BYTES, position), header, first_row)
        payload = os.pread(file, head.byte_length, position + HEAD_BYTES)
        if len(payload) != head.byte_length:
            return None
        unpack_columns(payload, head, header)
    except CorruptLog:
        return None
    return head
