"""From a scenario that breaks something to a smaller one that does too, and to a file of it.

The file is what `faultlane run` takes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from faultlane import v1 as pb
from faultlane_server.policy import RetryPolicy
from faultlane_server.scenario import (
    Exponential,
    Fixed,
    InvalidScenario,
    LogNormal,
    Quantiles,
    Scenario,
    check,
)

TRIALS_MAX = 400

# Members of a oneof whose names are not those of their classes.
FIELD_OF = {
    "Exponential": "exponential_mean_ns",
    "FileMapping": "file",
    "Fixed": "fixed_ns",
    "HugetlbMapping": "hugetlb",
    "AnonymousMapping": "anonymous",
}


def reduced(scenario: Scenario, is_bad: Callable[[Scenario], bool]) -> Scenario:
    """Leave out what can be left out, one thing at a time, while the scenario stays bad."""
    trials = 0
    found = True
    while found and trials < TRIALS_MAX:
        found = False
        for smaller in _checked(_smaller(scenario)):
            if smaller == scenario:  # what was left out is the default
                continue
            trials += 1
            if is_bad(smaller):
                scenario, found = smaller, True
                break
            if trials == TRIALS_MAX:
                break
    return scenario


def _checked(candidates: Iterator[Scenario]) -> Iterator[Scenario]:
    """Go through those that make sense."""
    for candidate in candidates:
        try:
            yield check(candidate)
        except InvalidScenario:
            continue


def _smaller(value: Any) -> Iterator[Any]:
    """Go through a value with one entry of some list in it left out, the largest first."""
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, tuple):
            for index in range(len(part)):
                yield replace(value, **{field.name: part[:index] + part[index + 1 :]})
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            for smaller in _smaller(part):
                yield replace(value, **{field.name: smaller})
        elif isinstance(part, tuple):
            for index, entry in enumerate(part):
                if is_dataclass(entry):
                    for smaller in _smaller(entry):
                        others = (*part[:index], smaller, *part[index + 1 :])
                        yield replace(value, **{field.name: others})


def write_scenario(scenario: Scenario, path: Path) -> None:
    """Write a scenario as a file that can be run."""
    path.write_text(MessageToJson(to_message(scenario)))


def to_message(scenario: Scenario) -> pb.Scenario:
    """Return the message of a scenario."""
    message = pb.Scenario()
    _fill(message, scenario)
    return message


def _fill(message: Message, value: Any) -> None:
    """Set the fields of a message to those of its dataclass."""
    for field in fields(value):
        part = getattr(value, field.name)
        if field.name in message.DESCRIPTOR.oneofs_by_name:
            _set_member(message, part)
        elif isinstance(part, tuple):
            _add(getattr(message, field.name), part)
        elif isinstance(part, dict):
            getattr(message, field.name).update(part)
        elif part is not None:
            _set(message, field.name, part)


def _add(repeated: Any, parts: tuple[Any, ...]) -> None:
    for part in parts:
        if not is_dataclass(part):
            repeated.append(part)
        elif len(repeated.add().DESCRIPTOR.oneofs) == 1 and not _has_own_fields(repeated[-1]):
            _set_member(repeated[-1], part)
        else:
            _fill(repeated[-1], part)


def _has_own_fields(message: Message) -> bool:
    """Whether a message is more than one oneof."""
    return any(field.containing_oneof is None for field in message.DESCRIPTOR.fields)


def _set(message: Message, name: str, part: Any) -> None:
    if not is_dataclass(part):
        setattr(message, name, part)
    elif isinstance(part, Fixed | Exponential | LogNormal | Quantiles):
        _set_member(getattr(message, name), part)
    else:
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), part)


def _set_member(message: Message, part: Any) -> None:
    """Set the member of a oneof that is for a value."""
    if isinstance(part, str):
        message.policy_id = part  # type: ignore[attr-defined]
        return
    kind = type(part).__name__
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
    name = "retry_policy" if isinstance(part, RetryPolicy) else FIELD_OF.get(kind, snake)
    if isinstance(part, Fixed):
        setattr(message, name, part.ns)
    elif isinstance(part, Exponential):
        setattr(message, name, part.mean_ns)
    else:
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), part)
