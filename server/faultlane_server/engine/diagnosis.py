"""Why a run could not go on: who waits for whom, or what a fault kept doing."""

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock, OperationKind, StopReason
from faultlane_server.engine.world import Cause, ThreadState
from faultlane_server.summary import Diagnosis

CHAIN_MAX = 64  # lines

WHAT_FOR = {
    Cause.MMAP_LOCK: "mmap_lock",
    Cause.FOLIO: "a folio lock",
    Cause.DEVICE: "a read",
    Cause.VMA: "the readers of a VMA",
    Cause.PROGRAM: "a barrier",
    Cause.INVALIDATE_LOCK: "an invalidate_lock",
    Cause.WRITEBACK: "the writeback of a page",
    Cause.THROTTLE: "dirty pages to be written",
}


def diagnose(world: np.record, stop: StopReason) -> Diagnosis | None:
    """Return why a run could not go on, or None if it did not have to."""
    if stop == StopReason.DEADLOCK:
        return _deadlock(world)
    if stop == StopReason.NO_PROGRESS:
        return _no_progress(world)
    return None


def _deadlock(world: np.record) -> Diagnosis:
    waiting = [
        thread
        for thread in range(int(world.config.threads))
        if world.threads[thread].state == ThreadState.BLOCKED
    ]
    cycle = _cycle(world, waiting)
    if cycle:
        message = f"{len(cycle)} threads wait for each other, and nothing else can happen"
        return Diagnosis(message, tuple(_line(world, thread) for thread in cycle))
    who = "1 thread waits" if len(waiting) == 1 else f"{len(waiting)} threads wait"
    message = f"{who} for what will not happen"
    return Diagnosis(message, tuple(_line(world, thread) for thread in waiting[:CHAIN_MAX]))


def _cycle(world: np.record, waiting: list[int]) -> list[int]:
    """Return threads of which each waits for the next, and the last one for the first."""
    for first in waiting:
        seen: list[int] = []
        thread = first
        while thread != NOBODY and thread not in seen and len(seen) <= CHAIN_MAX:
            seen.append(thread)
            thread = int(world.threads[thread].waits_for)
        if thread in seen:
            return seen[seen.index(thread) :]
    return []


def _line(world: np.record, thread: int) -> str:
    row = world.threads[thread]
    parts = [f"thread {thread}", _doing(row), f"waits for {WHAT_FOR[Cause(int(row.cause))]}"]
    if row.waits_for != NOBODY:
        parts.append(f"behind thread {int(row.waits_for)}")
    if row.held:
        parts.append(f"and holds {_lock_name(int(row.held))}")
    return " ".join(part for part in parts if part)


def _doing(row: np.record) -> str:
    if row.in_fault:
        return f"(fault at page {int(row.page):#x})"
    if row.in_operation:
        return f"({OperationKind(int(row.op_kind)).name.lower()})"
    return ""


def _lock_name(held: int) -> str:
    return "a VMA lock" if held == FaultLock.VMA else "mmap_lock for read"


def _no_progress(world: np.record) -> Diagnosis:
    thread = int(world.stuck)
    row = world.threads[thread]
    attempts = int(row.awake_attempts)
    message = f"a fault of thread {thread} has not slept for {attempts} attempts, and needs more"
    chain = (
        f"thread {thread} {_doing(row)} since {int(row.begin_ns)} ns",
        f"attempts {int(row.attempts)}, retries to the VMA lock {int(row.vma_retries)}",
        f"last result {int(row.result):#x}, next attempt under {_lock_name(int(row.lock))}",
    )
    return Diagnosis(message, chain)
