"""Where in a scenario file each field stands."""

from collections.abc import Sequence

from faultlane.errors import Violation


class Unreadable(ValueError):
    """A file holds no document that can be read."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


class Lines:
    """The lines of a document's fields, by their paths."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._anchors: dict[str, str] = {}  # where an alias stands, and where what it repeats does

    def add(self, path: str, line: int) -> None:
        """Say where a field stands; the first of two wins."""
        self._lines.setdefault(path, line)

    def add_alias(self, path: str, anchor: str) -> None:
        """Say that what is at `path` was written at `anchor`."""
        self._anchors[path] = anchor

    def line_of(self, path: str) -> int:
        """The line of a field, or of the closest one around it."""
        for around in _with_those_above(path):
            if around in self._anchors and around != path:
                return self.line_of(self._anchors[around] + path[len(around) :])
            if around in self._lines:
                return self._lines[around]
        return 1

    def placed(self, file: str, violations: Sequence[Violation]) -> list[Violation]:
        """The same violations, each with its place in the file."""
        return [
            each._replace(place=f"{file}:{self.line_of(each.field)}") if each.field else each
            for each in violations
        ]


def field_path(above: str, name: str) -> str:
    """The path of a field of the message at `above`."""
    return f"{above}.{name}" if above else name


def item_path(above: str, number: int) -> str:
    """The path of an item of the list at `above`."""
    return f"{above}[{number}]"


def _with_those_above(path: str) -> list[str]:
    """A path and those above it: a.b[0].c, a.b[0], a.b, a."""
    ends = [place for place in range(1, len(path)) if path[place] in ".["]
    return [path, *(path[:end] for end in reversed(ends))]
