"""How near a simulation has to come to a measurement, and how near the repeats of one come."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from faultlane_server.fidelity.measured import Case
from faultlane_server.fidelity.rows import BY_INSTRUCTIONS, IN_PARALLEL, Guest, guest_of

SPREADS = 2  # so many times the spread of the repeats is near enough, whatever the band


class Band(NamedTuple):
    """How far off a quantity may be, at least: in one of three ways."""

    absolute: float = 0
    relative: float = 0
    factor: float = 1

    def edges(self, measured: float) -> tuple[float, float]:
        """Return the least and the greatest value that is near enough."""
        if self.factor > 1:
            return measured / self.factor, measured * self.factor
        off = max(self.absolute, self.relative * measured)
        return measured - off, measured + off


BANDS: dict[Guest, dict[str, Band]] = {
    BY_INSTRUCTIONS: {
        "mmap_read_per_touch": Band(absolute=0.01),
        "pgmajfault": Band(relative=0.02),
        "touches_per_s": Band(relative=0.03),
        "touch_p50_ns": Band(relative=0.03),
        "touch_p99_ns": Band(relative=0.15),
        "writer_p99_ns": Band(factor=1.5),
    },
    IN_PARALLEL: {
        "mmap_read_per_touch": Band(absolute=0.05),
        "touches_per_s": Band(relative=0.10),
        "touch_p50_ns": Band(relative=0.10),
        "touch_p99_ns": Band(relative=0.25),
        "writer_p99_ns": Band(factor=2),
    },
}


class Verdict(NamedTuple):
    """One quantity of one case, simulated."""

    case: Case
    quantity: str
    measured: float
    simulated: float
    spread: float
    is_near: bool
    ceiling: float  # what share of the repeats is near the median of the others; 1 if there is one


def verdicts(case: Case, simulated: dict[str, float]) -> list[Verdict]:
    """Compare every quantity of a case that has a band, was measured, and was simulated."""
    bands = BANDS[guest_of(case.row)]
    return [
        Verdict(
            case,
            name,
            case.measured(name),
            simulated[name],
            case.spread(name),
            _is_near(band, case.measured(name), case.spread(name), simulated[name]),
            _ceiling(band, case.repeats[name]),
        )
        for name, band in bands.items()
        if name in case.repeats and name in simulated
    ]


def _is_near(band: Band, measured: float, spread: float, value: float) -> bool:
    least, most = band.edges(measured)
    allowed = SPREADS * spread
    return min(least, measured - allowed) <= value <= max(most, measured + allowed)


def _ceiling(band: Band, repeats: tuple[float, ...]) -> float:
    """Return what share of the repeats would be near enough if each were a simulation."""
    if len(repeats) < 2:
        return 1.0
    near = 0
    for place, value in enumerate(repeats):
        others = repeats[:place] + repeats[place + 1 :]
        spread = (max(others) - min(others)) / 2
        near += _is_near(band, median(others), spread, value)
    return near / len(repeats)


def by_guest(of: Iterable[Verdict]) -> dict[Guest, list[Verdict]]:
    """Put the verdicts on each guest together; on one of them there may be none."""
    found: dict[Guest, list[Verdict]] = {guest: [] for guest in BANDS}
    for verdict in of:
        found[guest_of(verdict.case.row)].append(verdict)
    return found


class Score(NamedTuple):
    """Of some quantities, how many are near enough."""

    of: int
    near: int
    ceiling: float  # the share that the repeats themselves would reach

    @property
    def share(self) -> float:
        return self.near / self.of if self.of else 1.0


def score(of: Iterable[Verdict]) -> Score:
    """Count verdicts."""
    counted = list(of)
    near = sum(verdict.is_near for verdict in counted)
    ceiling = sum(verdict.ceiling for verdict in counted) / len(counted) if counted else 1.0
    return Score(len(counted), near, ceiling)
