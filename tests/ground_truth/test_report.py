"""How true the simulation is, and that it has not become less so.

The scores fall with a worse model or a worse fit of a profile. One that was meant to fall, since
another gained by it, is recorded anew: see `scores.py`.
"""

from functools import cache

import pytest

from faultlane_server.fidelity.compare import compare_all
from faultlane_server.fidelity.measured import Case, shipped_cases
from faultlane_server.fidelity.report import text_report
from faultlane_server.fidelity.rows import is_fitted
from faultlane_server.fidelity.score import BANDS, Verdict, score
from faultlane_server.fidelity.score import verdicts as verdicts_of
from tests.ground_truth.a_row import a_row
from tests.ground_truth.scores import recorded, scores_of

SOME_EVERY = 40  # cases: enough to have all that is in a report
SOME_NEAR = 0.5  # of so few; what all reach is for the slow test to tell


@cache
def verdicts_of_some() -> list[Verdict]:
    return compare_all(shipped_cases()[::SOME_EVERY])


def test_a_report_on_some_cases_has_both_guests_and_cases_outside_the_fit() -> None:
    report = text_report(verdicts_of_some())

    assert all(guest.profile in report for guest in BANDS)
    assert report.count("all outside the fit") == len(BANDS)


def test_of_some_cases_outside_the_fit_most_quantities_are_near() -> None:
    assert score(v for v in verdicts_of_some() if not is_fitted(v.case.row)).share > SOME_NEAR


def test_every_quantity_of_every_guest_has_a_score_on_record() -> None:
    assert {guest.profile: set(bands) for guest, bands in BANDS.items()} == {
        profile: set(scores) for profile, scores in recorded().items()
    }
    assert all(0 < share <= 1 for scores in recorded().values() for share in scores.values())


def test_a_score_is_that_of_what_is_outside_the_fit() -> None:
    """S1 is fitted, S3 is not: of its three rows two are near."""
    verdicts = [
        verdict
        for scenario, rate in (("S1", 1), ("S3", 1000), ("S3", 1), ("S3", 1001))
        for verdict in of_rate(rate, set="icount", scenario=scenario)
    ]

    assert scores_of(verdicts) == {"icount-guest": {"touches_per_s": 0.666}}


def of_rate(rate: float, **columns: str) -> list[Verdict]:
    """Return the verdict on a rate that was measured to be 1000."""
    case = Case(a_row(**columns), {"touches_per_s": (1000.0,)})
    return verdicts_of(case, {"touches_per_s": rate})


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_score_outside_the_fit_has_fallen() -> None:
    verdicts = compare_all(shipped_cases())
    print(text_report(verdicts))
    now = scores_of(verdicts)

    fallen = {
        (profile, quantity): (share, now[profile][quantity])
        for profile, scores in recorded().items()
        for quantity, share in scores.items()
        if now[profile][quantity] < share
    }

    assert fallen == {}
