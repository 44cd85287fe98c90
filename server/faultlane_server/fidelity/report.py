"""The report on how true the simulation is: as text, and as plain data for JSON."""

from collections.abc import Sequence
from math import log
from statistics import median
from typing import Any

from faultlane_server.fidelity.effects import DESIGNS, Effect, effects
from faultlane_server.fidelity.measured import OF_REPEATS
from faultlane_server.fidelity.rows import (
    BY_INSTRUCTIONS,
    IN_PARALLEL,
    PARAMETERS,
    Guest,
    Row,
    design_of,
    family_of,
    guest_of,
    is_fitted,
    set_of,
)
from faultlane_server.fidelity.score import BANDS, Band, Verdict, by_guest, score
from faultlane_server.machines import MACHINES

GOALS = {BY_INSTRUCTIONS: 0.90, IN_PARALLEL: 0.80}  # of the quantities outside the fit
SIGNS_GOAL = 0.95
WORST = 12  # misses that the text names

WHY_WRONG = (
    "With many threads on one CPU the kernel leaves one of them without it until the run queue is"
    " empty, 8 ms or more; the simulated scheduler does not, so such a run ends up to 3 % earlier.",
    "Writers are cut off by who wakes up a little less often than there: with one CPU the p99 of"
    " their operations is off by a factor of 2 in half of the cases.",
    "A thread that reclaims whole windows of readahead is cut off two to three times as often as"
    " on two CPUs there: beside a memory cgroup that is short, the p99 of touches is up to half too"
    " low, and that of writers, who get the CPU sooner, up to 10 times.",
    "With hardly more pages in a memory cgroup than threads, reclaim finds each page of it here;"
    " there those that others have isolated are out of its sight. Such runs scan up to three times"
    " as many pages here, and get to a standstill with 256 threads that have 1 MiB.",
    "What the host does to a virtual CPU is modelled as lateness of timers, cold caches, and"
    " interrupts that wait while all virtual CPUs work, by a law that looks at nothing else.",
    "Pages come from free lists that never have to be refilled, and the zone lock is not modelled.",
)


def text_report(verdicts: Sequence[Verdict]) -> str:
    """Return the whole report for a terminal."""
    lines: list[str] = []
    for guest, of_guest in by_guest(verdicts).items():
        if of_guest:
            lines += [*_guest_lines(guest, of_guest), ""]
    lines += [*_effect_lines(effects(verdicts)), "", "Where the model is known to be wrong:"]
    lines += [f"  * {why}" for why in WHY_WRONG]
    return "\n".join(lines)


