"""The same scenario under several policies, with the same seeds: what the policy changes.

Under one seed a thread's n-th touch goes to the same page, and the device takes as long for the
same read, whatever the policy is. So differences are taken seed by seed and fault by fault, always
against the first policy.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from faultlane import v1 as pb
from faultlane.client import Client
from faultlane.events import FaultEvents
from faultlane.figures import figures

# Student's t for a two-sided interval of 95 %, for 1, 2, ... degrees of freedom.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

TOUCH_BITS = 48  # threads take the other 16: no scenario has more than 65536


class Interval(NamedTuple):
    """A mean, and how far it may be off at 95 % confidence: None if it comes from one value."""

    mean: float
    margin: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether chance alone is an unlikely reason for the difference."""
        return self.margin is not None and abs(self.mean) > self.margin


class Pairing(NamedTuple):
    """The faults of two runs with one seed, paired by thread and ordinal of the touch."""

    paired: int
    first_alone: int  # faults of the first run without a counterpart
    other_alone: int  # faults of the other run without one
    difference_ns_mean: float  # over the pairs: the other's duration less the first's


UNPAIRED = Pairing(0, 0, 0, 0.0)


class Durations(NamedTuple):
    """What is kept of a run's faults to pair them."""

    touches: NDArray[np.uint64]  # a number for each fault that tells thread and ordinal
    ns: NDArray[np.int64]

    @classmethod
    def of(cls, faults: FaultEvents, since_ns: int = 0) -> Self:
        """Take those that began at `since_ns` or later and ended."""
        chosen = faults[(faults.finished == 1) & (faults.start_ns >= since_ns)]
        threads = chosen.thread.astype(np.uint64) << np.uint64(TOUCH_BITS)
        return cls(threads | chosen.touch, chosen.duration_ns.astype(np.int64))


class Result(NamedTuple):
    """One run of a comparison, and how many of its events were streamed."""

    simulation: pb.Simulation
    figures: dict[str, float]
    faults: int
    operations: int
    pairing: Pairing  # with the first policy's run with the same seed


class Comparison(NamedTuple):
    """The runs of each policy, seed by seed; the first policy is what the others differ from."""

    seeds: list[int]
    results: dict[str, list[Result]]

    @property
    def first(self) -> str:
        """The policy that the others are compared with."""
        return next(iter(self.results))

    def values(self, policy: str, figure: str) -> list[float]:
        """A figure under each seed; nothing if a run does not have it."""
        found = [result.figures.get(figure) for result in self.results[policy]]
        return [value for value in found if value is not None] if None not in found else []

    def difference(self, policy: str, figure: str) -> Interval:
        """How much more a figure is than under the first policy; both must have it."""
        pairs = zip(self.values(policy, figure), self.values(self.first, figure), strict=True)
        return interval([value - first for value, first in pairs])


Watch = Callable[[pb.Scenario, FaultEvents], None]  # what runs, and faults that just arrived


def compare(
    client: Client,
    scenario: pb.Scenario,
    policies: Sequence[str],
    seeds: Sequence[int],
    watch: Watch = lambda scenario, faults: None,
) -> Comparison:
    """Run a scenario under each policy with each seed, and pair what belongs together.

    Raises
    ------
    InvalidScenario
        Before the first run, if the scenario makes no sense under one of the policies.
    RunFailed
        If a run could not be brought to an end.
    """
    for policy in policies:
        client.create_simulation(_under(scenario, policy, seeds[0]), validate_only=True)
    results: dict[str, list[Result]] = {policy: [] for policy in policies}
    for seed in seeds:
        runs = [_run(client, _under(scenario, policy, seed), watch) for policy in policies]
        for policy, (result, durations) in zip(policies, runs, strict=True):
            _, first = runs[0]
            results[policy].append(result._replace(pairing=pair(first, durations)))
    return Comparison(list(seeds), results)


def pair(first: Durations, other: Durations) -> Pairing:
    """Pair the faults of two runs."""
    _, rows, other_rows = np.intersect1d(first.touches, other.touches, return_indices=True)
    longer_ns = other.ns[other_rows] - first.ns[rows]
    return Pairing(
        paired=len(rows),
        first_alone=len(first.ns) - len(rows),
        other_alone=len(other.ns) - len(rows),
        difference_ns_mean=float(longer_ns.mean()) if len(rows) else 0.0,
    )


def interval(values: Sequence[float]) -> Interval:
    """The mean of some values, with its interval by Student's t."""
    if len(values) < 2:
        return Interval(fmean(values), None)
    margin = student_t(len(values) - 1) * stdev(values) / sqrt(len(values))
    return Interval(fmean(values), margin)


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table by Abramowitz and Stegun, 26.7.5."""
    if freedom <= len(STUDENT_T):
        return STUDENT_T[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _under(scenario: pb.Scenario, policy: str, seed: int) -> pb.Scenario:
    changed = pb.Scenario()
    changed.CopyFrom(scenario)
    changed.kernel.policy_id = policy
    changed.seed = seed
    return changed


def _run(client: Client, scenario: pb.Scenario, watch: Watch) -> tuple[Result, Durations]:
    """Run to the end, and keep of each fault what pairing takes."""
    kept, faults = [Durations.of(FaultEvents.concat([]))], 0
    with client.run(scenario) as run:
        for batch in run.events():
            watch(scenario, batch)
            faults += len(batch)
            kept.append(Durations.of(batch, scenario.warmup_ns))
        operations = sum(len(batch) for batch in run.operations())
        simulation = run.result()
    result = Result(simulation, figures(simulation.summary), faults, operations, UNPAIRED)
    return result, Durations(*(np.concatenate(column) for column in zip(*kept, strict=True)))
