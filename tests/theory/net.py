"""How wide the net of a theory test is: Student's t over runs with different seeds."""

from math import sqrt
from statistics import mean, stdev

from scipy import stats

SURE = 0.999  # two-sided
MARGIN_MAX = 0.01  # of the theory's value: a wider net tells nothing


def margin(samples: list[float]) -> float:
    """Return how far the mean of independent samples may be from the truth."""
    t = stats.t.ppf((1 + SURE) / 2, len(samples) - 1)
    return float(t) * stdev(samples) / sqrt(len(samples))


def agrees(samples: list[float], theory: float, margin_max: float = MARGIN_MAX) -> bool:
    """Whether samples could have this mean, as far as they can tell at all."""
    assert margin(samples) < margin_max * theory, "too wide to tell anything: run longer"
    return abs(mean(samples) - theory) <= margin(samples)
