"""The steps of a fault and the chains of a wait: as many as anybody reads, the rest added up.

A fault can make tens of thousands of attempts. Its first and its last steps tell how it went; what
is between them is added up, so that all of it still adds up to the fault.
"""

from collections import Counter, deque
from collections.abc import Iterable

from faultlane_server.explanation import Blocking, FaultStep, Link

STEPS_MAX = 256
BLOCKINGS_MAX = 8


class Timeline:
    """Steps in their order."""

    def __init__(self) -> None:
        self._first: list[FaultStep] = []
        self._last: deque[FaultStep] = deque()
        self._omitted: FaultStep | None = None

    def add(self, step: FaultStep) -> None:
        """Add the next step, unless nothing happened in no time."""
        if step.duration_ns == 0 and not step.notes:
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


def bounded(blockings: Iterable[Blocking]) -> tuple[Blocking, ...]:
    """Leave out those beyond the limit: the last one stands for all that follow."""
    chosen = list(blockings)
    if len(chosen) <= BLOCKINGS_MAX:
        return tuple(chosen)
    rest = chosen[BLOCKINGS_MAX - 1 :]
    duration_ns = sum(blocking.duration_ns for blocking in rest)
    no_links: tuple[Link, ...] = ()
    together = Blocking(rest[0].start_ns, duration_ns, no_links, changes_omitted=len(rest))
    return (*chosen[: BLOCKINGS_MAX - 1], together)
