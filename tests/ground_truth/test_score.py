"""What counts as near, how near repeats come to each other, and what a design changes."""

import pytest

from faultlane_server.fidelity.effects import effects
from faultlane_server.fidelity.measured import Case, grouped, of_medians, shipped_cases
from faultlane_server.fidelity.rows import PARAMETERS, problems_of
from faultlane_server.fidelity.score import Band, Verdict, score, verdicts
from tests.ground_truth.a_row import a_row

BY_INSTRUCTIONS = a_row(set="icount")


def verdict(quantity: str, repeats: tuple[float, ...], simulated: float, **columns: str) -> Verdict:
    case = Case({**BY_INSTRUCTIONS, **columns}, {quantity: repeats})
    [only] = verdicts(case, {quantity: simulated})
    return only


@pytest.mark.parametrize(
    ("band", "edges"),
    [
        (Band(absolute=0.01), (0.99, 1.01)),
        (Band(relative=0.1), (0.9, 1.1)),
        (Band(absolute=0.2, relative=0.1), (0.8, 1.2)),
        (Band(factor=2), (0.5, 2)),
    ],
    ids=str,
)
def test_a_band_has_its_edges(band: Band, edges: tuple[float, float]) -> None:
    assert band.edges(1) == pytest.approx(edges)


@pytest.mark.parametrize(
    ("quantity", "simulated", "is_near"),
    [
        ("touches_per_s", 1029, True),
        ("touches_per_s", 1031, False),
        ("touches_per_s", 971, True),
        ("touches_per_s", 969, False),
        ("touch_p99_ns", 1149, True),
        ("touch_p99_ns", 1151, False),
        ("writer_p99_ns", 1499, True),
        ("writer_p99_ns", 1501, False),
        ("writer_p99_ns", 667, True),
        ("writer_p99_ns", 666, False),
    ],
)
def test_near_is_what_lies_in_the_band(quantity: str, simulated: float, is_near: bool) -> None:
    assert verdict(quantity, (1000,), simulated).is_near == is_near


@pytest.mark.parametrize(("simulated", "is_near"), [(1199, True), (1201, False), (799, False)])
def test_near_is_also_what_lies_within_twice_the_spread_of_the_repeats(
    simulated: float, is_near: bool
) -> None:
    """They range over 200: half of that is the spread."""
    found = verdict("touches_per_s", (900, 1000, 1100), simulated)

    assert (found.measured, found.spread, found.is_near) == (1000, 100, is_near)


def test_a_guest_that_runs_in_parallel_has_wider_bands() -> None:
    assert not verdict("touches_per_s", (1000,), 1090).is_near
    assert verdict("touches_per_s", (1000,), 1090, set="elsewhere").is_near


@pytest.mark.parametrize(
    ("repeats", "ceiling"),
    [
        ((1000,), 1),
        ((1000, 1000, 1000), 1),
        ((1000, 1000, 1500), 2 / 3),
        ((1000, 2000), 0),
    ],
)
def test_the_ceiling_is_the_share_of_repeats_that_are_near_the_others(
    repeats: tuple[float, ...], ceiling: float
) -> None:
    assert verdict("touches_per_s", repeats, 1000).ceiling == pytest.approx(ceiling)


def test_what_was_not_measured_or_not_simulated_has_no_verdict() -> None:
    case = Case(BY_INSTRUCTIONS, {"touches_per_s": (1.0,), "touch_p50_ns": (1.0,)})

    found = verdicts(case, {"touches_per_s": 1.0, "touch_p99_ns": 1.0})

    assert [each.quantity for each in found] == ["touches_per_s"]


def test_a_score_counts_what_is_near() -> None:
    found = score(
        [
            verdict("touches_per_s", (1000,), 1000),
            verdict("touches_per_s", (1000,), 1),
            verdict("touches_per_s", (1000, 2000), 1500),
        ]
    )

    assert (found.of, found.near) == (3, 2)
    assert found.share == pytest.approx(2 / 3)
    assert found.ceiling == pytest.approx(2 / 3)


