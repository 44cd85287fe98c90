"""What is wrong with a scenario: all of it, by field."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

SHOWN_MAX = 20  # violations in the text of an error, and names in a list of choices
COMPARED_MAX = 1000  # names among which the one that was meant is looked for
NAME_CHARACTERS_MAX = 128

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{NAME_CHARACTERS_MAX}}}")


class Violation(NamedTuple):
    """One field, what we want there and what we got."""

    field: str
    want: str
    got: object

    def __str__(self) -> str:
        return f"{self.field}: want {self.want}, got {self.got!r}"


class InvalidScenario(ValueError):
    """Fields of the scenario have values that make no sense: all of them, not the first."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        shown = "; ".join(map(str, violations[:SHOWN_MAX]))
        more = len(violations) - SHOWN_MAX
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class Place:
    """A field of the scenario, by its path; takes down what is wrong there.

    The checks return whether all was well.
    """

    path: str
    violations: list[Violation]

    def field(self, name: str) -> "Place":
        return Place(f"{self.path}.{name}" if self.path else name, self.violations)

    def item(self, index: int) -> "Place":
        return Place(f"{self.path}[{index}]", self.violations)

    def refuse(self, want: str, got: object) -> bool:
        shown = got.name if isinstance(got, IntEnum) else got
        self.violations.append(Violation(self.path, want, shown))
        return False

    def want_between(self, low: int, high: int, got: int) -> bool:
        return low <= got <= high or self.refuse(f"{low} to {high}", got)

    def want_at_most(self, high: int, got: int, what: str) -> bool:
        return got <= high or self.refuse(f"at most {high} {what}", got)

    def want_multiple(self, unit: int, got: int) -> bool:
        fits = got >= 0 and got % unit == 0
        return fits or self.refuse(f"a multiple of the page size, {unit}", got)

    def want_one_of(self, choices: Collection[int], got: int) -> bool:
        return got in choices or self.refuse(f"one of {_listed(choices)}", got)

    def want_name(self, got: str) -> bool:
        want = f"1 to {NAME_CHARACTERS_MAX} letters, digits, '_', '-' and '.'"
        return _NAME.fullmatch(got) is not None or self.refuse(want, got)

    def want_known(self, known: Collection[str], got: str) -> bool:
        """Want a name that exists; say which ones do, and which one may have been meant."""
        if got in known:
            return True
        if not known:
            return self.refuse("a name that is defined, and none is", got)
        near = get_close_matches(got, known, n=1) if len(known) <= COMPARED_MAX else []
        hint = f" (did you mean {near[0]}?)" if near else ""
        return self.refuse(f"one of {_listed(known)}{hint}", got)

    def want_unique_names(self, names: Sequence[str]) -> None:
        """Check the `name` of each item of a list."""
        seen: set[str] = set()
        for index, name in enumerate(names):
            place = self.item(index).field("name")
            place.want_name(name)
            if name in seen:
                place.refuse("a name that no other has", name)
            seen.add(name)


def _listed(choices: Collection[object]) -> str:
    shown = ", ".join(map(str, islice(choices, SHOWN_MAX)))
    more = len(choices) - SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
