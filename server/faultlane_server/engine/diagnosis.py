"""Why a run could not go on: who waits for whom, or what a fault kept doing."""

from itertools import islice

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock, OperationKind, StopReason
from faultlane_server.engine.waiting import WHAT_FOR, in_the_way
from faultlane_server.engine.world import Cause, ThreadState
from faultlane_server.summary import Diagnosis

CHAIN_MAX = 64  # lines


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
    return next(iter(in_the_way(world, thread)), NOBODY)


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
                branches.append(iter(in_the_way(world, thread)))
    return []


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
