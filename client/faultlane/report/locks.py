"""Locks, as `perf lock contention` shows them."""

from collections.abc import Iterable

from faultlane import v1 as pb
from faultlane.report.format import duration_text, number_text, text_table

INSTANCES_MAX = 20

TYPES = {
    ("mmap_lock", "read"): "rwsem:R",
    ("mmap_lock", "write"): "rwsem:W",
    ("vma_lock", "read"): "vma:R",
    ("vma_lock", "write"): "vma:W",
}
HEAD = (
    " contended   total wait     max wait     avg wait      type   lock"
    "              acquired   total hold     max hold     avg hold"
)


def lock_table(locks: Iterable[pb.LockRow]) -> list[str]:
    """A line for each lock and mode, the longest total wait first, as perf sorts them."""
    rows = sorted(locks, key=lambda row: row.wait_total_ns, reverse=True)
    return [HEAD, *(_line(row) for row in rows)] if rows else []


def _line(row: pb.LockRow) -> str:
    average_ns = row.wait_total_ns / row.contended if row.contended else 0
    waits = [duration_text(ns) for ns in (row.wait_total_ns, row.wait_max_ns, average_ns)]
    kind = TYPES.get((row.lock, row.mode), row.mode)
    return (
        f"{row.contended:>10}"
        + "".join(f"{wait:>13}" for wait in waits)
        + f"{kind:>10}   {row.lock:<13}"
        + f"{number_text(row.acquired):>13}"
        + "".join(f"{hold:>13}" for hold in _holds(row))
    )


def _holds(row: pb.LockRow) -> list[str]:
    average_ns = row.hold_total_ns / row.acquired if row.acquired else 0
    times_ns = (row.hold_total_ns, row.hold_max_ns, average_ns)
    return [duration_text(ns) for ns in times_ns]


def instance_table(locks: Iterable[pb.LockInstanceRow]) -> list[str]:
    """The locks that were waited for longest, one by one."""
    rows = [
        [
            number_text(row.contended),
            duration_text(row.wait_total_ns),
            duration_text(row.wait_max_ns),
            duration_text(row.wait_total_ns / row.contended),
            TYPES.get((row.lock, row.mode), row.mode),
            f"{row.lock} of {row.instance}",
        ]
        for row in list(locks)[:INSTANCES_MAX]
    ]
    head = ["contended", "total wait", "max wait", "avg wait", "type", "lock"]
    return text_table([head, *rows]) if rows else []
