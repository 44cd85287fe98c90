"""What a retry design changes: the ratio to the kernel as released, measured and simulated."""

from collections.abc import Iterable
from typing import NamedTuple

from faultlane_server.fidelity.rows import Row, design_of, guest_of, same_but_for_design
from faultlane_server.fidelity.score import BANDS, Verdict

AS_RELEASED = "base"
DESIGNS = ("rfc", "hold")
QUANTITIES = ("touches_per_s", "touch_p50_ns", "touch_p99_ns", "writer_p99_ns")


class Effect(NamedTuple):
    """One quantity of a case under a design, divided by the same without it."""

    row: Row
    design: str
    quantity: str
    measured: float
    simulated: float
    spread: float  # relative, of both cases together; of one that was run once, the band
    ceiling: float  # what share of the pairs of their repeats has the sign of the medians

    @property
    def is_larger_than_spread(self) -> bool:
        return abs(self.measured - 1) > self.spread

    @property
    def has_right_sign(self) -> bool:
        return (self.measured - 1) * (self.simulated - 1) > 0


def effects(of: Iterable[Verdict]) -> list[Effect]:
    """Pair each case under a design with the same case as released."""
    by_case: dict[tuple[str, ...], dict[str, dict[str, Verdict]]] = {}
    for verdict in of:
        variants = by_case.setdefault(same_but_for_design(verdict.case.row), {})
        variants.setdefault(design_of(verdict.case.row), {})[verdict.quantity] = verdict
    return [
        _effect(design, variants[design][quantity], variants[AS_RELEASED][quantity])
        for variants in by_case.values()
        if AS_RELEASED in variants
        for design in DESIGNS
        if design in variants
        for quantity in QUANTITIES
        if _compares(variants[design].get(quantity), variants[AS_RELEASED].get(quantity))
    ]


def _compares(under: Verdict | None, released: Verdict | None) -> bool:
    """Whether there is a ratio: of two quantities, neither of which is 0."""
    return all(verdict and verdict.measured and verdict.simulated for verdict in (under, released))


def _effect(design: str, under: Verdict, released: Verdict) -> Effect:
    measured = under.measured / released.measured
    return Effect(
        under.case.row,
        design,
        under.quantity,
        measured,
        under.simulated / released.simulated,
        _spread(under) + _spread(released),
        _ceiling(measured, under, released),
    )


def _spread(verdict: Verdict) -> float:
    """Return by what part of it a quantity differs from run to run.

    One run does not tell: then it is by how much a simulation may be off.
    """
    if len(_repeats(verdict)) > 1:
        return verdict.spread / verdict.measured
    _, most = BANDS[guest_of(verdict.case.row)][verdict.quantity].edges(verdict.measured)
    return most / verdict.measured - 1


def _ceiling(measured: float, under: Verdict, released: Verdict) -> float:
    signs = [
        (one - other) * (measured - 1) > 0
        for one in _repeats(under)
        for other in _repeats(released)
    ]
    return sum(signs) / len(signs)


def _repeats(verdict: Verdict) -> tuple[float, ...]:
    return verdict.case.repeats[verdict.quantity]
