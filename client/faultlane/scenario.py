"""Scenarios out of files, and single fields of them out of text.

A scenario file is the JSON of the message `Scenario`, or the same as YAML. Fields are named as in
the proto (or in camelCase), times and sizes may have units (`4ms`, `64KiB`), and the value of an
enum may leave out the enum's name (`RANDOM` or `random` for `ADVICE_RANDOM`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from faultlane import json_text
from faultlane import v1 as pb
from faultlane.errors import InvalidScenario, MissingExtra, Violation
from faultlane.fields import Reader
from faultlane.places import Lines, Unreadable

Message = TypeVar("Message", pb.Scenario, pb.Machine)

# A document, and what tells where some of its fields stand.
_Document: TypeAlias = tuple[Any, Callable[[Iterable[str]], Lines]]

FILE_BYTES_MAX = 16 << 20  # what a server takes in one request


def read_scenario(path: str | Path) -> pb.Scenario:
    """Read a scenario file; one that ends in `.json` is JSON, any other is YAML.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidScenario
        If it does not hold a scenario; `.violations` has everything that is wrong, and where.

    Examples
    --------
    >>> Path("mine.yaml").write_text("horizon_ns: 4ms")
    15
    >>> read_scenario("mine.yaml").horizon_ns
    4000000
    >>> Path("mine.yaml").write_text("horizon: 4ms")
    12
    >>> read_scenario("mine.yaml")
    Traceback (most recent call last):
    faultlane.errors.InvalidScenario: mine.yaml:1: horizon: want ...
    """
    return _read(Path(path), scenario_from)


def read_machine(path: str | Path) -> pb.Machine:
    """Read a file with fields of a scenario's `machine`, as `faultlane calibrate` writes them.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidScenario
        If it does not hold a machine; `.violations` has everything that is wrong, and where.

    Examples
    --------
    >>> _ = Path("machine.yaml").write_text("costs_ns: {syscall: 90}")
    >>> read_machine("machine.yaml").costs_ns["syscall"]
    90
    """
    return _read(Path(path), _machine_from)


def scenario_from(plain: Any) -> pb.Scenario:
    """Make a scenario out of dictionaries, lists, numbers and text.

    Raises
    ------
    InvalidScenario
        If they do not fit the message; `.violations` has everything that is wrong.

    Examples
    --------
    >>> made = scenario_from({"machine": {"arch": "arm64", "page_size_bytes": "16KiB"}})
    >>> made.machine.page_size_bytes
    16384
    """
    return _filled(pb.Scenario(), plain)


def set_machine(scenario: pb.Scenario, machine: pb.Machine) -> None:
    """Give a scenario the costs of a machine, and whatever else of it is set.

    The profile and the costs that the scenario has itself go, since they are those of another.

    Examples
    --------
    >>> made = pb.Scenario(machine=pb.Machine(cpus=4, profile="neutral"))
    >>> set_machine(made, pb.Machine(costs_ns={"syscall": 90}))
    >>> made.machine.profile, made.machine.cpus
    ('', 4)
    """
    merged = scenario.machine
    merged.ClearField("profile")
    merged.ClearField("costs_ns")
    if machine.devices:
        merged.ClearField("devices")
    merged.MergeFrom(machine)


def set_field(scenario: pb.Scenario, path: str, text: str) -> None:
    """Set one field; see `set_fields`.

    Examples
    --------
    >>> made = pb.Scenario()
    >>> set_field(made, "kernel.policy_id", "rfc")
    >>> made.kernel.policy_id
    'rfc'
    """
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

    Examples
    --------
    >>> made = pb.Scenario()
    >>> set_fields(made, [("machine.cpus", "8"), ("horizon_ns", "1s")])
    >>> made.machine.cpus, made.horizon_ns
    (8, 1000000000)
    >>> set_fields(made, [("machine.cpu", "8"), ("horizon_ns", "soon")])
    Traceback (most recent call last):
    faultlane.errors.InvalidScenario: machine.cpu: want ...; horizon_ns: want ...
    """
    reader = Reader()
    for path, text in assignments:
        reader.set_path(scenario, path, text)
    reader.finish()


def yaml_plain(text: str) -> Any:
    """Read YAML, leaving every scalar as text.

    Raises
    ------
    Unreadable
        If it is none, which is a ValueError.
    """
    plain, _ = _yaml(text)
    return plain


def _read(path: Path, message_from: Callable[[Any], Message]) -> Message:
    """Read a file, and say of whatever does not fit where it stands."""
    try:
        text = _text_of(path)
        plain, lines_of = _json(text) if path.suffix == ".json" else _yaml(text)
    except Unreadable as error:
        place = f"{path}:{error.line}"
        raise InvalidScenario([Violation("", error.problem, place)]) from error
    try:
        return message_from(plain)
    except InvalidScenario as error:
        lines = lines_of([violation.field for violation in error.violations])
        raise InvalidScenario(lines.placed(str(path), error.violations)) from error


def _machine_from(plain: Any) -> pb.Machine:
    return _filled(pb.Machine(), plain)


def _filled(message: Message, plain: Any) -> Message:
    reader = Reader()
    reader.fill(message, plain, "")
    reader.finish()
    return message


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise Unreadable(1, f"more than {FILE_BYTES_MAX} bytes, which no server takes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, f"no text in UTF-8: {error.reason}") from error


def _json(text: str) -> _Document:
    """Read JSON; where its fields stand takes longer and is seldom asked."""
    return json_text.load(text), lambda fields: json_text.lines_of(text, fields)


def _yaml(text: str) -> _Document:
    try:
        from faultlane import yaml_text
    except ImportError as error:
        raise MissingExtra("YAML needs PyYAML: pip install 'faultlane[cli]'") from error
    plain, lines = yaml_text.load(text)
    return plain, lambda fields: lines
