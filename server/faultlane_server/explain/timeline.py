"""The steps of a fault and the chains of a wait: as many as anybody reads, the rest added up.

A fault can make tens of thousands of attempts. Its first and its last steps tell how it went; what
is between them is added up, so that all of it still adds up to the fault.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from faultlane_server.explanation import Blocking, FaultStep

STEPS_MAX = 256
BLOCKINGS_MAX = 12


class Timeline:
    """Steps in their order."""

    def __init__(self) -> None:
        self._first: list[FaultStep] = []
        self._last: deque[FaultStep] = deque()
        self._omitted: FaultStep | None = None

    def add(self, step: FaultStep) -> None:
        """Add the next step, unless nothing happened in no time."""
        if step.duration_ns == 0 and not step.notes and not step.blocking:
            return
        if len(self._first) < STEPS_MAX // 2:
            self._first.append(step)
            return
        self._last.append(step)
        if len(self._last) > STEPS_MAX // 2:
            self._omit(self._last.popleft())

    def steps(self) -> tuple[FaultStep, ...]:
        """Return the steps; one of them may stand for many that were left out."""
        between = [] if self._omitted is None else [self._omitted]
        return (*self._first, *between, *self._last)

    def _omit(self, step: FaultStep) -> None:
        before = self._omitted or FaultStep(step.start_ns, 0)
        self._omitted = FaultStep(
            start_ns=before.start_ns,
            duration_ns=before.duration_ns + step.duration_ns,
            spent_ns=dict(Counter(before.spent_ns) + Counter(step.spent_ns)),
            steps_omitted=before.steps_omitted + 1,
        )


def bounded(blockings: Sequence[Blocking], most: int = BLOCKINGS_MAX) -> list[Blocking]:
    """Keep the first, the last and the longest; others are counted to the one before them."""
    longest = sorted(range(len(blockings)), key=lambda number: -blockings[number].duration_ns)
    kept = {0, len(blockings) - 1, *longest[: most - 2]}
    told: list[Blocking] = []
    for number, blocking in enumerate(blockings):
        if number in kept and not (told and told[-1].chain == blocking.chain):
            told.append(blocking)
            continue
        shorter = 0 if told[-1].chain == blocking.chain else 1
        told[-1] = replace(
            told[-1],
            duration_ns=told[-1].duration_ns + blocking.duration_ns,
            changes_omitted=told[-1].changes_omitted + shorter + blocking.changes_omitted,
        )
    return told
