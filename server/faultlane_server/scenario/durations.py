"""Lengths of time."""

from itertools import pairwise

from faultlane_server.scenario.limits import DURATION_NS_MAX, QUANTILES_MAX, SIGMA_PPM_MAX
from faultlane_server.scenario.tree import Duration, Exponential, Fixed, LogNormal, Quantiles
from faultlane_server.scenario.violations import Place

PPM_MAX = 1_000_000


def check_duration(place: Place, duration: Duration) -> None:
    """Check one length of time."""
    match duration:
        case Fixed(ns):
            place.field("fixed_ns").want_between(0, DURATION_NS_MAX, ns)
        case Exponential(mean_ns):
            place.field("exponential_mean_ns").want_between(1, DURATION_NS_MAX, mean_ns)
        case LogNormal(median_ns, sigma_ppm):
            law = place.field("log_normal")
            law.field("median_ns").want_between(1, DURATION_NS_MAX, median_ns)
            law.field("sigma_ppm").want_between(0, SIGMA_PPM_MAX, sigma_ppm)
        case Quantiles():
            _check_quantiles(place.field("quantiles").field("points"), duration)


def can_be_positive(duration: Duration) -> bool:
    """Whether it takes any time at all."""
    match duration:
        case Fixed(ns):
            return ns > 0
        case Quantiles(points):
            return any(point.ns > 0 for point in points)
    return True


def points_of(duration: Duration) -> int:
    """Return how many points its table has."""
    return len(duration.points) if isinstance(duration, Quantiles) else 0


def _check_quantiles(place: Place, quantiles: Quantiles) -> None:
    points = quantiles.points
    if not 2 <= len(points) <= QUANTILES_MAX:
        place.refuse(f"2 to {QUANTILES_MAX}", len(points))
        return
    for index, point in enumerate(points):
        place.item(index).field("ns").want_between(0, DURATION_NS_MAX, point.ns)
    for index, (left, right) in enumerate(pairwise(points), start=1):
        if right.ppm <= left.ppm:
            place.item(index).field("ppm").refuse(f"more than {left.ppm}", right.ppm)
        if right.ns < left.ns:
            place.item(index).field("ns").refuse(f"at least {left.ns}", right.ns)
    if points[0].ppm != 0:
        place.item(0).field("ppm").refuse("0", points[0].ppm)
    if points[-1].ppm != PPM_MAX:
        place.item(len(points) - 1).field("ppm").refuse(f"{PPM_MAX}", points[-1].ppm)
