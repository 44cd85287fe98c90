"""Nothing but the reading of rows knows a case by its name: all else follows from numbers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import faultlane_server

SERVER = Path(faultlane_server.__file__).parent
READER = SERVER / "fidelity" / "rows.py"
NAMES = {"set", "scenario", "variant"}  # of columns that name a case


def reads(source: str) -> Iterator[str]:
    """Return each of the columns that a program takes from a row, as `row[...]` or `.get(...)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            yield from _named(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("get", "pop", "setdefault", "__getitem__"):
                yield from _named(*node.args[:1])
            elif node.func.attr == "itemgetter":
                yield from _named(*node.args)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "itemgetter":
                yield from _named(*node.args)
        elif isinstance(node, ast.MatchMapping):
            yield from _named(*node.keys)


def _named(*nodes: ast.expr) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield node.value


def test_no_code_but_the_reader_of_rows_looks_at_the_name_of_a_case() -> None:
    others = {
        str(path.relative_to(SERVER)): found
        for path in SERVER.rglob("*.py")
        if path != READER and (found := list(reads(path.read_text(encoding="utf-8"))))
    }

    assert others == {}


def test_the_reader_of_rows_does() -> None:
    assert set(reads(READER.read_text(encoding="utf-8"))) == NAMES


@pytest.mark.parametrize(
    "source",
    [
        "if row['set'] == 'icount': faster()",
        "verdict.case.row['scenario']",
        "row.get('variant', '')",
        "sorted(rows, key=itemgetter('set', 'threads'))",
        "sorted(rows, key=operator.itemgetter('variant'))",
        "match row:\n    case {'scenario': 'S5'}: pass",
    ],
)
def test_one_that_did_would_be_found(source: str) -> None:
    assert len(list(reads(source))) == 1


@pytest.mark.parametrize("source", ["row['threads']", "row.get('vmas')", "variant = 'variant'"])
def test_other_columns_may_be_looked_at(source: str) -> None:
    assert list(reads(source)) == []
