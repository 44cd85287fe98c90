"""By what a change of a thread is seen, and a change of what is in its way."""

from typing import NamedTuple, Self

import numpy as np

from faultlane_server.codes import VmFault
from faultlane_server.engine.waiting import step_of
from faultlane_server.engine.world import Cause, Step, ThreadState
from faultlane_server.explain.chain import Chains
from faultlane_server.explain.timeline import bounded
from faultlane_server.explanation import Blocking, Link

FOUND_MAX = 256  # chains of one wait that are remembered


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
    is_cut_off: bool  # the step comes at the end of a burst that was cut off, and goes on first

    def is_like(self, before: Self, now_ns: int) -> bool:
        """Whether the thread goes on as before: an interrupt, or a tick, is none of its steps."""
        return self[:6] == before[:6] and not self.comes_from_a_step(before, now_ns)

    def comes_from_a_step(self, before: Self, now_ns: int) -> bool:
        """Whether the thread has done the step that it was about to do.

        That is when the event of its CPU was due; one that an interrupt has put off is no event
        of the run.
        """
        if not before._is_on_cpu() or before.until_ns != now_ns:
            return False
        if self.due == before.due or self.events == before.events:
            return False
        is_preempted = self.state == ThreadState.RUNNABLE and self.step == before.step
        return not is_preempted and not before.is_cut_off

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
        step=step_of(row),
        state=state,
        is_switched_to=is_running and int(row["pending_cause"]) == Cause.RUN_QUEUE,
        since_ns=0 if is_running else int(row["since_ns"]),
        cause=0 if is_running else int(row["cause"]),
        held=int(row["held"]),
        due=int(cpu["due"]),
        until_ns=int(cpu["until_ns"]),
        events=int(world["events"]),
        is_cut_off=int(row["step"]) == Step.RESUME,
    )


def is_over(fault: np.record) -> bool:
    """Whether no attempt of a fault is under way."""
    return fault.attempts == 0 or step_of(fault) == Step.FAULT_END or ended_in_retry(fault)


def ended_in_retry(fault: np.record) -> bool:
    """Whether the latest attempt of a fault has ended in a retry."""
    return bool(fault.result & VmFault.RETRY)


def leaves_attempt(before: np.record, after: np.record) -> bool:
    """Whether an attempt has ended between two moments of a fault."""
    if after.attempts == 0 or not is_over(after):
        return False
    return bool(after.attempts > before.attempts) or not is_over(before)


class Blockings:
    """What is in the way of a thread, while it waits."""

    def __init__(self, chains: Chains, thread: int) -> None:
        self._chains = chains
        self._thread = thread
        self._found: list[Blocking] = []
        self._records: list[np.ndarray] = []
        self._chain: tuple[Link, ...] = ()
        self._since_ns = 0

    def begin(self, now_ns: int, waits: bool) -> None:
        """Begin with a wait, or with something else, in whose way nobody is."""
        self._found, self._records = [], []
        self._chain, self._since_ns = (), now_ns
        if waits:
            self._look_at()

    def see(self, now_ns: int) -> None:
        """Look again, if any record has changed of which the chain was made."""
        if self._records and self._content() != self._seen:
            before = self._chain
            self._look_at()
            if self._chain != before:
                self._take_down(before, now_ns)

    def end(self, now_ns: int, is_cut: bool) -> tuple[Blocking, ...]:
        """Return the chains of the wait that ends now, with the last one if a wait is cut."""
        self._take_down(self._chain, now_ns, is_cut)
        return tuple(bounded(self._found))

    def _take_down(self, chain: tuple[Link, ...], now_ns: int, is_cut: bool = False) -> None:
        if chain and (now_ns > self._since_ns or is_cut):
            self._found.append(Blocking(self._since_ns, now_ns - self._since_ns, chain))
        if len(self._found) > FOUND_MAX:
            self._found = bounded(self._found, FOUND_MAX // 2)
        self._since_ns = now_ns

    def _look_at(self) -> None:
        self._chain = self._chains.chain(self._thread)
        self._records = self._chains.records(self._thread)
        self._seen = self._content()

    def _content(self) -> tuple[bytes, ...]:
        return tuple(record.tobytes() for record in self._records)
