"""A log gives back, row for row, what was appended to it, or says that it cannot."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultlane_server.store import (
    Columns,
    CorruptLog,
    LogHeader,
    LogNotWritten,
    LogReader,
    LogWriter,
    WrongLogFormat,
)
from faultlane_server.store.index import index_path
from faultlane_server.store.log import BLOCK_ROWS_MAX, HEAD_BYTES, _checksum_of

HEADER = LogHeader("faults", "d" * 64, 7, {"thread": "<u4", "start_ns": "<u8"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "faults.log"


def rows(first: int, end: int) -> Columns:
    """Rows that know their own number."""
    numbers = np.arange(first, end)
    return {"thread": numbers.astype("<u4"), "start_ns": numbers.astype("<u8") * 1000}


def write(path: Path, *block_ends: int) -> LogWriter:
    writer = LogWriter.create(path, HEADER)
    for first, end in zip((0, *block_ends), block_ends, strict=False):
        writer.append(rows(first, end))
        writer.flush()
    return writer


def read(reader: LogReader, first: int, count: int) -> list[int]:
    """Read on and on, as far as there are rows."""
    numbers: list[int] = []
    while first + len(numbers) < reader.rows and len(numbers) < count:
        numbers += starts_of(reader.read(first + len(numbers), count - len(numbers)))
    return numbers


def starts_of(columns: Columns) -> list[int]:
    assert (columns["thread"] * np.uint64(1000) == columns["start_ns"]).all()
    return [int(ns) // 1000 for ns in columns["start_ns"]]


def test_the_header_says_what_the_log_is_about(path: Path) -> None:
    write(path)
    with LogReader(path) as reader:
        assert reader.header == HEADER
        assert reader.rows == 0


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 40), st.integers(1, 40))
def test_any_range_of_rows_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], first: int, count: int
) -> None:
    """However the rows were cut into blocks."""
    path = tmp_path_factory.mktemp("log") / "faults.log"
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    write(path, *ends).close()
    total = sum(lengths)
    with LogReader(path) as reader:
        assert reader.rows == total
        assert read(reader, first, count) == list(range(total))[first : first + count]


def test_a_large_append_becomes_full_blocks_and_what_is_left(path: Path) -> None:
    write(path, 30_000)
    with LogReader(path) as reader:
        assert read(reader, 0, 30_000) == list(range(30_000))
        sizes = [entry.rows for entry in map(reader._index.__getitem__, range(len(reader._index)))]
        assert sizes == [BLOCK_ROWS_MAX] * (30_000 // BLOCK_ROWS_MAX) + [30_000 % BLOCK_ROWS_MAX]


def test_small_appends_become_full_blocks_before_anybody_flushes(path: Path) -> None:
    writer = write(path)
    for first in range(0, 20_000, 1000):
        writer.append(rows(first, first + 1000))
    with LogReader(path) as reader:
        assert read(reader, 0, 20_000) == list(range(20_000 - 20_000 % BLOCK_ROWS_MAX))
        writer.flush()
        reader.refresh()
        assert read(reader, 0, 20_000) == list(range(20_000))


def test_no_rows_take_no_memory(path: Path) -> None:
    writer = write(path)
    for _ in range(100):
        writer.append(rows(0, 0))

    assert not writer._waiting


def test_a_read_ends_with_its_block(path: Path) -> None:
    write(path, 5, 9)
    with LogReader(path) as reader:
        assert starts_of(reader.read(3, 99)) == [3, 4]
        assert starts_of(reader.read(5, 2)) == [5, 6]


def test_rows_can_be_read_as_soon_as_they_are_flushed(path: Path) -> None:
    writer = write(path, 5)
    with LogReader(path) as early, LogReader(path) as late:
        writer.append(rows(5, 8))
        early.refresh()
        assert early.rows == 5

        writer.flush()

        early.refresh()
        late.refresh()
        assert read(early, 4, 10) == [4, 5, 6, 7]
        assert read(late, 0, 6) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("missing", [1, 4 * 12, 4 * 12 + HEAD_BYTES - 1])
def test_of_a_log_that_was_cut_what_is_left_can_be_read(path: Path, missing: int) -> None:
    """And the rest is an error, and never a wrong row."""
    write(path, 5, 9).close()
    os.truncate(path, path.stat().st_size - missing)
    with LogReader(path) as reader:
        assert read(reader, 0, 5) == [0, 1, 2, 3, 4]
        with pytest.raises(CorruptLog):
            reader.read(5, 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 300), st.booleans())
def test_a_log_goes_on_after_its_last_whole_block(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], missing: int, indexed: bool
) -> None:
    """Wherever a crash cut it, and whether or not its index had been written."""
    path = tmp_path_factory.mktemp("log") / "faults.log"
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    write(path, *ends).close()
    header_bytes = path.stat().st_size - sum(HEAD_BYTES + 12 * length for length in lengths)
    os.truncate(path, max(header_bytes, path.stat().st_size - missing))
    if not indexed:
        index_path(path).unlink()

    writer = LogWriter.resume(path, HEADER)
    kept = writer.rows
    writer.append(rows(kept, 60))
    writer.flush()

    assert kept in (0, *ends[:-1])
    assert writer.bytes == path.stat().st_size + index_path(path).stat().st_size
    with LogReader(path) as reader:
        assert read(reader, 0, 99) == list(range(60))


def test_a_log_goes_on_before_its_first_damaged_block(path: Path) -> None:
    write(path, 5, 9, 12).close()
    content = bytearray(path.read_bytes())
    content[-3 * 12 - HEAD_BYTES - 1] ^= 1
    path.write_bytes(content)

    assert LogWriter.resume(path, HEADER).rows == 5
    with LogReader(path) as reader:
        assert read(reader, 0, 99) == [0, 1, 2, 3, 4]


def test_only_a_log_of_the_same_run_is_gone_on_with(path: Path) -> None:
    write(path, 5).close()
    content = path.read_bytes()

    with pytest.raises(WrongLogFormat):
        LogWriter.resume(path, replace(HEADER, digest="e" * 64))

    assert path.read_bytes() == content


def test_a_damaged_index_is_found(path: Path) -> None:
    write(path, 5, 9).close()
    content = bytearray(index_path(path).read_bytes())
    content[3] ^= 1
    index_path(path).write_bytes(content)

    with pytest.raises(CorruptLog, match="index"), LogReader(path) as reader:
        reader.read(0, 1)


@pytest.mark.parametrize("gone", ["faults.log", "faults.index"])
def test_a_file_that_is_missing_is_a_damaged_log(path: Path, gone: str) -> None:
    write(path, 5).close()
    path.with_name(gone).unlink()

    with pytest.raises(CorruptLog, match="missing"):
        LogReader(path)


def test_a_flipped_bit_is_found_wherever_it_is(path: Path) -> None:
    write(path, 5, 9).close()
    content = path.read_bytes()
    damaged = path.with_name("damaged.log")
    shutil.copy(index_path(path), index_path(damaged))
    for position in range(12, len(content)):
        damaged.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        with pytest.raises(CorruptLog), LogReader(damaged) as reader:
            read(reader, 0, 99)


@pytest.mark.parametrize("position", [0, 4095, 4096, 50_000, 98_303, 98_304, 99_999])
def test_a_flipped_bit_is_found_in_every_piece_of_a_long_block(path: Path, position: int) -> None:
    """A checksum folds the block; its last, shorter piece is not folded."""
    payload = bytes(range(250)) * 400
    damaged = bytearray(payload)
    damaged[position] ^= 1

    assert _checksum_of(damaged) != _checksum_of(payload)


def test_blocks_before_a_damaged_one_can_be_read(path: Path) -> None:
    write(path, 5, 9).close()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with LogReader(path) as reader:
        assert read(reader, 0, 5) == [0, 1, 2, 3, 4]
        with pytest.raises(CorruptLog, match="block of row 5"):
            reader.read(5, 1)


@pytest.mark.parametrize("content", [b"", b"FLTLNLOG"])
def test_a_log_without_a_header_is_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptLog):
        LogReader(path)


@pytest.mark.parametrize("content", [b"PK" + bytes(40), b"FLTLNLOG\x63" + bytes(40)])
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WrongLogFormat):
        LogReader(path)


def test_a_log_is_never_written_over(path: Path) -> None:
    write(path, 5).close()
    with pytest.raises(LogNotWritten):
        LogWriter.create(path, HEADER)


def test_a_full_disk_is_a_typed_error(path: Path) -> None:
    writer = write(path, 5)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), writer._files.log.fileno())
    writer.append(rows(5, 9))
    for _ in range(2):
        with pytest.raises(LogNotWritten, match="No space left"):
            writer.flush()
        writer.append(rows(9, 10))
    with LogReader(path) as reader:
        assert reader.rows == 5
