"""A batch becomes one array for each column, of exactly the type that the wire has."""

import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

from faultlane import FaultEvents, OperationEvents, errors, write_parquet
from tests.client.fake import as_list, some_faults, some_operations

DTYPES = {FieldDescriptor.TYPE_FIXED32: np.uint32, FieldDescriptor.TYPE_FIXED64: np.uint64}


@pytest.mark.parametrize("kind", [FaultEvents, OperationEvents])
def test_columns_are_those_of_the_message(kind: type[FaultEvents] | type[OperationEvents]) -> None:
    message = some_faults([1]) if kind is FaultEvents else some_operations([1])

    columns = kind.from_message(message).columns()

    assert {name: column.dtype for name, column in columns.items()} == {
        field.name: np.dtype(DTYPES[field.type]) for field in message.DESCRIPTOR.fields
    }


def test_the_largest_numbers_survive() -> None:
    top32, top64 = 2**32 - 1, 2**64 - 1

    faults = FaultEvents.from_message(some_faults([1], blocker=[top32], touch=[top64]))

    assert int(faults.blocker[0]) == top32
    assert int(faults.touch[0]) == top64


def test_columns_are_copies_of_their_own() -> None:
    message = some_faults([1, 2])
    faults = FaultEvents.from_message(message)

    message.thread[0] = 9

    assert as_list(faults.thread) == [1, 2]


def test_batches_join_in_order() -> None:
    batches = [FaultEvents.from_message(some_faults(threads)) for threads in ([1, 2], [], [3])]

    assert as_list(FaultEvents.concat(batches).thread) == [1, 2, 3]


def test_no_batches_join_to_an_empty_one() -> None:
    nothing = OperationEvents.concat([])

    assert len(nothing) == 0
    assert nothing.duration_ns.dtype == np.uint64


def test_rows_are_chosen_in_all_columns_at_once() -> None:
    faults = FaultEvents.from_message(some_faults([1, 2, 3], cpu=[4, 5, 6]))

    assert as_list(faults[1:].cpu) == [5, 6]
    assert as_list(faults[faults.thread != 2].cpu) == [4, 6]
    assert as_list(faults[np.array([2, 0])].thread) == [3, 1]
    assert len(faults[:2]) == 2


def two_batches() -> list[FaultEvents]:
    return [
        FaultEvents.from_message(some_faults([1, 2], start_ns=[2**63, 5])),
        FaultEvents.from_message(some_faults([3], start_ns=[2**64 - 1])),
    ]


def test_a_pandas_frame_has_all_columns_and_rows() -> None:
    pytest.importorskip("pandas")
    events = FaultEvents.concat(two_batches())

    frame = events.to_pandas()

    assert list(frame.columns) == list(events.columns())
    assert frame["start_ns"].tolist() == [2**63, 5, 2**64 - 1]
    assert frame["thread"].dtype == np.uint32


def test_a_polars_frame_has_all_columns_and_rows() -> None:
    pytest.importorskip("polars")
    events = FaultEvents.concat(two_batches())

    frame = events.to_polars()

    assert frame.columns == list(events.columns())
    assert frame["start_ns"].to_list() == [2**63, 5, 2**64 - 1]


def test_an_arrow_table_has_all_columns_and_rows() -> None:
    pytest.importorskip("pyarrow")
    events = FaultEvents.concat(two_batches())

    table = events.to_arrow()

    assert table.column_names == list(events.columns())
    assert table["start_ns"].to_pylist() == [2**63, 5, 2**64 - 1]


def test_a_parquet_file_has_the_rows_of_all_batches(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_parquet(iter(two_batches()), tmp_path / "all.parquet")
    two_batches()[0].to_parquet(tmp_path / "one.parquet")

    table = parquet.read_table(tmp_path / "all.parquet")
    assert table["start_ns"].to_pylist() == [2**63, 5, 2**64 - 1]
    assert parquet.read_metadata(tmp_path / "all.parquet").num_row_groups == 2
    assert parquet.read_table(tmp_path / "one.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [
        ("to_pandas", "pandas", "pandas"),
        ("to_polars", "polars", "polars"),
        ("to_arrow", "pyarrow", "arrow"),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, method: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(errors.MissingExtra, match=rf"pip install 'faultlane\[{extra}\]'"):
        getattr(two_batches()[0], method)()
