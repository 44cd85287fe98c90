"""Inputs that make sense, for others to be made of."""

import json
import random
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from faultlane.v1 import scenario_pb2
from tests.fuzz.front import SERVICES
from tests.fuzz.mutate import change_something, changed_bytes, changed_text
from tests.service.fake import a_scenario
from tests.service.test_bad_scenarios import a_plain_scenario

CORPUS = Path(__file__).parent / "corpus"
RPCS: list[MethodDescriptor] = [rpc for service in SERVICES for rpc in service.methods]
MAKER = SERVICES[0].methods_by_name["CreateSimulation"]
MAKERS = [rpc for rpc in RPCS if "scenario" in rpc.input_type.fields_by_name]
NAMES = ["simulations/nobody", "simulations/../x", "", "simulations/" + "a" * 64]


class Request(NamedTuple):
    """Bytes for a method."""

    method: str
    content: bytes


class File(NamedTuple):
    """Text for a scenario file with an ending."""

    ending: str
    content: bytes


def an_input(chance: random.Random, kept: list[str]) -> Request | File:
    """Return one that is more or less wrong; `kept` are names of simulations that there are."""
    if chance.random() < 0.25:
        return _a_file(chance)
    rpc = chance.choice([MAKER] if chance.random() < 0.6 else RPCS)
    message: Any = GetMessageClass(rpc.input_type)()
    if "name" in rpc.input_type.fields_by_name:
        message.name = chance.choice([*kept[-3:], *NAMES])
    if rpc in MAKERS:
        message.scenario.CopyFrom(chance.choice([*_scenarios()[:2] * 20, *_scenarios()]))
    for _ in range(chance.choice([0, 1, 1, 2, 4, 12])):
        change_something(message, chance)
    if "validate_only" in rpc.input_type.fields_by_name:
        message.validate_only = chance.random() < 0.9  # to run all of them would take long
    content = _bytes_of(message)
    if chance.random() < 0.4:
        content = changed_bytes(content, _serialized(), chance)
    return Request(f"/{rpc.containing_service.full_name}/{rpc.name}", content)


def _a_file(chance: random.Random) -> File:
    ending = chance.choice([".yaml", ".json", ".json"])
    texts = _texts(ending)
    text = changed_text(chance.choice(texts), texts, chance)
    return File(ending, text.encode("utf-8", "surrogateescape"))


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


@cache
def _scenarios() -> list[scenario_pb2.Scenario]:
    plain = json_format.ParseDict(a_plain_scenario(), scenario_pb2.Scenario())
    presets = (entry for entry in files("faultlane_server.presets").iterdir())
    shipped = [
        json_format.ParseDict(json.loads(entry.read_text())["scenario"], scenario_pb2.Scenario())
        for entry in presets
        if entry.name.endswith(".json")
    ]
    return [a_scenario(), plain, *shipped]


@cache
def _serialized() -> list[bytes]:
    return [_bytes_of(scenario) for scenario in _scenarios()]


@cache
def _texts(ending: str) -> list[str]:
    plain = [
        json_format.MessageToDict(scenario, preserving_proto_field_name=True)
        for scenario in sorted(_scenarios(), key=lambda each: each.ByteSize())[:6]
    ]
    if ending == ".json":
        return [json.dumps(each, indent=1) for each in plain]
    return [yaml.safe_dump(each, sort_keys=False) for each in plain]
