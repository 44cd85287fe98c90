"""The same scenario under several policies, with the same seeds: what the policy changes.

Under one seed a thread's n-th touch goes to the same page, and the device takes as long for the
same read, whatever the policy is. So differences are taken seed by seed and fault by fault, always
against the first policy.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

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


Watch = Callable[[str, int, FaultEvents], None]  # policy, seed, some faults that just arrived


def compare(
    client: Client,
    scenario: pb.Scenario,
    policies: Sequence[str],
    seeds: Sequence[int],
    watch: Watch = lambda policy, seed, faults: None,
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
        base: FaultEvents | None = None
        for policy in policies:
            simulation, faults, operations = _run(client, scenario, policy, seed, watch)
            base = faults if base is None else base
            results[policy].append(
                Result(
                    simulation,
                    figures(simulation.summary),
                    len(faults),
                    operations,
                    pair(base, faults, since_ns=scenario.warmup_ns),
                )
            )
    return Comparison(list(seeds), results)


def pair(first: FaultEvents, other: FaultEvents, since_ns: int = 0) -> Pairing:
    """Pair the faults of two runs that began at `since_ns` or later and ended."""
    first = first[(first.finished == 1) & (first.start_ns >= since_ns)]
    other = other[(other.finished == 1) & (other.start_ns >= since_ns)]
    _, rows, other_rows = np.intersect1d(_keys(first), _keys(other), return_indices=True)
    longer_ns = other.duration_ns[other_rows].astype(np.int64) - first.duration_ns[rows].astype(
        np.int64
    )
    return Pairing(
        paired=len(rows),
        first_alone=len(first) - len(rows),
        other_alone=len(other) - len(rows),
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


def _run(
    client: Client, scenario: pb.Scenario, policy: str, seed: int, watch: Watch
) -> tuple[pb.Simulation, FaultEvents, int]:
    """Run to the end; return the simulation, its faults, and how many operations it had."""
    batches = []
    with client.run(_under(scenario, policy, seed)) as run:
        for faults in run.events():
            batches.append(faults)
            watch(policy, seed, faults)
        operations = sum(len(batch) for batch in run.operations())
        return run.result(), FaultEvents.concat(batches), operations


def _keys(faults: FaultEvents) -> NDArray[np.uint64]:
    """One number for each fault that tells thread and touch."""
    return (faults.thread.astype(np.uint64) << np.uint64(TOUCH_BITS)) | faults.touch
