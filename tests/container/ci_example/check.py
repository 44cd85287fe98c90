"""Fails if a comparison breaks a budget: `check.py COMPARISON BUDGETS`.

A comparison is what `faultlane compare --json` prints. Budgets are a list such as

    [{"policy": "rfc", "figure": "fault.file_read.major.p99_ns", "ratio_max": 1.05}]

each of which says how large a figure may be beside the first policy's.
"""

import json
import sys
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any


def main(comparison: str, budgets: str) -> int:
    """Say how each budget fares; return 1 if one is broken."""
    found = json.loads(Path(comparison).read_text())
    broken = 0
    for budget in json.loads(Path(budgets).read_text()):
        said, keeps = outcome(found, **budget)
        broken += not keeps
        print(f"{'ok    ' if keeps else 'BROKEN'} {said}")
    return 1 if broken else 0


def outcome(comparison: Any, policy: str, figure: str, ratio_max: float) -> tuple[str, bool]:
    """Return a line about a budget, and whether it is kept; a missing figure keeps none."""
    first = comparison["first"]
    want = f"{policy} {figure}: want at most {ratio_max} of {first}"
    values = [mean_of(comparison, name, figure) for name in (policy, first)]
    if values[0] is None or values[1] is None:
        return f"{want}, got no such figure", False
    ours, theirs = values[0], values[1]
    ratio = ours / theirs if theirs else (inf if ours else 1.0)
    return f"{want}, got {ratio:.4f} ({ours:,.0f} beside {theirs:,.0f})", ratio <= ratio_max


def mean_of(comparison: Any, policy: str, figure: str) -> float | None:
    """Return the mean of a figure over the seeds."""
    runs = comparison["policies"].get(policy, {"runs": []})["runs"]
    values = [run["figures"][figure] for run in runs if figure in run["figures"]]
    return fmean(values) if values else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
