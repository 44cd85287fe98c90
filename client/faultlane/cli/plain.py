"""Results as JSON: field names as in the proto, every number a number, enums by name."""

import json
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from faultlane import v1 as pb
from faultlane.compare import Comparison, Interval
from faultlane.report.streamed import Streamed


def to_json(plain: Any) -> str:
    """One document, indented, in ASCII: whatever the terminal's encoding is, it stays JSON."""
    return json.dumps(plain, indent=2)


def message_plain(message: Message) -> Any:
    """A message as dictionaries; numbers that are zero are there, messages that are unset not."""
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    return {
        field.name: _value_plain(cast(FieldDescriptor, field), getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def run_plain(simulation: pb.Simulation, streamed: Streamed) -> Any:
    """A run as it ended, and how many of its events were streamed."""
    counts = {"faults": streamed.faults, "operations": streamed.operations}
    return {"simulation": message_plain(simulation), "streamed": counts}


def comparison_plain(comparison: Comparison) -> Any:
    """All figures of all runs, and how far they are from the first policy's."""
    return {
        "seeds": comparison.seeds,
        "first": comparison.first,
        "policies": {policy: _policy_plain(comparison, policy) for policy in comparison.results},
    }


def _policy_plain(comparison: Comparison, policy: str) -> Any:
    results = comparison.results[policy]
    runs = [
        {
            "seed": seed,
            "simulation": message_plain(result.simulation),
            "figures": result.figures,
            "streamed": {"faults": result.faults, "operations": result.operations},
            "pairing": result.pairing._asdict(),
        }
        for seed, result in zip(comparison.seeds, results, strict=True)
    ]
    differences = {
        name: _interval_plain(comparison.difference(policy, name))
        for name in results[0].figures
        if comparison.values(policy, name) and comparison.values(comparison.first, name)
    }
    return {"runs": runs, "differences": differences}


def _interval_plain(interval: Interval) -> Any:
    return {"mean": interval.mean, "margin": interval.margin}


def _value_plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_item_plain(field, item) for item in value]
    return _item_plain(field, value)


def _item_plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return message_plain(value)
    if field.enum_type is not None:
        member = field.enum_type.values_by_number.get(value)
        return value if member is None else member.name
    return value
