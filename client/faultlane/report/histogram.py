"""Distributions of lengths of time, as text."""

from collections.abc import Iterable

from faultlane import v1 as pb
from faultlane.report.format import duration_text, number_text, table

BAR_WIDTH = 40


def histogram(latency: pb.Latency) -> list[str]:
    """One line for each power of two, from the first that has a value to the last."""
    counts = list(latency.log2_counts)
    filled = [power for power, count in enumerate(counts) if count]
    if not filled:
        return []
    most = max(counts)
    rows = [
        [f"{duration_text(2**power)} ..", number_text(counts[power]), _bar(counts[power], most)]
        for power in range(filled[0], filled[-1] + 1)
    ]
    width = max(len(lower) for lower, _, _ in rows)
    return [
        f"{lower:>{width}} {count:>{len(number_text(most))}} |{bar}" for lower, count, bar in rows
    ]


def percentiles(latencies: Iterable[pb.Latency]) -> list[str]:
    """A table with a line for each distribution that has values."""
    head = ["", "count", "censored", "p50", "p90", "p99", "p99.9", "max", "mean"]
    rows = [_percentiles_of(latency) for latency in latencies if latency.count]
    return table([head, *rows]) if rows else []


def _percentiles_of(latency: pb.Latency) -> list[str]:
    times_ns = (
        latency.p50_ns,
        latency.p90_ns,
        latency.p99_ns,
        latency.p999_ns,
        latency.max_ns,
        latency.mean_ns,
    )
    counts = [number_text(latency.count), number_text(latency.censored)]
    return [latency.name, *counts, *(duration_text(ns) for ns in times_ns)]


def _bar(count: int, most: int) -> str:
    """As long as the count is large; what is there at all is seen."""
    return "#" * max(round(BAR_WIDTH * count / most), 1 if count else 0)
