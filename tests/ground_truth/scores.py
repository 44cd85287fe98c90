"""The scores outside the fit that were recorded. `python -m tests.ground_truth.scores` does."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from faultlane_server.fidelity.compare import compare_all
from faultlane_server.fidelity.measured import shipped_cases
from faultlane_server.fidelity.rows import guest_of, is_fitted
from faultlane_server.fidelity.score import Verdict, score

PATH = Path(__file__).with_name("scores.json")

Scores = dict[str, dict[str, float]]  # by profile and quantity: the share that is near enough


def recorded() -> Scores:
    """Return the scores of all rows outside the fit, as they were."""
    loaded: Scores = json.loads(PATH.read_text())
    return loaded


def scores_of(verdicts: Iterable[Verdict]) -> Scores:
    """Return the scores of what is outside the fit, rounded down to a thousandth."""
    chosen: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if not is_fitted(verdict.case.row):
            chosen[guest_of(verdict.case.row).profile, verdict.quantity].append(verdict)
    scores: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (profile, quantity), of in sorted(chosen.items()):
        scores[profile][quantity] = int(score(of).share * 1000) / 1000
    return dict(scores)


def record() -> None:
    """Simulate all that was measured, and keep the scores."""
    PATH.write_text(json.dumps(scores_of(compare_all(shipped_cases())), indent=2) + "\n")


if __name__ == "__main__":
    record()
