"""What the `fidelity` command does: choose cases, simulate them, and write the report."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

from faultlane_server.fidelity.compare import compare_all
from faultlane_server.fidelity.measured import (
    Case,
    of_medians,
    problems_of_medians,
    shipped_cases,
)
from faultlane_server.fidelity.page import html_page, require_plots
from faultlane_server.fidelity.report import report_data, rows_data, text_report
from faultlane_server.fidelity.rows import PARAMETERS, problems_of, set_of

QUICK_EVERY = 8
PROBLEMS_SHOWN = 20


class BadRows(ValueError):
    """No row of a file can be simulated."""


class BadPage(ValueError):
    """The page cannot be written there."""


def report(
    *, rows: Path | None, only: str | None, quick: bool, as_json: bool, html: Path | None
) -> list[str]:
    """Simulate and report; returns the problems of rows that could not be simulated.

    Raises
    ------
    BadRows
        If there is no row that can be.
    BadPage
        If the page cannot be written.
    MissingPlots
        If there is to be a page, and matplotlib is not installed.
    """
    if html is not None:
        require_plots()
        _require_room(html)
    cases, problems = (shipped_cases(), []) if rows is None else _read(rows)
    cases = [case for case in cases if only is None or set_of(case.row) == only]
    cases = cases[:: QUICK_EVERY if quick else 1]
    for problem in problems[:PROBLEMS_SHOWN]:
        print(problem, file=sys.stderr)
    if len(problems) > PROBLEMS_SHOWN:
        print(f"and {len(problems) - PROBLEMS_SHOWN} more", file=sys.stderr)
    if not cases:
        where = "of those that were published" if rows is None else f"in {rows}"
        which = "" if only is None else f" of the set {only!r}"
        raise BadRows(f"there is no row{which} {where} that can be simulated")
    verdicts = compare_all(cases, _tell(len(cases)))
    if as_json:
        data = report_data(verdicts) if rows is None else rows_data(verdicts)
        print(json.dumps({**data, "problems": problems} if problems else data))
    else:
        print(text_report(verdicts))
    if html is not None:
        html.write_text(html_page(verdicts), encoding="utf-8")
    return problems


def _require_room(html: Path) -> None:
    """Find out whether a page can be written, before there is anything to write."""
    try:
        with html.open("a"):
            pass
    except OSError as error:
        raise BadPage(f"{html}: {error.strerror}") from error


def _read(path: Path) -> tuple[list[Case], list[str]]:
    """Return the rows of a file that can be simulated, and what is wrong with the others."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = set(PARAMETERS) - set(reader.fieldnames or ())
            if missing:
                raise BadRows(f"{path}: want the columns {', '.join(sorted(missing))} as well")
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise BadRows(f"{path}: want a CSV file in UTF-8, got {error}") from error
    except csv.Error as error:
        raise BadRows(f"{path}: want a CSV file: {error}") from error
    cases: list[Case] = []
    problems: list[str] = []
    for number, row in rows:
        found = problems_of(row) + problems_of_medians(row)
        problems += [f"{path}:{number}: {problem}" for problem in found]
        if not found:
            cases.append(of_medians(row))
    return cases, problems


def _tell(count: int) -> Callable[[int], None]:
    """Return what tells on a terminal how many cases are done."""

    def tell(number: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if number == count else ""
            print(f"\r{number} of {count} rows", end=end, file=sys.stderr)

    return tell
