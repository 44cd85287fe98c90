"""The tree of a scenario has the fields of the wire, so one walk translates all of it."""

from dataclasses import fields, is_dataclass

import pytest
from google.protobuf.descriptor import Descriptor

from faultlane.v1 import explanation_pb2, scenario_pb2, simulation_pb2
from faultlane_server import explanation, scenario, summary

# Messages that are a oneof and nothing else: in the tree, whatever the oneof holds.
UNIONS = {"Duration", "Step"}
# Members of `Duration` that are no messages on the wire.
SCALARS = {"Fixed", "Exponential"}

RECORDS = {
    name: record
    for name, record in vars(scenario).items()
    if isinstance(record, type) and is_dataclass(record)
}
MESSAGES = scenario_pb2.DESCRIPTOR.message_types_by_name


def names_of(message: Descriptor) -> set[str]:
    """The fields of a message, those of a oneof under its name.

    `optional` is a oneof too, whose name begins with an underscore.
    """
    oneofs = {field.name: field.containing_oneof for field in message.fields}
    return {
        oneof.name if oneof and not oneof.name.startswith("_") else name
        for name, oneof in oneofs.items()
    }


def test_every_message_of_a_scenario_has_its_record():
    assert RECORDS.keys() - SCALARS == set(MESSAGES) - UNIONS


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - UNIONS))
def test_a_record_has_the_fields_of_its_message(name):
    assert {field.name for field in fields(RECORDS[name])} == names_of(MESSAGES[name])


PARTS = [
    *("Summary", "Latency", "LockRow", "Diagnosis"),
    *("Blame", "BlameEdge", "BlameChain", "BlameLink", "Who", "Victim", "LockInstanceRow"),
    *("LeftOut", "Retries", "RetryRow", "LongestFault", "AttemptRow", "WaitPart"),
]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_summary_has_the_fields_of_its_message(name):
    message = simulation_pb2.DESCRIPTOR.message_types_by_name[name]

    assert [field.name for field in fields(getattr(summary, name))] == list(message.fields_by_name)


EXPLAINED = {
    "FaultExplanation": explanation.Explanation,
    "FaultStep": explanation.FaultStep,
    "Blocking": explanation.Blocking,
    "BlockingLink": explanation.Link,
}


def test_every_part_of_an_explanation_has_its_record():
    assert EXPLAINED.keys() == set(explanation_pb2.DESCRIPTOR.message_types_by_name)


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_part_of_an_explanation_has_the_fields_of_its_message(name):
    message = explanation_pb2.DESCRIPTOR.message_types_by_name[name]

    assert [field.name for field in fields(EXPLAINED[name])] == list(message.fields_by_name)
