"""A batch becomes one array for each column, of exactly the type that the wire has."""

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

from faultlane import FaultEvents, OperationEvents
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
