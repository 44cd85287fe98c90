"""One run of a scenario, from Python: slices of events, rows, and a summary."""

import time
from collections.abc import Iterable

import numpy as np

from faultlane_server.codes import StopReason
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.engine import run
from faultlane_server.engine.compile import compile_scenario
from faultlane_server.engine.conservation import assert_conserved
from faultlane_server.engine.jit import straight
from faultlane_server.engine.names import names_in
from faultlane_server.engine.report import summarise
from faultlane_server.engine.run import Stop
from faultlane_server.scenario import (
    Compute,
    Fixed,
    Kernel,
    Machine,
    Process,
    Scenario,
    ThreadGroup,
    Workload,
)
from faultlane_server.summary import Summary

MODEL_VERSION = 11  # raised whenever the fingerprint of a scenario moves

SLICE_NS = 5_000_000  # what a slice should take: taking its rows takes a third of a millisecond
SLICE_EVENTS_FIRST = 4096
SLICE_EVENTS_MAX = 1 << 20

END_OF = {
    Stop.HORIZON: StopReason.HORIZON,
    Stop.FINISHED: StopReason.FINISHED,
    Stop.DEADLOCK: StopReason.DEADLOCK,
    Stop.NO_PROGRESS: StopReason.NO_PROGRESS,
}

Columns = dict[str, np.ndarray]

_run_step = straight(run.step)


class BrokenInvariant(Exception):
    """What cannot be was so: a bug of the simulator. The message has what it takes to see it."""


class _Log:
    """The rows of one log in the record: looking a column up takes longer than copying it."""

    def __init__(self, rows: np.ndarray, columns: Iterable[str]) -> None:
        self._count = np.asarray(rows["rows"])
        self._columns = {name: np.asarray(rows[name])[0] for name in columns}

    def take(self) -> Columns:
        """Return the rows, and forget them."""
        count = int(self._count[0])
        self._count[0] = 0
        return {name: column[:count].copy() for name, column in self._columns.items()}


class Simulator:
    """One run of a checked scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._worlds, sections = compile_scenario(scenario)
        self._names = names_in(scenario, sections)
        self.world = self._worlds[0]
        self._faults = _Log(self._worlds["fault_rows"], FAULT_COLUMNS)
        self._operations = _Log(self._worlds["operation_rows"], OPERATION_COLUMNS)
        self._slice_events = SLICE_EVENTS_FIRST
        self._stop: Stop | None = None
        self._closed = False
        with np.errstate(over="ignore"):
            run.start(self._worlds)

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return int(self.world.now_ns)

    @property
    def faults(self) -> int:
        """Faults that have ended, warm-up included."""
        return int(self.world.faults_ended)

    @property
    def events(self) -> int:
        """Everything that has happened, warm-up included."""
        return int(self.world.events)

    def advance(self, events: int | None = None) -> bool:
        """Go on for a slice; True when the run has ended and everything is written down.

        Parameters
        ----------
        events
            How many events may happen. By default as many as take some milliseconds.

        Raises
        ------
        BrokenInvariant
            If what cannot be was so.
        """
        began_ns = time.perf_counter_ns()
        budget = self._slice_events if events is None else events
        try:
            with np.errstate(over="ignore"):
                self._step(budget)
        except AssertionError as broken:
            raise BrokenInvariant(self._where(broken)) from broken
        if events is None and self._stop is None:
            self._adapt(time.perf_counter_ns() - began_ns)
        return self._closed

    def _step(self, events: int) -> None:
        if self._stop is None:
            stop = Stop(_run_step(self._worlds, events))
            if stop in END_OF:
                self._stop = stop
        if self._stop is not None:
            self._closed = bool(run.close(self._worlds))
        if self._closed:
            assert_conserved(self._worlds)

    def _adapt(self, took_ns: int) -> None:
        """Let the next slice take about as long as it should."""
        wanted = self._slice_events * SLICE_NS // max(took_ns, 1)
        bound = min(max(wanted, self._slice_events // 2), 2 * self._slice_events)
        self._slice_events = min(max(bound, 64), SLICE_EVENTS_MAX)

    def _where(self, broken: AssertionError) -> str:
        config = self.world.config
        return (
            f"{broken} (seed {int(config.seed)}, event {int(self.world.events)},"
            f" {self.now_ns} ns, model {MODEL_VERSION})"
        )

    def take_rows(self) -> tuple[Columns, Columns]:
        """Return the rows since the last call, as columns of faults and of operations."""
        return self._faults.take(), self._operations.take()

    def summary(self) -> Summary:
        """Return what the run found out, once it has ended."""
        assert self._stop is not None, "a run is summarised when it has ended"
        return summarise(self.world, self._names, END_OF[self._stop], MODEL_VERSION)


def warm_up() -> None:
    """Load the compiled code, or compile it: a run without faults needs all of it."""
    idle = ThreadGroup("idle", 1, (Compute(Fixed(1)),))
    scenario = Scenario(
        workload=Workload(processes=(Process("process", (), (idle,)),)),
        machine=Machine(arch="x86", cpus=1),
        kernel=Kernel(),
        horizon_ns=1,
    )
    simulator = Simulator(scenario)
    while not simulator.advance():
        pass
