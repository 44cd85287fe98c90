"""Messages filled from dictionaries and from text, with everything that does not fit collected."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from faultlane.errors import InvalidScenario, Violation, want_got
from faultlane.places import field_path, item_path
from faultlane.units import units_of, whole_number

_SEGMENT = re.compile(r"(\w+)(?:\[([^\[\]]+)\])?")
_PATH = re.compile(rf"{_SEGMENT.pattern}(?:\.{_SEGMENT.pattern})*")

VIOLATIONS_MAX = 100  # after so many it is no use to read on
NAME_CHARACTERS_MAX = 100  # of a name for which another is looked for

_RANGE_OF: dict[int, tuple[int, int]] = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
}


class _Unfit(Exception):
    """A value is not what its field wants."""

    def __init__(self, want: str, got: object) -> None:
        super().__init__(want, got)
        self.want = want
        self.got = got


class _Segment(NamedTuple):
    """A part of a path: `cpus`, or `groups[readers]`."""

    name: str
    item: str | None


class Reader:
    """Fills messages and collects what does not fit."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def finish(self) -> None:
        """Raise an InvalidScenario if anything did not fit."""
        if self._violations:
            raise InvalidScenario(self._violations)

    def fill(self, message: Message, plain: Any, path: str) -> None:
        """Set the fields of a message from a dictionary."""
        if not isinstance(plain, Mapping):
            descriptor = _descriptor(message)
            self._refuse(path or descriptor.name.lower(), _any_field_of(descriptor), plain)
            return
        for name, value in plain.items():
            with self._refusing(where := field_path(path, str(name))):
                field = _field_named(message, name)
                _refuse_rival(message, field, value)
                if value is not None:
                    self._set(message, field, value, where)

    def set_path(self, message: Message, path: str, text: str) -> None:
        """Set the field that a path leads to."""
        with self._refusing(path):
            self._walk(message, _segments(path), path, text)

    def _walk(self, message: Message, segments: list[_Segment], path: str, text: str) -> None:
        (name, item), *rest = segments
        field = _field_named(message, name)
        if _is_map(field):
            _set_entry(message, field, _key(field, item, rest), text)
        elif rest:
            self._walk(_inside(message, field, item), rest, path, text)
        elif item is not None:
            raise _Unfit(f"{name} alone, or a field behind {name}[{item}]", path)
        elif field.message_type is not None and text != "{}":
            raise _Unfit(f"a path on to {_any_field_of(field.message_type)}", path)
        else:
            self._set(message, field, _value_of(field, text), path)

    def _set(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if _is_map(field):
            self._set_map(message, field, value, path)
        elif field.is_repeated:
            self._set_list(message, field, value, path)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.fill(inner, value, path)
        else:
            setattr(message, field.name, _scalar(field, value))

    def _set_list(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _Unfit("a list", value)
        message.ClearField(field.name)
        items = getattr(message, field.name)
        for number, item in enumerate(value):
            with self._refusing(where := item_path(path, number)):
                if field.message_type is None:
                    items.append(_scalar(field, item))
                else:
                    self.fill(items.add(), item, where)

    def _set_map(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _Unfit("names with values", value)
        for key, item in value.items():
            with self._refusing(field_path(path, str(key))):
                _set_entry(message, field, str(key), item)

    @contextmanager
    def _refusing(self, path: str) -> Iterator[None]:
        try:
            yield
        except _Unfit as error:
            self._refuse(path, error.want, error.got)

    def _refuse(self, path: str, want: str, got: object) -> None:
        self._violations.append(want_got(path, want, got))
        if len(self._violations) == VIOLATIONS_MAX:
            enough = f"these are the first {VIOLATIONS_MAX}: what comes after them was not read"
            raise InvalidScenario([*self._violations, Violation("", enough)])


def _field_named(message: Message, name: object) -> FieldDescriptor:
    for field in message.DESCRIPTOR.fields:
        if name in (field.name, field.json_name):
            return cast(FieldDescriptor, field)
    names = [field.name for field in message.DESCRIPTOR.fields]
    raise _Unfit(_any_field_of(_descriptor(message)) + _meant(name, names), name)


def _meant(got: object, names: Iterable[str]) -> str:
    """Which of some names may have been meant."""
    if not isinstance(got, str) or len(got) > NAME_CHARACTERS_MAX:
        return ""
    names = list(names)
    near = [name for name in names if name.startswith(f"{got}_")]
    near += get_close_matches(got, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _descriptor(message: Message) -> Descriptor:
    return cast(Descriptor, message.DESCRIPTOR)


def _any_field_of(descriptor: Descriptor) -> str:
    names = ", ".join(field.name for field in descriptor.fields)
    return f"the fields {names}" if names else "no fields: {}"


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _refuse_rival(message: Message, field: FieldDescriptor, value: Any) -> None:
    """Two fields of a oneof cannot both be meant."""
    if field.containing_oneof is None:
        return
    taken = message.WhichOneof(field.containing_oneof.name)
    if taken is not None:
        raise _Unfit(f"nothing beside {taken}", value)


def _segments(path: str) -> list[_Segment]:
    """Take a path apart."""
    if not _PATH.fullmatch(path):
        raise _Unfit("a path such as machine.cpus or workload.files[0].size_bytes", path)
    return [_Segment(*part.groups()) for part in _SEGMENT.finditer(path)]


def _inside(message: Message, field: FieldDescriptor, item: str | None) -> Message:
    """The message behind one segment of a path."""
    if field.message_type is None:
        raise _Unfit(f"a path that ends at {field.name}", field.name)
    inner = getattr(message, field.name)
    if not field.is_repeated and item is None:
        return inner  # type: ignore[no-any-return]
    if not field.is_repeated:
        raise _Unfit(f"{field.name} without [{item}]: there is only one", item)
    return _chosen(list(inner), field.name, item)


def _chosen(items: list[Message], name: str, item: str | None) -> Message:
    """One of many, by number or by name."""
    names = [getattr(each, "name", "") for each in items]
    if item is not None and item in names:
        return items[names.index(item)]
    if item is not None and item.isdecimal() and int(item) < len(items):
        return items[int(item)]
    known = ", ".join(filter(None, names)) or "none has a name"
    want = f"{name}[...] with a number below {len(items)} or a name ({known})"
    raise _Unfit(want + _meant(item, filter(None, names)), item or name)


def _key(field: FieldDescriptor, item: str | None, rest: list[_Segment]) -> str:
    """The key of a map's entry: `costs_ns.wake` or `costs_ns[wake]`."""
    keys = [item] * (item is not None) + [segment.name for segment in rest]
    if len(keys) != 1 or keys[0] is None:
        raise _Unfit(f"one name after {field.name}", ".".join(filter(None, keys)))
    return keys[0]


def _set_entry(message: Message, field: FieldDescriptor, key: str, value: Any) -> None:
    numbers = getattr(message, field.name)
    entry = cast(Descriptor, field.message_type).fields_by_name["value"]
    numbers[key] = _whole_number(entry, value, units_of(field.name))


def _value_of(field: FieldDescriptor, text: str) -> Any:
    """What the text of an assignment would be in a file."""
    if field.message_type is not None:
        return {}
    if field.is_repeated:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value of one field that is neither message nor list."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _truth(value)
    if field.enum_type is not None:
        return _member(field.enum_type, value)
    return _whole_number(field, value, units_of(field.name))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit("text", value)
    return value


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise _Unfit("true or false", value)
    return bool(value == "true")


def _member(enum: EnumDescriptor, value: Any) -> int:
    """The number of an enum's member: by number, by full name, or without the name of the enum."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    numbers = {member.name.removeprefix(prefix): member.number for member in enum.values}
    if type(value) is int and value in numbers.values():
        return value
    short = str(value).upper().removeprefix(prefix)
    if short not in numbers:
        names = [name for name in numbers if name != "UNSPECIFIED"]
        raise _Unfit(" or ".join(names) + _meant(short, names), value)
    return numbers[short]


def _whole_number(field: FieldDescriptor, value: Any, units: dict[str, int]) -> int:
    lowest, highest = _RANGE_OF[field.type]
    want = f"a whole number, {lowest} to {highest}"
    if units:
        want += f", or one in {', '.join(units)}"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Unfit(want, value)
    try:
        number = whole_number(str(value), units)
    except ValueError:
        raise _Unfit(want, value) from None
    if not lowest <= number <= highest:
        raise _Unfit(want, value)
    return number
