"""A run that nobody records, to be looked at between two events: the same run, event for event."""

import numpy as np

from faultlane_server.codes import RecordingKind
from faultlane_server.engine import run
from faultlane_server.engine.compile import compile_scenario
from faultlane_server.engine.run import Stop
from faultlane_server.engine.simulator import BrokenInvariant
from faultlane_server.engine.world import Cause, ThreadState
from faultlane_server.scenario import Scenario

SLICE_EVENTS = 16384  # some milliseconds


class Stepper:
    """A run of a checked scenario that stops wherever it is told to.

    Attributes
    ----------
    world
        The record. Whoever looks at it must not change it.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._worlds, _ = compile_scenario(scenario)
        self.world = self._worlds[0]
        self.world.config.record_kind = RecordingKind.SUMMARY_ONLY
        self._horizon_ns = int(self.world.config.horizon_ns)
        with np.errstate(over="ignore"):
            run.start(self._worlds)

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return int(self.world.now_ns)

    def advance_to(self, time_ns: int) -> bool:
        """Let some events happen, none later than a time; False if there are no more of them."""
        self.world.config.horizon_ns = time_ns
        try:
            return self._step(SLICE_EVENTS) is Stop.EVENTS
        finally:
            self.world.config.horizon_ns = self._horizon_ns

    def step(self) -> bool:
        """Let one event happen; False if the run has ended instead."""
        return self._step(1) is Stop.EVENTS

    def thread(self, number: int) -> np.record:
        """Return the record of a thread, as it is whenever it is looked at."""
        return self.world.threads[number]

    def _step(self, events: int) -> Stop:
        try:
            with np.errstate(over="ignore"):
                return Stop(run.step(self._worlds, events))
        except AssertionError as broken:
            raise BrokenInvariant(f"{broken} (at {self.now_ns} ns)") from broken


def settled_ns(world: np.record, row: np.record, now_ns: int) -> dict[Cause, int]:
    """Return what a thread's fault has spent its time on by now.

    A burst is charged when it begins, and a wait when it ends: so the rest of a burst does not
    count yet, and a wait counts up to now. The rest is taken as `run.close` takes it.
    """
    spent_ns = {cause: int(row.wait_ns[cause]) for cause in Cause}
    if row.state != ThreadState.RUNNING:
        spent_ns[Cause(int(row.cause))] += now_ns - int(row.since_ns)
        return spent_ns
    left_ns = int(world.cpus[int(row.cpu)].until_ns) - now_ns
    stall_ns = min(left_ns, int(row.pending_stall_ns))
    reclaim_ns = min(left_ns - stall_ns, int(row.pending_reclaim_ns))
    spent_ns[Cause.LOCK_WORD] -= stall_ns
    spent_ns[Cause.RECLAIM] -= reclaim_ns
    spent_ns[Cause(int(row.pending_cause))] -= left_ns - stall_ns - reclaim_ns
    return spent_ns
