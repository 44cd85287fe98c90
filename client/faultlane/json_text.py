"""JSON, and where in it the fields stand."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from faultlane.places import Lines, Unreadable, field_path, item_path

DIGITS_MAX = 40  # of a number; a longer one stays text, which no field takes

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s\[\]{},:"]+|[\[\]{},:\n]')


def load(text: str) -> Any:
    """Read a document.

    Raises
    ------
    Unreadable
        If it is not JSON, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise Unreadable(error.lineno, error.msg) from error
    except _Repeated as error:
        raise Unreadable(_repetition(text), f"the key {error} again") from error
    except RecursionError as error:
        raise Unreadable(1, "nested too deep") from error


def lines_of(text: str, fields: Iterable[str]) -> Lines:
    """Where some fields of a document stand that `load` has read."""
    walk, missing = _Walk(), set(fields)
    for match in _TOKEN.finditer(text):
        walk.meet(match[0])
        missing.discard(walk.path)
        if not missing:
            break
    return walk.lines


class _Repeated(Exception):
    """A key is there twice."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(repr(next(name for name in names if names.count(name) > 1)))
    return plain


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= DIGITS_MAX else digits


def _repetition(text: str) -> int:
    """The line of the first key that is there again."""
    walk = _Walk()
    with suppress(_Repeated):
        for match in _TOKEN.finditer(text):
            walk.meet(match[0])
    return walk.line


@dataclass
class _Around:
    """The object or list that a token is in."""

    path: str
    keys: set[str] | None  # None: it is a list
    items: int = 0


class _Walk:
    """Goes from token to token, and takes down every field."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.line = 1
        self.path = ""  # of the latest field
        self._around: list[_Around] = []
        self._wants_key = False

    def meet(self, token: str) -> None:
        """Take the next token; a key that is there again raises."""
        if token == "\n":
            self.line += 1
        elif token == ",":
            self._wants_key = self._around[-1].keys is not None
            self._around[-1].items += 1
        elif token in "]}":
            self._around.pop()
            self._wants_key = False
        elif self._wants_key:
            self._meet_key(json.loads(token))
        elif token != ":":
            self._meet_value(token)

    def _meet_key(self, key: str) -> None:
        around = self._around[-1]
        assert around.keys is not None, "only objects have keys"
        if key in around.keys:
            raise _Repeated
        around.keys.add(key)
        self.path = field_path(around.path, key)
        self.lines.add(self.path, self.line)
        self._wants_key = False

    def _meet_value(self, token: str) -> None:
        if self._around and self._around[-1].keys is None:
            self.path = item_path(self._around[-1].path, self._around[-1].items)
            self.lines.add(self.path, self.line)
        if token in "{[":
            self._around.append(_Around(self.path, set() if token == "{" else None))
            self._wants_key = token == "{"
