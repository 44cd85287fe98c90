"""The command simulates rows from anywhere, says which it cannot, and reports on the others."""

import csv
import json
import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from faultlane_server.cli import app
from faultlane_server.fidelity import command
from faultlane_server.fidelity.measured import OF_REPEATS, shipped_cases
from faultlane_server.fidelity.report import GOALS, WHY_WRONG
from faultlane_server.fidelity.rows import PARAMETERS
from faultlane_server.machines import MACHINES
from tests.ground_truth.a_row import a_row

FEW = {"threads": "2", "faults_per_thread": "3"}  # touches: what a row needs no more of
MEDIANS = {"touches_per_s_median": "1500", "mmap_read_per_touch_median": "1"}
HEAD = [*PARAMETERS, *MEDIANS]


def a_line(**columns: object) -> dict[str, str]:
    return {**a_row(**FEW), **MEDIANS, **{name: str(each) for name, each in columns.items()}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def write(path: Path, lines: Sequence[dict[str, str]], head: Sequence[str] = HEAD) -> None:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, head, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)


def fidelity(*arguments: object) -> Result:
    """The command with these arguments; whatever happens, it must not be a traceback."""
    done = CliRunner().invoke(app, ["fidelity", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def simulated(done: Result) -> list[dict[str, object]]:
    rows = json.loads(done.stdout)["rows"]
    assert isinstance(rows, list)
    return rows


def test_json_has_one_entry_for_each_row_and_median_and_nothing_else(path: Path) -> None:
    write(path, [a_line(), a_line(variant="hold")])

    done = fidelity("--rows", path, "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout).keys() == {"rows"}
    entries = simulated(done)
    assert [list(entry) for entry in entries] == [
        [*PARAMETERS, "quantity", "measured", "simulated"]
    ] * (2 * len(MEDIANS))
    assert {(entry["variant"], entry["quantity"]) for entry in entries} == {
        (variant, median) for variant in ("base", "hold") for median in MEDIANS
    }
    assert {entry["measured"] for entry in entries} == {1500.0, 1.0}
    assert all(isinstance(entry["simulated"], float) for entry in entries)


def test_a_row_that_was_published_comes_out_as_its_line_in_a_file_does(path: Path) -> None:
    case = shipped_cases()[0]
    medians = {name + OF_REPEATS: str(case.measured(name)) for name in case.repeats}
    write(path, [{**case.row, **medians}], [*PARAMETERS, *medians])

    entries = simulated(fidelity("--rows", path, "--json"))

    assert {str(entry["quantity"]) for entry in entries} <= medians.keys()
    assert all(entry["measured"] == float(medians[str(entry["quantity"])]) for entry in entries)
    assert {name: entries[0][name] for name in PARAMETERS} == case.row


def test_values_that_it_has_never_seen_are_simulated(path: Path) -> None:
    writers = {"writers": 3, "writer_op": "mprotect_same_vma", "writer_think_us": 77}
    write(path, [a_line(set="new", threads=7, device_latency_ns=123456, **writers)])

    done = fidelity("--rows", path, "--json")

    assert (done.exit_code, done.stderr) == (0, "")
    assert len(simulated(done)) == len(MEDIANS)


@pytest.mark.parametrize(
    "columns",
    [
        {"writers": "", "writer_think_us": "", "memcg_limit_kib": ""},
        {"touches_per_s_median": ""},
        {"scenario": "S6", "device_latency_ns": "", "readahead": "", "device": ""},
    ],
    ids=str,
)
def test_cells_that_nothing_depends_on_may_be_blank(path: Path, columns: dict[str, str]) -> None:
    write(path, [a_line(**columns)])

    done = fidelity("--rows", path, "--json")

    assert done.exit_code == 0
    assert {entry["quantity"] for entry in simulated(done)} == {
        name for name in MEDIANS if columns.get(name) != ""
    }


BAD = [
    ({"variant": "magic"}, "variant: want one of base, "),
    ({"scenario": "S9"}, "scenario: want one of S1, "),
    ({"readahead": "much"}, "readahead: want one of nothing, advise_random, "),
    ({"writer_op": "fork"}, "writer_op: want one of nothing, "),
    ({"write_fault": "2"}, "write_fault: want one of nothing, 0, 1; got '2'"),
    ({"threads": ""}, "threads: want a whole number, 1 to 65536, got ''"),
    ({"threads": "0"}, "threads: want a whole number, 1 to 65536, got '0'"),
    ({"vmas": "0"}, "vmas: want a whole number, 1 to 131072, got '0'"),
    ({"faults_per_thread": "many"}, "faults_per_thread: want a whole number"),
    ({"faults_per_thread": "1.5"}, "faults_per_thread: want a whole number"),
    ({"device_latency_ns": "-1"}, "device_latency_ns: want a whole number"),
    ({"device_latency_ns": "9" * 9999}, "device_latency_ns: want a whole number"),
    ({"device_latency_ns": ""}, "device_latency_ns: want a number in S1, got nothing"),
    ({"writers": "2", "writer_op": ""}, "writer_op: want what the 2 writers do, got nothing"),
    ({"scenario": "S5"}, "memcg_limit_kib: want 1 or more in S5, got ''"),
    ({"scenario": "S5", "memcg_limit_kib": "4096"}, "file_pages: want 1 or more in S5, got ''"),
    ({"scenario": "S3", "vmas": "2"}, "vmas: want 1 in S3"),
    ({"threads": "60000", "faults_per_thread": "900000"}, "faults_per_thread: want at most 262144"),
    ({"touches_per_s_median": "fast"}, "touches_per_s_median: want a number, 0 or more"),
    ({"touches_per_s_median": "nan"}, "touches_per_s_median: want a number, 0 or more"),
    (dict.fromkeys(MEDIANS, ""), "want a number in one of mmap_read_per_touch_median, "),
]


def test_bad_rows_are_named_and_good_ones_beside_them_simulated(path: Path) -> None:
    """Line 1 has the names of the columns; the good row stands between the bad ones."""
    bad = [a_line(**columns) for columns, _ in BAD]
    write(path, [*bad[:3], a_line(), *bad[3:]])

    done = fidelity("--rows", path, "--json")

    assert done.exit_code == 1
    assert len(simulated(done)) == len(MEDIANS)
    told = json.loads(done.stdout)["problems"]
    for number, (_, wanted) in enumerate(BAD):
        line = number + (2 if number < 3 else 3)
        assert any(each.startswith(f"{path}:{line}: {wanted}") for each in told), wanted
    assert not any(each.startswith(f"{path}:5:") for each in told)
    assert all(len(each) < 300 for each in told)
    shown = done.stderr.splitlines()
    assert shown[:-1] == told[: command.PROBLEMS_SHOWN]
    assert shown[-1] == f"and {len(told) - command.PROBLEMS_SHOWN} more"


def test_all_that_is_wrong_with_a_row_is_told(path: Path) -> None:
    write(path, [a_line(variant="magic", threads="x", touches_per_s_median="y")])

    done = fidelity("--rows", path)

    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()[:3]] == [
        "variant",
        "threads",
        "touches_per_s_median",
    ]


def test_a_cell_short_of_a_line_is_named(path: Path) -> None:
    path.write_text(",".join(HEAD) + "\nicount,S1,4\n")

    done = fidelity("--rows", path)

    assert done.exit_code == 2
    assert f"{path}:2: vmas: the column is missing" in done.stderr


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "want the columns device, "),
        (",".join(HEAD).encode(), "there is no row in "),
        (b"set,scenario\nicount,S1\n", "want the columns device, device_latency_ns, "),
        (b"set,sc\xe9nario\n", "want a CSV file in UTF-8"),
        (b'"' + b"x" * 200_000, "want a CSV file: field larger than"),
    ],
    ids=["empty", "no row", "columns missing", "not UTF-8", "no CSV"],
)
def test_a_file_without_rows_is_refused(path: Path, content: bytes, wanted: str) -> None:
    path.write_bytes(content)

    done = fidelity("--rows", path)

    assert (done.exit_code, done.stdout) == (2, "")
    assert wanted in done.stderr
    assert str(path) in done.stderr


