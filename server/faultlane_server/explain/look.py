"""By what a change of a thread is seen, and a change of what is in its way."""

from typing import NamedTuple, Self

import numpy as np

from faultlane_server.codes import VmFault
from faultlane_server.engine.world import Cause, Step, ThreadState
from faultlane_server.explain.chain import Chains
from faultlane_server.explain.timeline import bounded
from faultlane_server.explanation import Blocking, Link


class Look(NamedTuple):
    """A thread at a moment, as far as its steps are told apart by it."""

    step: Step
    state: int
    is_switched_to: bool
    since_ns: int
    cause: int
    held: int
    due: int  # the key of the event of its CPU
    until_ns: int  # the time of that event
    events: int  # of the whole run

    def is_like(self, before: Self) -> bool:
        """Whether nothing has happened to the thread, but for an interrupt of its CPU.

        The event that an interrupt has put off is no event of the run.
        """
        if self[:6] != before[:6]:
            return False
        return self.due == before.due or self.events == before.events or not self._is_on_cpu()

    def comes_from_a_step(self, before: Self, now_ns: int) -> bool:
        """Whether the thread has done the step that it was about to do."""
        if not before._is_on_cpu() or self.due == before.due or before.until_ns != now_ns:
            return False
        is_preempted = self.state == ThreadState.RUNNABLE and self.step == before.step
        return not is_preempted

    def sleeps_before(self, step: Step) -> bool:
        return self.state == ThreadState.BLOCKED and self.step == step

    def _is_on_cpu(self) -> bool:
        return self.state in (ThreadState.RUNNING, ThreadState.SPINNING)


def look(world: np.record, row: np.record) -> Look:
    """Look at a thread."""
    cpu = world.cpus[int(row["cpu"])]
    state = int(row["state"])
    is_running = state == ThreadState.RUNNING
    return Look(
        step=Step(int(row["step"])),
        state=state,
        is_switched_to=is_running and int(row["pending_cause"]) == Cause.RUN_QUEUE,
        since_ns=0 if is_running else int(row["since_ns"]),
        cause=0 if is_running else int(row["cause"]),
        held=int(row["held"]),
        due=int(cpu["due"]),
        until_ns=int(cpu["until_ns"]),
        events=int(world["events"]),
    )


def is_over(fault: np.record) -> bool:
    """Whether no attempt of a fault is under way."""
    if fault.attempts == 0 or fault.step == Step.FAULT_END:
        return True
    return bool(fault.result & VmFault.RETRY)


class Blockings:
    """What is in the way of a thread, while it waits."""

    def __init__(self, chains: Chains, thread: int) -> None:
        self._chains = chains
        self._thread = thread
        self._found: list[Blocking] = []
        self._records: list[np.ndarray] = []

    def begin(self, now_ns: int, waits: bool) -> None:
        """Begin with a wait, or with something else, in whose way nobody is."""
        self._found, self._records = [], []
        if waits:
            self._look_at(now_ns)

    def see(self, now_ns: int) -> None:
        """Look again, if any record has changed of which the chain was made."""
        if self._records and self._content() != self._seen:
            self._look_at(now_ns)

    def end(self, now_ns: int) -> tuple[Blocking, ...]:
        """Return the chains of the wait that ends now."""
        ends = [each.start_ns for each in self._found[1:]] + [now_ns]
        told = [
            Blocking(each.start_ns, end_ns - each.start_ns, each.chain)
            for each, end_ns in zip(self._found, ends, strict=False)
        ]
        return bounded(each for each in told if each.duration_ns and each.chain)

    def _look_at(self, now_ns: int) -> None:
        chain: tuple[Link, ...] = self._chains.chain(self._thread)
        self._records = self._chains.records(self._thread)
        self._seen = self._content()
        if not self._found or chain != self._found[-1].chain:
            self._found.append(Blocking(now_ns, 0, chain))

    def _content(self) -> tuple[bytes, ...]:
        return tuple(record.tobytes() for record in self._records)
