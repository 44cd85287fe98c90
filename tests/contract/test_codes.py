"""The server's codes and columns are those of the wire, so nothing needs to translate them."""

import re
from enum import IntEnum

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from faultlane import v1 as pb
from faultlane_server import codes
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS

OF_THE_SERVER_ALONE = {"FaultClass", "VmaLockDesign", "VmaLockFaults", "VmFault"}
WIDTH = {FieldDescriptor.TYPE_FIXED32: "<u4", FieldDescriptor.TYPE_FIXED64: "<u8"}

CODES = {
    name: code
    for name, code in vars(codes).items()
    if isinstance(code, type) and issubclass(code, IntEnum) and code is not IntEnum
}
WIRE_ENUMS = {name for name in pb.__all__ if hasattr(getattr(pb, name), "Value")}


def test_every_code_is_on_the_wire_but_those_of_the_server_alone():
    assert CODES.keys() - OF_THE_SERVER_ALONE == WIRE_ENUMS


@pytest.mark.parametrize("name", sorted(WIRE_ENUMS))
def test_a_code_has_the_number_and_the_name_that_it_has_on_the_wire(name):
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
    wire = dict(getattr(pb, name).items())

    assert wire.pop(f"{prefix}_UNSPECIFIED") == 0
    assert wire == {f"{prefix}_{code.name}": code.value for code in CODES[name]}


@pytest.mark.parametrize(
    ("message", "columns"),
    [(pb.FaultBatch, FAULT_COLUMNS), (pb.OperationBatch, OPERATION_COLUMNS)],
    ids=["faults", "operations"],
)
def test_a_log_has_the_columns_of_its_batch_in_order_and_width(message, columns):
    descriptor: Descriptor = message.DESCRIPTOR

    assert {field.name: WIDTH[field.type] for field in descriptor.fields} == columns
    assert [field.name for field in descriptor.fields] == list(columns)


def test_a_column_takes_as_many_bytes_on_the_wire_as_in_the_log():
    column = np.array([0, 1, 2**64 - 1], FAULT_COLUMNS["start_ns"])

    assert column.tobytes() in pb.FaultBatch(start_ns=column.tolist()).SerializeToString()
