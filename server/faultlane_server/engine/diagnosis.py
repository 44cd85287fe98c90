"""Why a run could not go on: who waits for whom, or what a fault kept doing."""

from itertools import islice

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
    Cause.USERFAULTFD: "a userfaultfd",
    Cause.FALLOC: "a hole to be punched",
    Cause.FAULT_MUTEX: "a fault mutex of hugetlb",
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
        behind = [*cycle[1:], cycle[0]]
        lines = (_line(world, *pair) for pair in zip(cycle, behind, strict=True))
        return Diagnosis(message, tuple(lines))
    who = "1 thread waits" if len(waiting) == 1 else f"{len(waiting)} threads wait"
    message = f"{who} for what will not happen"
    lines = (_line(world, thread, _first_in_the_way(world, thread)) for thread in waiting)
    return Diagnosis(message, tuple(islice(lines, CHAIN_MAX)))


def _first_in_the_way(world: np.record, thread: int) -> int:
    return next(iter(_in_the_way(world, thread)), NOBODY)


def _cycle(world: np.record, waiting: list[int]) -> list[int]:
    """Return threads of which each waits for the next, and the last one for the first."""
    done: set[int] = set()
    for first in waiting:
        path: list[int] = []
        branches = [iter([first])]
        while branches:
            thread = next(branches[-1], None)
            if thread is None:
                branches.pop()
                if path:
                    done.add(path.pop())
            elif thread in path:
                return path[path.index(thread) :]
            elif thread not in done:
                path.append(thread)
                branches.append(iter(_in_the_way(world, thread)))
    return []


def _in_the_way(world: np.record, thread: int) -> list[int]:
    """Return whom a thread waits for: all who hold what it wants to have.

    What a thread has taken down of whom it waits for may have left since.
    """
    row = world.threads[thread]
    others = world.threads[: int(world.config.threads)]
    if row.cause == Cause.VMA:
        slot = int(row.locks[row.locks_count - 1])
        holds = (others["held"] == FaultLock.VMA) & (others["vma"] == slot)
    elif row.cause == Cause.MMAP_LOCK:
        lock = world.mms[int(row.mm)].mmap_lock
        if lock.writer != NOBODY:
            return [int(lock.writer)]
        holds = (others["held"] == FaultLock.MMAP) & (others["mm"] == row.mm)
    elif row.cause == Cause.INVALIDATE_LOCK:
        return _holders_of_invalidate_lock(world, row)
    else:
        return [int(row.waits_for)] if row.waits_for != NOBODY else []
    return [int(number) for number in np.flatnonzero(holds)] or _head(world, row)


def _head(world: np.record, row: np.record) -> list[int]:
    """Return the head of the queue for mmap_lock, if the lock is free but for those who wait."""
    first = int(world.mms[int(row.mm)].mmap_lock.first)
    return [first] if row.cause == Cause.MMAP_LOCK and first != NOBODY else []


def _holders_of_invalidate_lock(world: np.record, row: np.record) -> list[int]:
    file = int(row.file if row.in_fault else row.op_file)
    lock = world.files[file].invalidate_lock
    if lock.writer != NOBODY:
        return [int(lock.writer)]
    others = world.threads[: int(world.config.threads)]
    holds = (others["invalidate_held"] == 1) & (others["file"] == file)
    holds &= others["cause"] != Cause.INVALIDATE_LOCK
    return [int(number) for number in np.flatnonzero(holds)]


def _line(world: np.record, thread: int, behind: int) -> str:
    row = world.threads[thread]
    parts = [f"thread {thread}", _doing(row), f"waits for {WHAT_FOR[Cause(int(row.cause))]}"]
    if behind != NOBODY:
        parts.append(f"behind thread {behind}")
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
