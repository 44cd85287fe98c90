"""Scenarios out of files, and single fields of them out of text.

A scenario file is the JSON of the message `Scenario`, or the same as YAML. Fields are named as in
the proto (or in camelCase), times and sizes may have units (`4ms`, `64KiB`), and the value of an
enum may leave out the enum's name (`RANDOM` or `random` for `ADVICE_RANDOM`).
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faultlane import v1 as pb
from faultlane.errors import InvalidScenario, MissingExtra, Violation
from faultlane.fields import Reader


def read_scenario(path: str | Path) -> pb.Scenario:
    """Read a scenario file; one that ends in `.json` is JSON, any other is YAML.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidScenario
        If it does not hold a scenario; `.violations` has everything that is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        plain = json_plain(text) if path.suffix == ".json" else yaml_plain(text)
    except ValueError as error:
        raise InvalidScenario([Violation(str(path), str(error))]) from error
    return scenario_from(plain)


def scenario_from(plain: Any) -> pb.Scenario:
    """Make a scenario out of dictionaries, lists, numbers and text.

    Raises
    ------
    InvalidScenario
        If they do not fit the message; `.violations` has everything that is wrong.
    """
    scenario = pb.Scenario()
    reader = Reader()
    reader.fill(scenario, plain, "")
    reader.finish()
    return scenario


def set_field(scenario: pb.Scenario, path: str, text: str) -> None:
    """Set one field; see `set_fields`."""
    set_fields(scenario, [(path, text)])


def set_fields(scenario: pb.Scenario, assignments: Iterable[tuple[str, str]]) -> None:
    """Set fields by their paths: `machine.cpus`, `workload.processes[0].groups[readers].threads`.

    What repeats is chosen by number or by `name`; an entry of a map is a name more
    (`machine.costs_ns.wake`); a list of numbers or names is written with commas; `{}` sets a
    message without fields. Values are written as in a file.

    Raises
    ------
    InvalidScenario
        If paths or values make no sense; `.violations` has all of them.
    """
    reader = Reader()
    for path, text in assignments:
        reader.set_path(scenario, path, text)
    reader.finish()


def json_plain(text: str) -> Any:
    """Read JSON, and raise a ValueError if it is none or has a key twice."""
    return json.loads(text, object_pairs_hook=_without_repetition)


def yaml_plain(text: str) -> Any:
    """Read YAML, leaving every scalar as text, and raise a ValueError if it is none."""
    try:
        from faultlane import yaml_text
    except ImportError as error:
        raise MissingExtra("YAML needs PyYAML: pip install 'faultlane[cli]'") from error
    return yaml_text.load(text)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {again!r} again")
    return plain
