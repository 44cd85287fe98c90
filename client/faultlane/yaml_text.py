"""YAML in which every scalar is text: what `6.10` or `no` means is for the field to say.

An alias repeats what its anchor holds, and a few lines of them can stand for more than any memory
holds: so what a document stands for is counted, each repetition anew.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from faultlane.places import Lines, Unreadable, field_path, item_path

VALUES_MAX = 1 << 20  # in a document, with all that its aliases repeat
DEPTH_MAX = 100

_LOADER: Any = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader


class _Anchor(NamedTuple):
    """What an alias repeats."""

    path: str
    plain: Any
    values: int


def load(text: str) -> tuple[Any, Lines]:
    """Read a document, and where its fields stand.

    Raises
    ------
    Unreadable
        If it is not YAML, or stands for more than can be read.
    """
    try:
        return _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Unreadable(line, ", ".join(filter(None, [error.context, error.problem]))) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, str(error.reason)) from error


class _Composer:
    """Makes dictionaries, lists and text out of the events of a parser."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, _LOADER)
        self._lines = Lines()
        self._anchors: dict[str, _Anchor] = {}
        self._values = 0

    def document(self) -> tuple[Any, Lines]:
        """The only document of the file."""
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None, self._lines
        plain = self._value(next(self._events), "", 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Unreadable(_line_of(after), "a second document")
        return plain, self._lines

    def _value(self, event: Any, path: str, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise Unreadable(_line_of(event), f"nested more than {DEPTH_MAX} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event, path)
        before = self._values
        self._count(event, 1)
        plain = self._new_value(event, path, depth)
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(path, plain, self._values - before)
        return plain

    def _new_value(self, event: Any, path: str, depth: int) -> Any:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth + 1)
        return event.value

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable(_line_of(event), "a key that is no name")
            if event.value in plain:
                raise Unreadable(_line_of(event), f"the key {event.value!r} again")
            where = field_path(path, event.value)
            self._lines.add(where, _line_of(event))
            plain[event.value] = self._value(next(self._events), where, depth)
        return plain

    def _sequence(self, path: str, depth: int) -> list[Any]:
        plain: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            where = item_path(path, len(plain))
            self._lines.add(where, _line_of(event))
            plain.append(self._value(event, where, depth))
        return plain

    def _repeated(self, event: Any, path: str) -> Any:
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            problem = f"*{event.anchor}, of which there is no &{event.anchor} that ended before"
            raise Unreadable(_line_of(event), problem)
        self._count(event, anchor.values)
        self._lines.add_alias(path, anchor.path)
        return anchor.plain

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > VALUES_MAX:
            raise Unreadable(_line_of(event), f"more than {VALUES_MAX} values, aliases included")


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1
