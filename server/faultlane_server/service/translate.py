"""Messages to what the rooms below understand, and back.

A message of a scenario and the dataclass of its name have the same fields, so one
walk over both translates all of them. It finds what a dataclass cannot hold (a
oneof that is not set, a number that no enum has), puts something harmless in its
place, and goes on, so that `check` can say in the same answer what else is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, asdict, fields
from datetime import datetime
from enum import IntEnum
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from faultlane.v1 import scenario_pb2, simulation_pb2
from faultlane_server import codes, scenario
from faultlane_server.runs import Simulation
from faultlane_server.scenario import InvalidScenario, Scenario, Violation, check
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.summary import Summary

# Members of a oneof that are no messages: the dataclass that stands for each.
_SCALAR_MEMBERS: dict[str, Any] = {
    "fixed_ns": scenario.Fixed,
    "exponential_mean_ns": scenario.Exponential,
    "policy_id": str,
}

# What stands in for a oneof that is not set.
_HARMLESS: dict[str, Any] = {
    "Step.kind": scenario.Compute(scenario.Fixed(1)),
    "Touch.pattern": scenario.Uniform(),
    "Duration.shape": scenario.Fixed(1),
    "Vma.backing": scenario.FileMapping(file=""),
}


def scenario_from_wire(message: scenario_pb2.Scenario | None) -> Scenario:
    """Return the checked scenario of a request; None if the request has none."""
    reader = _Reader()
    if message is None:
        raise InvalidRequest([Violation("scenario", "a scenario", None)])
    unchecked = reader.record(message, "scenario")
    try:
        checked: Scenario = check(unchecked)
    except InvalidScenario as error:
        found = [v._replace(field=f"scenario.{v.field}") for v in error.violations]
        raise InvalidRequest(reader.with_those_of(found)) from error
    if reader.violations:
        raise InvalidRequest(reader.violations)
    return checked


def simulation_to_wire(simulation: Simulation) -> simulation_pb2.Simulation:
    """Return the message for a simulation."""
    message = simulation_pb2.Simulation(
        name=simulation.name,
        state=simulation_pb2.SimulationState.ValueType(simulation.state or 0),
        scenario=scenario_pb2.Scenario.FromString(simulation.scenario_as_asked),
        digest=simulation.digest,
        create_time=_timestamp(simulation.create_time),
        start_time=_timestamp(simulation.start_time),
        end_time=_timestamp(simulation.end_time),
        progress=simulation_pb2.Progress(
            **asdict(simulation.progress), horizon_ns=simulation.horizon_ns
        ),
    )
    if simulation.summary:
        message.summary.CopyFrom(summary_to_wire(simulation.summary))
    if simulation.error:
        message.error.CopyFrom(simulation_pb2.RunError(**asdict(simulation.error)))
    return message


def summary_to_wire(summary: Summary) -> simulation_pb2.Summary:
    """Return the message for a summary, its metrics in alphabetical order."""
    content = {field.name: getattr(summary, field.name) for field in fields(summary)}
    content["metrics"] = [
        simulation_pb2.Metric(name=name, value=value)
        for name, value in sorted(summary.metrics.items())
    ]
    content["latencies"] = [simulation_pb2.Latency(**asdict(row)) for row in summary.latencies]
    content["locks"] = [simulation_pb2.LockRow(**asdict(row)) for row in summary.locks]
    content["diagnosis"] = summary.diagnosis and simulation_pb2.Diagnosis(
        **asdict(summary.diagnosis)
    )
    return simulation_pb2.Summary(**content)


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


class _Reader:
    """Walks through the message of a scenario and remembers what no dataclass can hold."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._replaced: list[str] = []  # paths below which `check` sees what stands in

    def with_those_of(self, others: Sequence[Violation]) -> list[Violation]:
        """Return all violations, without those of values that nobody asked for."""
        return [*self.violations, *(v for v in others if not self._is_replaced(v.field))]

    def record(self, message: Message, path: str) -> Any:
        """Return the dataclass that has the name of the message, with its values."""
        cls = getattr(scenario, message.DESCRIPTOR.name)
        values = {
            field.name: value
            for field in fields(cls)
            for value in self._values(message, field, path)
        }
        return cls(**values)

    def _values(self, message: Message, field: Field[Any], path: str) -> Iterator[Any]:
        """Yield the value of a field, or nothing if the dataclass has a default for it."""
        descriptor: Any = message.DESCRIPTOR
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name in descriptor.oneofs_by_name:
            yield from self._oneof(
                message, descriptor.oneofs_by_name[field.name], path, has_default
            )
        else:
            yield from self._plain(
                message, descriptor.fields_by_name[field.name], path, has_default
            )

    def _plain(self, message: Message, field: Any, path: str, has_default: bool) -> Iterator[Any]:
        value, path = getattr(message, field.name), f"{path}.{field.name}"
        if field.is_repeated:
            if value or not has_default:
                yield self._entries(value, field, path)
        elif field.has_presence and not message.HasField(field.name):
            if not has_default:
                yield self._missing(value, path)
        elif field.message_type:
            yield self._value(value, path)
        elif field.enum_type:
            if value or not has_default:
                yield self._member(value, field, path)
        else:
            yield value

    def _entries(self, values: Any, field: Any, path: str) -> Any:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return dict(values)
        if field.message_type:
            return tuple(self._value(entry, f"{path}[{n}]") for n, entry in enumerate(values))
        if field.enum_type:
            return tuple(self._member(n, field, f"{path}[{i}]") for i, n in enumerate(values))
        return tuple(values)

    def _value(self, message: Message, path: str) -> Any:
        """Return the dataclass of a message; one that is nothing but a oneof is its member."""
        descriptor: Any = message.DESCRIPTOR
        if descriptor.oneofs and all(field.containing_oneof for field in descriptor.fields):
            (value,) = self._oneof(message, descriptor.oneofs[0], path, has_default=False)
            return value
        return self.record(message, path)

    def _oneof(self, message: Message, oneof: Any, path: str, has_default: bool) -> Iterator[Any]:
        name = message.WhichOneof(oneof.name)
        if name in _SCALAR_MEMBERS:
            yield _SCALAR_MEMBERS[name](getattr(message, name))
        elif name:
            yield self._value(getattr(message, name), f"{path}.{name}")
        elif not has_default:
            members = [field.name for field in oneof.fields]
            self.violations.append(
                Violation(f"{path}.{oneof.name}", f"one of {', '.join(members)}", None)
            )
            self._replaced += [f"{path}.{member}" for member in members]
            yield _HARMLESS[f"{message.DESCRIPTOR.name}.{oneof.name}"]

    def _missing(self, empty: Message, path: str) -> Any:
        self._replaced.append(path)
        seen = len(self.violations)
        stand_in = self._value(empty, path)
        self.violations[seen:] = [Violation(path, f"a {empty.DESCRIPTOR.name}", None)]
        return stand_in

    def _member(self, number: int, field: Any, path: str) -> IntEnum:
        members: type[IntEnum] = getattr(codes, field.enum_type.name)
        try:
            return members(number)
        except ValueError:
            names = ", ".join(member.name for member in members)
            self.violations.append(Violation(path, f"one of {names}", number))
            self._replaced.append(path)
            return next(iter(members))

    def _is_replaced(self, path: str) -> bool:
        return any(
            path == replaced or path.startswith((f"{replaced}.", f"{replaced}["))
            for replaced in self._replaced
        )
