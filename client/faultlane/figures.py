"""The figures of a summary, each under one dotted name that ends in its unit.

A figure is a metric as it is (`vmstat.pgmajfault`), a number of a latency
(`fault.file_read.major.p99_ns`) or a number of a lock (`lock.mmap_lock.read.contended`).
"""

from faultlane import v1 as pb

LATENCY_FIGURES = ("count", "mean_ns", "min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")
LOCK_FIGURES = (
    "acquired",
    "contended",
    "wait_total_ns",
    "wait_max_ns",
    "hold_total_ns",
    "hold_max_ns",
)


def figures(summary: pb.Summary) -> dict[str, float]:
    """All figures by name, in the order of the summary."""
    found = {metric.name: metric.value for metric in summary.metrics}
    for latency in summary.latencies:
        for figure in LATENCY_FIGURES:
            found[f"{latency.name}.{figure}"] = float(getattr(latency, figure))
    for lock in summary.locks:
        for figure in LOCK_FIGURES:
            found[f"lock.{lock.lock}.{lock.mode}.{figure}"] = float(getattr(lock, figure))
    return found