def pair(
    measured: tuple[float, float], simulated: tuple[float, float], spread: float = 0
) -> list[Verdict]:
    """A quantity as released, and under hold."""
    return [
        verdict("touches_per_s", (about - spread, about, about + spread), value, variant=variant)
        for variant, about, value in zip(("base", "hold"), measured, simulated, strict=True)
    ]


@pytest.mark.parametrize(
    ("simulated", "is_right"), [((100, 101), True), ((100, 99), False), ((100, 100), False)]
)
def test_an_effect_has_the_right_sign_or_not(
    simulated: tuple[float, float], is_right: bool
) -> None:
    [effect] = effects(pair((100, 150), simulated))

    assert (effect.design, effect.measured) == ("hold", 1.5)
    assert effect.simulated == pytest.approx(simulated[1] / simulated[0])
    assert effect.has_right_sign == is_right


@pytest.mark.parametrize(("spread", "is_larger"), [(5, True), (15, False)])
def test_an_effect_counts_if_it_is_larger_than_the_spread_of_both(
    spread: float, is_larger: bool
) -> None:
    """As parts of what was measured: 5/100 + 5/120 is less than 0.2, 15/100 + 15/120 is not."""
    [effect] = effects(pair((100, 120), (100, 120), spread))

    assert effect.is_larger_than_spread == is_larger


@pytest.mark.parametrize(("once", "is_larger"), [(117, False), (119, True)])
def test_of_a_case_that_was_run_once_the_band_stands_for_the_spread(
    once: float, is_larger: bool
) -> None:
    """Throughput: 3 % for the case itself, and 15/100 for the one that it is compared with."""
    released, held = pair((100, once), (100, once), 15)
    [verdict_once] = verdicts(
        Case(held.case.row, {"touches_per_s": (once,)}), {"touches_per_s": held.simulated}
    )

    [effect] = effects([released, verdict_once])

    assert effect.spread == pytest.approx(0.18)
    assert effect.is_larger_than_spread == is_larger


def test_the_ceiling_of_an_effect_is_the_share_of_pairs_of_repeats_that_have_its_sign() -> None:
    """150 and 120 are more than each of 90, 100 and 110, and 105 is more than two of them."""
    released, _ = pair((100, 150), (100, 150), 10)
    held = verdict("touches_per_s", (150, 120, 105), 150, variant="hold")

    [effect] = effects([released, held])

    assert effect.ceiling == pytest.approx(8 / 9)


def test_there_is_no_effect_of_what_was_not_measured_as_released_in_the_same_case() -> None:
    released, held = pair((100, 150), (100, 150))
    [elsewhere] = verdicts(
        Case({**released.case.row, "threads": "3"}, released.case.repeats), {"touches_per_s": 1.0}
    )

    assert effects([held]) == []
    assert effects([elsewhere, held]) == []


def test_there_is_no_ratio_to_nothing() -> None:
    assert effects(pair((0, 150), (100, 150))) == []
    assert effects(pair((100, 150), (0, 150))) == []


def test_repeats_are_put_together_and_other_rows_are_not() -> None:
    runs = [
        {**dict.fromkeys(PARAMETERS, "x"), "variant": variant, "touches_per_s": rate}
        | dict.fromkeys(("mmap_read_per_touch", "pgmajfault", "touch_p50_ns"), "")
        | dict.fromkeys(("touch_p99_ns", "writer_p99_ns"), "")
        for variant, rate in (("base", "10"), ("hold", "40"), ("base", "30"), ("base", "11"))
    ]

    base, hold = grouped(runs)

    assert base.repeats == {"touches_per_s": (10, 30, 11)}
    assert (base.measured("touches_per_s"), base.spread("touches_per_s")) == (11, 10)
    assert hold.repeats == {"touches_per_s": (40,)}


def test_a_median_is_a_case_of_one_repeat() -> None:
    case = of_medians({**BY_INSTRUCTIONS, "touches_per_s_median": "3.5", "pgmajfault_median": ""})

    assert (case.row, case.repeats) == (BY_INSTRUCTIONS, {"touches_per_s": (3.5,)})


def test_every_row_that_was_published_can_be_simulated() -> None:
    cases = shipped_cases()

    assert sum(len(case.repeats["touches_per_s"]) for case in cases) == 1330
    assert [problems_of(case.row) for case in cases[::30]] == [[]] * len(cases[::30])
