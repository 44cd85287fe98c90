"""Numbers as text with units, as scenario files and `--set` have them: `4ms`, `64KiB`, `5%`.

Which units a number takes is told by the name of its field: `_ns`, `_bytes`, `_bytes_per_s`,
`_ppm`.
"""

import re
from decimal import Decimal

NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
BYTES_PER_S = {f"{unit}/s": scale for unit, scale in BYTES.items()}
MILLIONTHS = {"%": 10**4}

CHARACTERS_MAX = 100  # of a number with its unit

_NUMBER = re.compile(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)\s*(\D*)")

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def units_of(field: str) -> dict[str, int]:
    """The units that a field takes, each with what it stands for."""
    last = f"_{field}"
    if last.endswith("_ns"):
        return NANOSECONDS
    if last.endswith("_bytes"):
        return BYTES
    if last.endswith("_bytes_per_s"):
        return BYTES_PER_S
    if last.endswith("_ppm"):
        return MILLIONTHS
    return {}


def whole_number(text: str, units: dict[str, int]) -> int:
    """Read a number, in any way that leaves it whole: `1_000`, `1e6`, `0x1000`, `1.5ms`.

    Raises
    ------
    ValueError
        If it is no number, not whole, or has another unit.
    """
    if len(text) > CHARACTERS_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    if _ADDRESS.fullmatch(text):
        return int(text, 16)
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    digits, unit = match.groups()
    if unit and unit not in units:
        raise ValueError(text)
    value = Decimal(digits) * units.get(unit, 1)
    if value != int(value):
        raise ValueError(text)
    return int(value)
