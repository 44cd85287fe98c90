"""Makes inputs of other ones: fields of messages, bytes, and lines of text that are changed.

Everything is drawn from the generator that is handed in, so an input can be had again.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

WORDS = ["", "map", "data", "disk", "x86", "rfc", "\0", "ä" * 200, "spaces and more"]
WORDS += ["shm", "vdso", "copy", "app", "readers", "6.3", "mmap_lock_only"]
NUMBERS = [0, 1, 2, 4095, 4096, 1 << 20, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def change_something(message: Message, chance: random.Random) -> None:
    """Go down to some message and put something into some field of it."""
    parts = [
        part
        for field, value in message.ListFields()
        if field.message_type and not field.message_type.GetOptions().map_entry
        for part in (value if field.is_repeated else [value])
    ]
    if parts and chance.random() < 0.8:
        change_something(chance.choice(parts), chance)
    elif message.DESCRIPTOR.fields:
        put_something(message, chance.choice(message.DESCRIPTOR.fields), chance)


def put_something(message: Message, field: Any, chance: random.Random) -> None:
    if chance.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        name = chance.choice(["trap", "switch", "nonsense"])
        getattr(message, field.name)[name] = a_value(value, chance)
    elif field.message_type and field.is_repeated:
        for _ in range(chance.choice([1, 3])):
            change_something(getattr(message, field.name).add(), chance)
    elif field.message_type:
        getattr(message, field.name).SetInParent()
    elif field.is_repeated:
        getattr(message, field.name).extend(a_value(field, chance) for _ in range(3))
    else:
        setattr(message, field.name, a_value(field, chance))


def a_value(field: Any, chance: random.Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return chance.choice(WORDS)
        case FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return chance.choice([*range(7), 99, -1])
        case FieldDescriptor.TYPE_UINT32:
            return a_number(2**32 - 1, chance)
        case FieldDescriptor.TYPE_SINT32 | FieldDescriptor.TYPE_INT32:
            return chance.choice([-1, 1]) * a_number(2**31 - 1, chance)
        case FieldDescriptor.TYPE_SINT64 | FieldDescriptor.TYPE_INT64:
            return chance.choice([-1, 1]) * a_number(2**63 - 1, chance)
    return a_number(2**64 - 1, chance)


def a_number(most: int, chance: random.Random) -> int:
    return chance.choice([number for number in NUMBERS if number <= most])


CUT_MAX = 64  # bytes that are left out or doubled at once
CHUNKS = [b"", b"\0", b"\xff" * 8, b"\x80" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"\xed\xa0\x80"]
SCALARS = ["", "0", "-1", "1e309", "nan", "null", "true", "0x10", "1_000", "4ms", "16MiB", "~"]
SCALARS += [
    "18446744073709551616",
    "9" * 400,
    "{}",
    "[]",
    "*a",
    "&a x",
    "!!python/none",
    "<<",
    "- ",
]
SCALARS += ["mainline", "PAGE_STATE_CACHED", "\ud7ff", "\x7f", '"', "{a: b", "? ", "|", "%TAG"]


def changed_bytes(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return other bytes: some flipped, left out, doubled, put in, or from another input."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        chance.choice(_BYTE_CHANGES)(changed, others, chance)
    return bytes(changed)


def changed_text(text: str, others: Sequence[str], chance: random.Random) -> str:
    """Return other text: values replaced, lines moved, or single bytes changed."""
    if chance.random() < 0.3:
        some = [other.encode() for other in others]
        return changed_bytes(text.encode(), some, chance).decode("utf-8", "surrogateescape")
    lines = text.splitlines()
    for _ in range(chance.choice([1, 1, 2, 5])):
        chance.choice(_LINE_CHANGES)(lines, chance)
    return "\n".join(lines)


def _flip(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _leave_out(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    begin = chance.randrange(len(content) + 1)
    del content[begin : begin + chance.randrange(1, CUT_MAX)]


def _double(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    begin = chance.randrange(len(content) + 1)
    content[begin:begin] = content[begin : begin + chance.randrange(1, CUT_MAX)]


def _put_in(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    begin = chance.randrange(len(content) + 1)
    content[begin:begin] = chance.choice([*CHUNKS, chance.randbytes(chance.randrange(16))])


def _splice(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    content[chance.randrange(len(content) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _cut_short(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    del content[chance.randrange(len(content) + 1) :]


_BYTE_CHANGES: list[Callable[[bytearray, Sequence[bytes], random.Random], None]] = [
    *(_flip, _leave_out, _double, _put_in, _splice, _cut_short)
]


def _replace_value(lines: list[str], chance: random.Random) -> None:
    place = chance.randrange(len(lines))
    name, colon, value = lines[place].partition(":")
    comma = "," if value.endswith(",") else ""
    lines[place] = f"{name}{colon} {chance.choice(SCALARS)}{comma}"


def _replace_word(lines: list[str], chance: random.Random) -> None:
    place = chance.randrange(len(lines))
    words = lines[place].split(" ")
    words[chance.randrange(len(words))] = chance.choice(SCALARS)
    lines[place] = " ".join(words)


def _drop_line(lines: list[str], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]
    lines += [] if lines else [""]


def _double_lines(lines: list[str], chance: random.Random) -> None:
    begin = chance.randrange(len(lines))
    end = begin + chance.randrange(1, 6)
    lines[end:end] = lines[begin:end]


def _move_line(lines: list[str], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), lines.pop(chance.randrange(len(lines))))


def _indent(lines: list[str], chance: random.Random) -> None:
    place = chance.randrange(len(lines))
    lines[place] = chance.choice([" ", "  ", "\t", "- ", "{", "["]) * chance.choice(
        [1, 1, 50, 2000]
    ) + (lines[place].lstrip() if chance.random() < 0.5 else lines[place])


_LINE_CHANGES: list[Callable[[list[str], random.Random], None]] = [
    *(_replace_value, _replace_value, _replace_word),
    *(_drop_line, _double_lines, _move_line, _indent),
]