def rows_data(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return one entry for each row and quantity, with the quantity named as its column is."""
    return {
        "rows": [
            {
                **{name: verdict.case.row[name] for name in PARAMETERS},
                "quantity": verdict.quantity + OF_REPEATS,
                "measured": verdict.measured,
                "simulated": verdict.simulated,
            }
            for verdict in verdicts
        ]
    }


def report_data(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return everything that the report tells."""
    rows = rows_data(verdicts)["rows"]
    for entry, verdict in zip(rows, verdicts, strict=True):
        entry |= {
            "spread": verdict.spread,
            "near": verdict.is_near,
            "ceiling": verdict.ceiling,
            "fitted": is_fitted(verdict.case.row),
        }
    return {
        "rows": rows,
        "scores": [
            {
                "profile": guest.profile,
                "fitted": fitted,
                "goal": GOALS[guest],
                **score(_part(of_guest, fitted))._asdict(),
            }
            for guest, of_guest in by_guest(verdicts).items()
            for fitted in (True, False)
        ],
        "effects": [
            {
                **{name: effect.row[name] for name in PARAMETERS},
                "quantity": effect.quantity,
                "measured": effect.measured,
                "simulated": effect.simulated,
                "spread": effect.spread,
            }
            for effect in effects(verdicts)
        ],
        "known_to_be_wrong": list(WHY_WRONG),
    }


def label_of(row: Row) -> str:
    """Return a row in a few words."""
    parts = [
        set_of(row),
        family_of(row),
        f"{row['threads']} threads",
        f"{row['vmas']} VMAs" if row["vmas"] != "1" else "",
        f"{int(row['device_latency_ns']) // 1000} us" if row["device_latency_ns"] else "",
        row["readahead"],
        f"{row['writers']} x {row['writer_op']}" if row["writer_op"] else "",
        f"every {row['writer_think_us']} us" if row["writer_think_us"] else "",
        f"{row['memcg_limit_kib']} KiB" if row["memcg_limit_kib"] not in ("", "0") else "",
        design_of(row),
    ]
    return ", ".join(part for part in parts if part)


def _part(verdicts: Sequence[Verdict], fitted: bool) -> list[Verdict]:
    """Return those on rows that costs were fitted to, or those on the others."""
    return [verdict for verdict in verdicts if is_fitted(verdict.case.row) == fitted]


def _guest_lines(guest: Guest, verdicts: Sequence[Verdict]) -> list[str]:
    """Tell of one guest: its scores, and its worst misses."""
    lines = [
        f"{guest.profile}: {MACHINES[guest.profile].description}",
        f"  {'':22}{'quantity':22}{'near':>9}{'share':>8}{'repeats':>9}  simulated/measured",
    ]
    for fitted in (True, False):
        of_part = _part(verdicts, fitted)
        for family in sorted({family_of(verdict.case.row) for verdict in of_part}):
            of_family = [verdict for verdict in of_part if family_of(verdict.case.row) == family]
            for quantity in BANDS[guest]:
                chosen = [verdict for verdict in of_family if verdict.quantity == quantity]
                if chosen:
                    title = f"{family} ({'fitted' if fitted else 'tested'})"
                    lines.append(_score_line(title, quantity, chosen, BANDS[guest][quantity]))
        if of_part:
            lines.append(_sum_line(guest, fitted, of_part))
    lines.append("  worst misses outside the fit (simulated/measured, in bands):")
    missed = [v for v in verdicts if not v.is_near and not is_fitted(v.case.row)]
    for verdict in sorted(missed, key=_how_far, reverse=True)[:WORST]:
        lines.append(
            f"    {verdict.quantity:20} {verdict.simulated:12.4g} / {verdict.measured:<12.4g}"
            f"{label_of(verdict.case.row)}"
        )
    return lines


def _score_line(title: str, quantity: str, verdicts: Sequence[Verdict], band: Band) -> str:
    found = score(verdicts)
    return (
        f"  {title:22}{quantity:22}{found.near:4}/{found.of:<4}{found.share:8.0%}"
        f"{found.ceiling:9.0%}  {_typical(verdicts, band)}"
    )


def _sum_line(guest: Guest, fitted: bool, verdicts: Sequence[Verdict]) -> str:
    found = score(verdicts)
    title = "all that is fitted" if fitted else "all outside the fit"
    goal = "" if fitted else f"  goal {GOALS[guest]:.0%}"
    return f"  {title:44}{found.near:4}/{found.of:<4}{found.share:8.0%}{found.ceiling:9.0%}{goal}"


def _typical(verdicts: Sequence[Verdict], band: Band) -> str:
    if band.absolute:
        return f"{median(v.simulated - v.measured for v in verdicts):+.3f} (difference)"
    ratios = sorted(v.simulated / v.measured for v in verdicts if v.measured)
    if not ratios:
        return ""
    tenth = len(ratios) // 10
    return f"{median(ratios):.3f} ({ratios[tenth]:.3f} to {ratios[-1 - tenth]:.3f})"


def _how_far(verdict: Verdict) -> float:
    """Return how many bands a miss is off, so that quantities of different kinds compare."""
    band = BANDS[guest_of(verdict.case.row)][verdict.quantity]
    if band.absolute:
        return abs(verdict.simulated - verdict.measured) / band.absolute
    if verdict.measured <= 0 or verdict.simulated <= 0:
        return float("inf")
    _, most = band.edges(verdict.measured)
    return abs(log(verdict.simulated / verdict.measured)) / log(most / verdict.measured)


def _effect_lines(found: Sequence[Effect]) -> list[str]:
    """Tell which way each design changes things, where that is more than the repeats differ."""
    lines = ["Effects of a design (ratio to the kernel as released), where larger than the spread:"]
    for title, of in (("fitted", True), ("tested", False)):
        for design in DESIGNS:
            clear = [
                effect
                for effect in found
                if effect.design == design
                and effect.is_larger_than_spread
                and is_fitted(effect.row) == of
            ]
            right = sum(effect.has_right_sign for effect in clear)
            if clear:
                share = right / len(clear)
                ceiling = sum(effect.ceiling for effect in clear) / len(clear)
                lines.append(
                    f"  {design:6} {title}: the sign is right for {right} of {len(clear)}"
                    f" ({share:.0%}; goal {SIGNS_GOAL:.0%}; ceiling of the repeats {ceiling:.0%})"
                )
    return lines
