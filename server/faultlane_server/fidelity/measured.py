"""Measured runs of a real kernel, as they were published with this program.

`measured.csv` has one line for each run: 1330 runs of 450 cases on Linux 6.12.117 (x86-64, 250 Hz,
per-VMA locks, classic LRU, 2.5 GiB), in two guests of an emulator. In the set `icount` the guest
has one CPU whose clock counts executed instructions, 1 ns each; in all others it has two CPUs that
run in parallel and in real time, three to seven times slower than hardware. The file is a null
block device that completes a request from a timer, or a disk of the emulator; swap is such a
device in memory. One kernel held all variants behind a switch (`pristine` has neither switch nor
counters).

| variant | policy |
| --- | --- |
| base, pristine | as released: let the lock go for I/O, retry under mmap_lock |
| rfc | "mm: continue using per-VMA lock when retrying page faults after I/O", 2025-11-27 |
| rfcx | the same after the synchronous read of one page as well |
| rfcu | the same, and a page that is up to date is waited for with the lock held |
| hold | wait for I/O with the VMA lock held |
| mmaponly | no VMA locks |

S1 touches cold pages of a file, at most one in 64 KiB, in random order; S2 has writers beside it;
in S3 all threads touch the same cold page, round after round; S4 touches pages that are in swap,
whose readahead is off; S5 for a second or two random pages of a file of 64 MiB in a memory cgroup
that it does not fit; S6 writes anonymous memory. Writers repeat a pair of operations and sleep
`writer_think_us` after it, if that is given.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from math import inf
from statistics import median
from typing import NamedTuple

from faultlane_server.fidelity.rows import PARAMETERS, Row

QUANTITIES = (
    "mmap_read_per_touch",
    "pgmajfault",
    "touches_per_s",
    "touch_p50_ns",
    "touch_p99_ns",
    "writer_p99_ns",
)
OF_REPEATS = "_median"  # what a column of a file of medians is called, behind its quantity


class Case(NamedTuple):
    """The repeats of one run."""

    row: Row  # its parameters
    repeats: dict[str, tuple[float, ...]]  # by quantity, what each repeat measured

    def measured(self, quantity: str) -> float:
        """Return the median over the repeats."""
        return median(self.repeats[quantity])

    def spread(self, quantity: str) -> float:
        """Return half of the range of the repeats."""
        values = self.repeats[quantity]
        return (max(values) - min(values)) / 2


def shipped_cases() -> list[Case]:
    """Return all cases that were published with this program."""
    with files(__package__).joinpath("measured.csv").open(encoding="utf-8") as lines:
        return grouped(csv.DictReader(lines))


def grouped(runs: Iterable[Row]) -> list[Case]:
    """Put runs with the same parameters together, in the order of the first of each."""
    cases: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for run in runs:
        cases[tuple(run[name] for name in PARAMETERS)].append(run)
    return [_case(dict(zip(PARAMETERS, key, strict=True)), runs) for key, runs in cases.items()]


def of_medians(row: Row) -> Case:
    """Return the case of a row that has only medians, and none that is no number."""
    repeats: dict[str, tuple[float, ...]] = {
        name: (float(row[name + OF_REPEATS]),) for name in QUANTITIES if row.get(name + OF_REPEATS)
    }
    return Case({name: row[name] for name in PARAMETERS}, repeats)


def problems_of_medians(row: Row) -> list[str]:
    """Return which medians of a row are no numbers: column, what is wanted, what came."""
    cells = {name + OF_REPEATS: row.get(name + OF_REPEATS) for name in QUANTITIES}
    if not any(cells.values()):
        return [f"want a number in one of {', '.join(cells)}, got none"]
    return [
        f"{name}: want a number, 0 or more, got {cell!r}"
        for name, cell in cells.items()
        if cell and not _is_number(cell)
    ]


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) < inf
    except ValueError:
        return False


def _case(parameters: Row, runs: list[Row]) -> Case:
    repeats = {
        name: tuple(float(run[name]) for run in runs)
        for name in QUANTITIES
        if all(run[name] for run in runs)
    }
    return Case(parameters, repeats)
