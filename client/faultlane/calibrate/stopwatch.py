"""How a primitive is timed: in batches, as a median, less what measuring itself costs.

A batch is shorter than the slice of a thread, so that on a busy machine most of them are whole; and
what does not sleep is timed by the CPU time of its thread, which goes on only while that runs.
"""

from collections.abc import Callable, Sequence
from math import floor, sqrt
from statistics import median, quantiles
from time import monotonic_ns
from typing import NamedTuple

PATIENCE_NS = 2_000_000_000  # with one measurement: some twenty of them take under a minute
ROUNDS_LEAST = 2

Clock = Callable[[], int]  # nanoseconds, from any moment on


class Unmeasurable(Exception):
    """Something cannot be measured here: why."""


class Measured(NamedTuple):
    """How long a primitive takes: the median of all rounds, and what most of them are within."""

    name: str
    ns: float
    low_ns: float  # a tenth of the rounds took less
    high_ns: float  # a tenth of the rounds took more
    rounds: int
    less: str  # what was taken off


class Step(NamedTuple):
    """Something that is timed as a whole."""

    name: str
    work: Callable[[], object]
    turns: int = 1  # that it takes: what is told is the time of one


class Stopwatch:
    """Times batches of work by a clock."""

    def __init__(
        self, clock: Clock, rounds: int, wall: Clock = monotonic_ns, patience_ns: int = PATIENCE_NS
    ) -> None:
        assert rounds >= ROUNDS_LEAST, "a spread takes two rounds"
        self.clock = clock
        self._rounds = rounds
        self._wall = wall
        self._patience_ns = patience_ns

    def time(self, *steps: Step) -> dict[str, list[float]]:
        """Take the steps in turn, again and again, and return what a turn of each takes in ns.

        The first round warms up, and does not count. When patience ends there are fewer rounds.
        """
        samples: dict[str, list[float]] = {step.name: [] for step in steps}
        end_ns = self._wall() + self._patience_ns
        for number in range(self._rounds + 1):
            if number > ROUNDS_LEAST and self._wall() > end_ns:
                break
            for step in steps:
                begin_ns = self.clock()
                step.work()
                samples[step.name].append((self.clock() - begin_ns) / step.turns)
        return {name: each[1:] for name, each in samples.items()}


class Watches(NamedTuple):
    """What measurements are made with."""

    cpu: Stopwatch  # by the CPU time of this thread
    wall: Stopwatch  # by the time of the day: for what sleeps


def measured(
    name: str, samples: Sequence[float], overhead: Sequence[float] = (), less: str = "nothing"
) -> Measured:
    """Take an overhead off samples, each off the one of its round, and sum them up.

    A round is short, so that what makes a CPU slower is in both.

    Raises
    ------
    Unmeasurable
        If what is left may be chance: if the bound of the sign test, three standard deviations from
        the middle of the differences, is not above 0 (Conover, Practical Nonparametric Statistics,
        3.2).
    """
    off = overhead or [0.0] * len(samples)
    left = sorted(sample - each for sample, each in zip(samples, off, strict=True))
    tenths = quantiles(left, n=10, method="inclusive")
    if left[max(0, floor(len(left) / 2 - 1.5 * sqrt(len(left))))] <= 0:
        raise Unmeasurable(
            f"{median(left):.0f} ns more than {less}, which may be chance: single measurements are"
            f" {tenths[0]:.0f} to {tenths[-1]:.0f} ns"
        )
    return Measured(name, median(left), tenths[0], tenths[-1], len(left), less)
