"""How often faults were tried again, and how the attempts of the most stubborn one ended."""

from collections.abc import Iterator

import numpy as np

from faultlane_server.codes import FaultKind, FaultLock, RetryReason
from faultlane_server.engine.names import Names
from faultlane_server.engine.world import ATTEMPTS_KEPT, RETRIES_MAX, Cause
from faultlane_server.summary import AttemptRow, LongestFault, Retries, RetryRow, WaitPart

TOLD = (Cause.DEVICE, Cause.FOLIO, Cause.MMAP_LOCK)  # of attempts
MORE_THAN = (0, 1, 2, 4, 8, 16, 32)  # retries: for these the share of faults is a metric


def retries_of(world: np.record, names: Names) -> Retries:
    """Return how often faults were tried again."""
    rows = tuple(RetryRow(kind, tuple(counts.tolist())) for kind, counts in _kinds(world))
    return Retries(rows, _longest(world, names))


def retry_metrics(world: np.record) -> dict[str, float]:
    """Return which share of the faults of a kind was tried again more than k times."""
    metrics = {}
    for kind, counts in _kinds(world):
        for k in MORE_THAN:
            share = float(counts[k + 1 :].sum() / counts.sum())
            metrics[f"retries.{kind}.more_than_{k}"] = share
    return metrics


def _kinds(world: np.record) -> Iterator[tuple[str, np.ndarray]]:
    """Go through the kinds of faults that there were; counts end at the last that is not zero."""
    table = world.tally.retries.reshape(-1, RETRIES_MAX)
    for number, counts in enumerate(table):
        if counts.any():
            yield _kind_name(number), counts[: int(counts.nonzero()[0][-1]) + 1]


def _kind_name(number: int) -> str:
    return FaultKind(number).name.lower() if number else "before_its_kind_was_known"


def _longest(world: np.record, names: Names) -> LongestFault | None:
    fault = world.tally.longest
    if fault.attempts == 0:
        return None
    group = int(world.threads[fault.thread].group)
    return LongestFault(
        thread=int(fault.thread),
        group=names.groups[group],
        touch=int(fault.touch),
        kind=_kind_name(int(fault.kind)),
        start_ns=int(fault.begin_ns),
        duration_ns=int(fault.duration_ns),
        finished=bool(fault.finished),
        attempts=int(fault.attempts),
        vma_retries=int(fault.vma_retries),
        rows=tuple(_attempts(fault)),
    )


def _attempts(fault: np.record) -> Iterator[AttemptRow]:
    """Go through the attempts that were kept: the first ones, and the last one if it has ended."""
    before = (0, 0, 0)
    kept = min(int(fault.attempts) - 1, ATTEMPTS_KEPT)
    for row in fault.first[:kept]:
        waits = (int(row.device_ns), int(row.folio_ns), int(row.mmap_lock_ns))
        yield AttemptRow(
            lock=FaultLock(int(row.lock)).name.lower(),
            tried=bool(row.tried),
            reason=RetryReason(int(row.reason)).name,
            end_ns=int(row.end_ns - fault.begin_ns),
            waits=_parts(before, waits),
        )
        before = waits
    if fault.finished:
        yield AttemptRow(
            lock=FaultLock(int(fault.lock)).name.lower(),
            tried=False,
            reason="",
            end_ns=int(fault.duration_ns),
            waits=_parts(before, tuple(int(fault.wait_ns[cause]) for cause in TOLD)),
        )


def _parts(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[WaitPart, ...]:
    """Return what was waited for in between."""
    lengths = [now - then for then, now in zip(before, after, strict=True)]
    return tuple(
        WaitPart(cause.name.lower(), ns) for cause, ns in zip(TOLD, lengths, strict=True) if ns > 0
    )
