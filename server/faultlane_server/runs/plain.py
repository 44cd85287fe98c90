"""Records as text for the register, and back.

What a text lacks because an earlier version wrote it is empty, and what it has that
no field asks for is left out: so a figure can be added to a summary.
"""

import json
from dataclasses import asdict, fields, is_dataclass
from enum import IntEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def text_of(record: Any) -> str:
    """Return a dataclass as JSON."""
    return json.dumps(asdict(record), separators=(",", ":"))


def record_of(kind: type[T], text: str) -> T:
    """Return the dataclass of a text."""
    found: T = _value(kind, json.loads(text))
    return found


def _value(kind: Any, plain: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (some,) = (each for each in arguments if each is not NoneType)
        return None if plain is None else _value(some, plain)
    if origin is tuple and arguments[-1] is Ellipsis:
        return tuple(_value(arguments[0], each) for each in plain or ())
    if origin is tuple:
        values = plain or [None] * len(arguments)
        return tuple(_value(*each) for each in zip(arguments, values, strict=True))
    if isinstance(origin, type):  # a mapping
        return {name: _value(arguments[1], each) for name, each in (plain or {}).items()}
    if is_dataclass(kind):
        assert isinstance(kind, type), "a class, not one of its records"
        return _record(kind, plain or {})
    if issubclass(kind, tuple):  # with names
        names, values = kind._fields, plain or [None] * len(kind._fields)
        return kind(*(_value(_hints(kind)[n], v) for n, v in zip(names, values, strict=True)))
    if issubclass(kind, IntEnum):
        return kind(plain) if plain else next(iter(kind))
    return kind() if plain is None else plain


def _record(kind: type, plain: dict[str, Any]) -> Any:
    hints = _hints(kind)
    names = [field.name for field in fields(kind)]
    return kind(**{name: _value(hints[name], plain.get(name)) for name in names})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
