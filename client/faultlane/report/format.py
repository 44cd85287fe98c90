"""Numbers as people read them, and tables of them."""

from collections.abc import Callable, Sequence

_UNITS_NS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
_UNITS_RATE = ((1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"))

GAP = "  "


def duration_text(ns: float) -> str:
    """A length of time with three digits: `812 ns`, `4.10 ms`; negative ones too."""
    for scale, unit in _UNITS_NS:
        if abs(ns) >= scale:
            return f"{_three_digits(ns / scale)} {unit}"
    return f"{ns:.0f} ns"


def rate_text(per_s: float) -> str:
    """A rate with three digits: `12.3 k/s`."""
    for scale, unit in _UNITS_RATE:
        if abs(per_s) >= scale:
            return f"{_three_digits(per_s / scale)} {unit}"
    return f"{_three_digits(per_s)} /s"


def number_text(value: float) -> str:
    """A count with its thousands apart; a fraction has four digits."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"


def ratio_text(ratio: float) -> str:
    """A ratio with two digits behind the point, or as many as tell something: `x0.0041`."""
    if ratio >= 100:
        return f"x{ratio:,.0f}"
    return f"x{ratio:.2f}" if ratio >= 0.1 or ratio == 0 else f"x{ratio:.2g}"


def figure_text(name: str, value: float) -> str:
    """A figure in the unit that its name ends in."""
    if name.endswith("_ns"):
        return duration_text(value)
    if name.endswith("per_second"):
        return rate_text(value)
    return number_text(value)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table of numbers: the first column to the left, the others to the right."""
    return [_line(row, _widths(rows), str.rjust) for row in rows]


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table of text: all columns to the left."""
    return [_line(row, _widths(rows), str.ljust) for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]


def _line(row: Sequence[str], widths: Sequence[int], adjust: Callable[[str, int], str]) -> str:
    first = row[0].ljust(widths[0])
    others = [adjust(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return GAP.join([first, *others]).rstrip()


def _three_digits(value: float) -> str:
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
