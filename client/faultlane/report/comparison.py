"""A comparison of policies as text: who gains, and who pays for it."""

from fnmatch import fnmatch
from statistics import fmean

from faultlane import v1 as pb
from faultlane.compare import Comparison, Interval, interval
from faultlane.report.format import figure_text, number_text, ratio_text, table
from faultlane.report.run import ENDS, diagnosis, joined, machine_text, titled

# What is shown, by patterns of figures' names; all others are in the JSON.
SECTIONS = (
    ("throughput", ("touches.per_second", "faults.per_second", "operations.per_second")),
    (
        "faults",
        (
            "faults.attempts",
            "faults.attempts_max",
            "retries.*",
            "vmstat.pgmajfault",
            "fault.*.count",
            "fault.*.p50_ns",
            "fault.*.p99_ns",
        ),
    ),
    (
        "mmap_lock reads",
        ("faults.via_mmap_lock", "mmap_lock.read.acquired", "mmap_lock.read.per_*"),
    ),
    (
        "writers",
        ("operation.*.p50_ns", "operation.*.p99_ns", "section.*.p50_ns", "section.*.p99_ns"),
    ),
    ("locks", ("lock.*.contended", "lock.*.wait_total_ns")),
    ("where time went, summed over all threads", ("faults.cpu_ns", "wait.*")),
)

GOOD_ENDS = (pb.StopReason.STOP_REASON_HORIZON, pb.StopReason.STOP_REASON_FINISHED)
MISSING = "-"
MARK = "*"  # behind a ratio: chance alone is an unlikely reason for it


def comparison_report(title: str, comparison: Comparison) -> list[str]:
    """Everything that a comparison found out."""
    sections = [
        [_headline(title, comparison), _streamed(comparison)],
        _bad_ends(comparison),
        side_by_side(comparison),
        titled(_intervals_title(comparison), intervals(comparison)),
        titled(f"faults paired with those under {comparison.first}", pairs(comparison)),
    ]
    return joined(sections)


def side_by_side(comparison: Comparison) -> list[str]:
    """A column for each policy, its ratio to the first one beside it; means over the seeds."""
    others = list(comparison.results)[1:]
    head = ["", comparison.first, *(cell for policy in others for cell in (policy, "ratio"))]
    rows = [head]
    for title, patterns in SECTIONS:
        figures = [_row(comparison, name, others) for name in _chosen(comparison, patterns)]
        rows += [_only(title, head), *figures, _only("", head)] if figures else []
    return table(rows[:-1])


def intervals(comparison: Comparison) -> list[str]:
    """How far each figure is from the first policy's, with what chance can do."""
    if len(comparison.seeds) < 2:
        return []
    others = list(comparison.results)[1:]
    patterns = tuple(pattern for _, patterns in SECTIONS[:-1] for pattern in patterns)
    rows = [
        [name, *(_difference_text(comparison, policy, name) for policy in others)]
        for name in _chosen(comparison, patterns)
    ]
    return table([["", *others], *rows]) if rows and others else []


def pairs(comparison: Comparison) -> list[str]:
    """How much longer the same faults took, and how many had no counterpart."""
    head = ["", "pairs", "took longer by", f"only {comparison.first}", "only here"]
    rows = []
    for policy in list(comparison.results)[1:]:
        pairings = [result.pairing for result in comparison.results[policy]]
        longer_ns = interval([pairing.difference_ns_mean for pairing in pairings])
        counts = [
            sum(pairing.paired for pairing in pairings),
            sum(pairing.first_alone for pairing in pairings),
            sum(pairing.other_alone for pairing in pairings),
        ]
        paired, first_alone, other_alone = (number_text(count) for count in counts)
        rows.append([policy, paired, _interval_text("_ns", longer_ns), first_alone, other_alone])
    return table([head, *rows]) if rows else []


def _row(comparison: Comparison, name: str, others: list[str]) -> list[str]:
    first = comparison.values(comparison.first, name)
    cells = [f"  {name}", figure_text(name, fmean(first)) if first else MISSING]
    for policy in others:
        values = comparison.values(policy, name)
        cells += [figure_text(name, fmean(values)) if values else MISSING]
        cells += [_ratio(comparison, policy, name)]
    return cells


def _only(title: str, head: list[str]) -> list[str]:
    """A row with nothing but a title."""
    return [title, *("" for _ in head[1:])]


def _ratio(comparison: Comparison, policy: str, name: str) -> str:
    first, values = comparison.values(comparison.first, name), comparison.values(policy, name)
    if not first or not values or not fmean(first):
        return MISSING
    mark = MARK if comparison.difference(policy, name).excludes_zero else ""
    return ratio_text(fmean(values) / fmean(first)) + mark


def _chosen(comparison: Comparison, patterns: tuple[str, ...]) -> list[str]:
    """The figures that fit a pattern and are not zero everywhere, pattern by pattern."""
    runs = [result.figures for results in comparison.results.values() for result in results]
    names = dict.fromkeys(name for run in runs for name in run)
    return [
        name
        for pattern in patterns
        for name in names
        if fnmatch(name, pattern) and any(run.get(name) for run in runs)
    ]


def _headline(title: str, comparison: Comparison) -> str:
    first, *others = comparison.results
    machine = comparison.results[first][0].simulation.scenario.machine
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    against = f" against {', '.join(others)}" if others else ""
    return f"{title}: policy {first}{against} on {machine_text(machine)}, seeds {seeds}"


def _streamed(comparison: Comparison) -> str:
    runs = [result for results in comparison.results.values() for result in results]
    faults = number_text(sum(run.faults for run in runs))
    operations = number_text(sum(run.operations for run in runs))
    return f"{len(runs)} runs streamed {faults} faults and {operations} operations"


def _bad_ends(comparison: Comparison) -> list[str]:
    """The runs that did not end as a run should, and why."""
    lines: list[str] = []
    for policy, results in comparison.results.items():
        for seed, result in zip(comparison.seeds, results, strict=True):
            summary = result.simulation.summary
            if summary.stop not in GOOD_ENDS:
                lines.append(f"{policy}, seed {seed}: {ENDS.get(summary.stop, 'ended')}")
                lines += diagnosis(summary)
    return lines


def _intervals_title(comparison: Comparison) -> str:
    return (
        f"differences from {comparison.first}, with 95 % intervals over"
        f" {len(comparison.seeds)} seeds ({MARK}: not by chance alone)"
    )


def _difference_text(comparison: Comparison, policy: str, name: str) -> str:
    if not comparison.values(comparison.first, name) or not comparison.values(policy, name):
        return MISSING
    return _interval_text(name, comparison.difference(policy, name))


def _interval_text(name: str, difference: Interval) -> str:
    mean = figure_text(name, difference.mean)
    sign = "+" if difference.mean > 0 else ""
    if difference.margin is None:
        return f"{sign}{mean}"
    mark = MARK if difference.excludes_zero else ""
    return f"{sign}{mean} +- {figure_text(name, difference.margin)}{mark}"
