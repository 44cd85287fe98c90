"""Walks through the message of a scenario and makes the dataclasses of the same names.

A message and its dataclass have the same fields, so one walk over both reads all
of them. It finds what a dataclass cannot hold (a oneof that is not set, a number
that no enum has), puts something harmless in its place and goes on, so that
`check` can say in the same answer what else is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.message import Message

from faultlane_server import codes, scenario
from faultlane_server.scenario import Violation

MESSAGES_MAX = 1 << 20  # in a scenario: more than its limits allow it to need

# Members of a oneof that are no messages: what stands for each.
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


# What stands in for a number that no enum has, if its first member is not harmless.
_HARMLESS_CODES: dict[type[IntEnum], IntEnum] = {codes.PageState: codes.PageState.CACHED}


class TooManyMessages(Exception):
    """The scenario is so large that it cannot be read in a reasonable time."""


class ScenarioReader:
    """Reads one scenario."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._replaced: set[str] = set()  # paths below which `check` sees what stands in
        self._messages = 0

    def with_those_of_check(self, others: Sequence[Violation]) -> list[Violation]:
        """Return all violations, without those of values that nobody asked for."""
        return [
            *self.violations,
            *(v for v in others if self._replaced.isdisjoint(_with_those_above(v.field))),
        ]

    def read(self, message: Message, path: str) -> Any:
        """Return the dataclass of a message; one that is nothing but a oneof is its member."""
        self._messages += 1
        if self._messages > MESSAGES_MAX:
            raise TooManyMessages
        shape = _shape_of(message.DESCRIPTOR)
        values = {
            slot.name: value
            for slot in shape.slots
            for value in self._values(message, slot, f"{path}.{slot.name}", path)
        }
        return shape.record(**values) if shape.record else values[shape.slots[0].name]

    def _values(self, message: Message, slot: "_Slot", path: str, above: str) -> Iterator[Any]:
        """Yield the value of a field, or nothing if its default is left to the dataclass."""
        if slot.members:
            yield from self._member(message, slot, path, above)
            return
        value = getattr(message, slot.name)
        if slot.is_scalar or (message.HasField(slot.name) if slot.has_presence else value):
            yield self._value(value, slot, path)
        elif not slot.has_default:
            yield self._missing(value, slot, path)

    def _value(self, value: Any, slot: "_Slot", path: str) -> Any:
        if slot.is_map:
            return dict(value)
        if not slot.is_repeated:
            return self._one(value, slot, path)
        if not (slot.is_message or slot.codes):
            return tuple(value)
        seen = len(self.violations)
        items = tuple(self._one(entry, slot, f"{path}[{n}]") for n, entry in enumerate(value))
        if slot.codes and len(self.violations) > seen:
            self._replaced.add(path)  # what stands in for one may be there already
        return items

    def _one(self, value: Any, slot: "_Slot", path: str) -> Any:
        if slot.is_message:
            return self.read(value, path)
        return self._code(value, slot.codes, path) if slot.codes else value

    def _missing(self, empty: Any, slot: "_Slot", path: str) -> Any:
        """Return what stands in for a field without which there is no dataclass."""
        if slot.is_repeated or not slot.is_message:
            return self._value(empty, slot, path)
        self._replaced.add(path)
        seen = len(self.violations)
        stand_in = self.read(empty, path)
        self.violations[seen:] = [Violation(path, f"a {empty.DESCRIPTOR.name}", None)]
        return stand_in

    def _member(self, message: Message, slot: "_Slot", path: str, above: str) -> Iterator[Any]:
        """Yield what a oneof holds."""
        name = message.WhichOneof(slot.name)
        if name in _SCALAR_MEMBERS:
            yield _SCALAR_MEMBERS[name](getattr(message, name))
        elif name:
            yield self.read(getattr(message, name), f"{above}.{name}")
        elif not slot.has_default:
            self.violations.append(Violation(path, f"one of {', '.join(slot.members)}", None))
            self._replaced.update(f"{above}.{member}" for member in slot.members)
            yield _HARMLESS[f"{message.DESCRIPTOR.name}.{slot.name}"]

    def _code(self, number: int, members: type[IntEnum], path: str) -> IntEnum:
        try:
            return members(number)
        except ValueError:
            names = ", ".join(member.name for member in members)
            self.violations.append(Violation(path, f"one of {names}", number))
            self._replaced.add(path)
            return _HARMLESS_CODES.get(members) or next(iter(members))


class _Slot(NamedTuple):
    """A field of a dataclass, and what stands for it in the message."""

    name: str
    has_default: bool
    members: tuple[str, ...] = ()  # of the oneof of this name
    is_repeated: bool = False
    is_map: bool = False
    is_message: bool = False
    has_presence: bool = False
    codes: type[IntEnum] | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether zero is a value like any other: `check` knows what it means."""
        return not (self.is_repeated or self.has_presence or self.codes)


class _Shape(NamedTuple):
    """How to read a message: its dataclass, or None if it is nothing but a oneof."""

    record: Any
    slots: tuple[_Slot, ...]


@cache
def _shape_of(message: Any) -> _Shape:
    if len(message.oneofs) == 1 and all(field.containing_oneof for field in message.fields):
        return _Shape(None, (_slot(message, message.oneofs[0].name, has_default=False),))
    record = getattr(scenario, message.name)
    return _Shape(
        record,
        tuple(
            _slot(
                message,
                field.name,
                field.default is not MISSING or field.default_factory is not MISSING,
            )
            for field in fields(record)
        ),
    )


def _slot(message: Any, name: str, has_default: bool) -> _Slot:
    if name in message.oneofs_by_name:
        members = tuple(field.name for field in message.oneofs_by_name[name].fields)
        return _Slot(name, has_default, members)
    field = message.fields_by_name[name]
    return _Slot(
        name,
        has_default,
        is_repeated=field.is_repeated,
        is_map=bool(field.message_type and field.message_type.GetOptions().map_entry),
        is_message=bool(field.message_type),
        has_presence=field.has_presence,
        codes=getattr(codes, field.enum_type.name) if field.enum_type else None,
    )


def _with_those_above(path: str) -> Iterator[str]:
    """Yield a path and those above it: a.b[0].c, a.b[0], a.b, a."""
    yield path
    for place in range(len(path) - 1, 0, -1):
        if path[place] in ".[":
            yield path[:place]