def test_a_mark_of_its_encoding_is_no_part_of_the_first_column(path: Path) -> None:
    write(path, [a_line()])
    path.write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}".encode() + path.read_bytes())

    assert fidelity("--rows", path, "--json").exit_code == 0


@pytest.mark.parametrize("name", [".", "nowhere.csv"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    done = fidelity("--rows", tmp_path / name)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "--rows" in done.stderr


def test_a_set_chooses_its_rows(path: Path) -> None:
    write(path, [a_line(set="icount"), a_line(set="other")])

    entries = simulated(fidelity("--rows", path, "--set", "icount", "--json"))

    assert {entry["set"] for entry in entries} == {"icount"}


def test_a_set_that_has_no_row_is_refused(path: Path) -> None:
    write(path, [a_line(set="icount")])

    done = fidelity("--rows", path, "--set", "nobody's")

    assert (done.exit_code, done.stdout) == (2, "")
    assert f'no row of the set "nobody\'s" in {path}' in done.stderr


def test_quick_takes_every_eighth_row(path: Path) -> None:
    write(path, [a_line(threads=threads) for threads in range(1, 10)])

    entries = simulated(fidelity("--rows", path, "--quick", "--json"))

    assert {entry["threads"] for entry in entries} == {"1", "9"}


def test_a_row_whose_touches_never_end_has_no_latency(path: Path) -> None:
    """The device takes longer than a run may."""
    write(path, [a_line(device_latency_ns=10**11)])

    done = fidelity("--rows", path, "--json")

    assert done.exit_code == 0
    assert [(each["quantity"], each["simulated"]) for each in simulated(done)] == [
        ("touches_per_s_median", 0)
    ]


def test_the_text_has_every_guest_with_its_goal_the_repeats_and_what_is_known_wrong(
    path: Path,
) -> None:
    """S2 is outside the fit, unless it is of the set `tcg2a`."""
    beside = {"scenario": "S2", "writers": 1, "writer_op": "mmap_munmap_unrelated"}
    lines = [
        a_line(set=name, writer_think_us=500, variant=variant, touches_per_s_median=rate, **beside)
        for name in ("icount", "other")
        for variant, rate in (("base", 1500), ("hold", 1800))
    ]
    write(path, lines)

    done = fidelity("--rows", path)

    assert done.exit_code == 0
    for guest, goal in GOALS.items():
        about = f"{guest.profile}: {MACHINES[guest.profile].description}"
        part = done.stdout[done.stdout.index(about) :].split("\n\n")[0]
        assert re.search(r"quantity +near +share +repeats", part)
        assert re.search(rf"all outside the fit .*goal {goal:.0%}", part)
    assert "hold   tested: the sign is right for " in done.stdout
    assert all(why in done.stdout for why in WHY_WRONG)


class References(HTMLParser):
    """What a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        referring = {"href", "src", "xlink:href", "data", "srcset", "rdf:resource"}
        self.found += [value or "" for name, value in attrs if name in referring]


def test_the_page_is_one_file_that_refers_to_no_other(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write(path, [a_line(), a_line(variant="hold")])
    page = tmp_path / "page.html"

    done = fidelity("--rows", path, "--html", page)

    assert done.exit_code == 0
    text = page.read_text(encoding="utf-8")
    references = References()
    references.feed(text)
    assert "svg" in references.tags
    assert not {"script", "link", "img", "iframe"} & references.tags
    assert references.found
    assert all(each.startswith("#") for each in references.found)
    assert not re.search(r"@import|url\((?!#)", text)


@pytest.fixture
def nothing_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare_all(*_: object) -> None:
        raise AssertionError("it simulates before it looks at its options")

    monkeypatch.setattr(command, "compare_all", compare_all)


@pytest.mark.usefixtures("nothing_is_simulated")
def test_without_matplotlib_a_page_is_refused_at_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write(path, [a_line()])

    done = fidelity("--rows", path, "--html", tmp_path / "page.html")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "plots need matplotlib: pip install 'faultlane[report]'\n"
    assert not (tmp_path / "page.html").exists()


@pytest.mark.usefixtures("nothing_is_simulated")
def test_a_page_that_cannot_be_written_is_refused_at_once(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write(path, [a_line()])

    done = fidelity("--rows", path, "--html", tmp_path / "no such place" / "page.html")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("page.html: No such file or directory\n")
