"""A simulation on its way: what is known of it, and who is told when that changes."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from faultlane_server.codes import SimulationState
from faultlane_server.runs.bell import Bell
from faultlane_server.runs.clock import Clock
from faultlane_server.runs.recorder import LOG_COLUMNS, LogKind
from faultlane_server.runs.simulation import NO_OPTIONS, Progress, RunError, RunOptions, Simulation
from faultlane_server.scenario import Scenario
from faultlane_server.store import LogReader, WrongLogFormat
from faultlane_server.summary import Summary

ScenarioReader = Callable[[bytes], Scenario]  # of what a caller asked for in its own words


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for: a checked scenario, and how it was put."""

    scenario: Scenario
    as_asked: bytes
    owner: str = ""
    request_id: str = ""
    validate_only: bool = False
    options: RunOptions = NO_OPTIONS


class _Rows(NamedTuple):
    """How far readers were let into a log."""

    paths: Mapping[LogKind, Path]
    log: int | None
    progress: Progress


class Job:
    """One simulation. `simulation` is replaced, never changed: whoever reads it sees one moment.

    `keep` is told of its end before anybody else is.
    """

    def __init__(
        self,
        simulation: Simulation,
        read_scenario: ScenarioReader,
        clock: Clock,
        keep: Callable[[Simulation], None] = lambda _: None,
        scenario: Scenario | None = None,
    ) -> None:
        self.simulation = simulation
        self._scenario = scenario  # None: it is read when it is asked for
        self.bell = Bell()  # rings when `simulation` is replaced
        self.is_cancelled = threading.Event()
        self._read_scenario = read_scenario
        self._clock = clock
        self._keep = keep
        self.log_paths: Mapping[LogKind, Path] = {}  # where its rows are, once there are any
        self._along: tuple[Job, ...] = ()  # equal ones that wait, and read its rows meanwhile
        self._shown: _Rows | None = None  # of another one, whose rows it has had
        self._has_begun = False
        self._lock = threading.RLock()  # so that nothing changes after the end

    @property
    def faults_simulated(self) -> int:
        """How many faults were simulated for it: none if it ended as an equal one had."""
        return self.simulation.progress.faults if self._has_begun else 0

    @property
    def has_begun(self) -> bool:
        """Whether slices of it were simulated."""
        return self._has_begun

    def scenario(self) -> Scenario:
        """Return what is to be simulated; it may have to be read out of the caller's words."""
        return self._scenario or self._read_scenario(self.simulation.scenario_as_asked)

    def open_log(self, kind: LogKind) -> LogReader | None:
        """Return a reader of a log, or None while there is none."""
        path = self.log_paths.get(kind)
        if path is None:
            return None
        reader = LogReader(path)
        if reader.header.columns != LOG_COLUMNS[kind]:
            reader.close()
            raise WrongLogFormat("the log was written by another version of the server")
        return reader

    def start(self, begin_log: Callable[[Simulation], int]) -> int:
        """Say that a worker has begun with it; `begin_log` keeps that, and gives it a log."""
        started = replace(
            self.simulation, state=SimulationState.RUNNING, start_time=self._clock.now()
        )
        log = begin_log(started)
        self._replace(state=started.state, start_time=started.start_time, log=log)
        return log

    def begin(self) -> bool:
        """Say that slices come; False if the simulation was cancelled before the first."""
        with self._lock:
            self._has_begun = not self.simulation.ended
            return self._has_begun

    def cancel(self) -> None:
        """End at the next slice; at once if there was none, however long it takes to begin."""
        with self._lock:
            self.is_cancelled.set()
            if not self._has_begun:
                self.end_cancelled()

    def publish_logs(self, paths: Mapping[LogKind, Path]) -> None:
        """Let readers open the logs."""
        self.log_paths = paths
        self._tell_along()

    def progress(self, **changes: int) -> None:
        self._replace(progress=replace(self.simulation.progress, **changes))
        self._tell_along()

    def take_along(self, other: "Job") -> None:
        """Let an equal one that waits have the rows of this one, which runs."""
        with self._lock:
            self._along = (*self._along, other)
        other._read_along(self)

    def let_go(self) -> None:
        """Have those that were taken along wait as if this one had never been."""
        with self._lock:
            along, self._along = self._along, ()
        for other in along:
            other._read_nothing()

    @property
    def along(self) -> "tuple[Job, ...]":
        """Return the equal ones that were taken along."""
        return self._along

    def succeed(self, summary: Summary) -> None:
        self._end(SimulationState.SUCCEEDED, summary=summary)

    def succeed_as(self, twin: Simulation) -> None:
        """End as an equal run has ended, with its log."""
        with self._lock:
            self._become(self.simulation.ended_as(twin, self._clock.now()))

    def fail(self, reason: str, message: str) -> None:
        self._end(SimulationState.FAILED, error=RunError(reason, message))

    def end_cancelled(self) -> None:
        self._end(SimulationState.CANCELLED)

    async def ended(self, require_open: Callable[[], None]) -> Simulation:
        """Wait until the simulation has ended; `require_open` ends the wait by raising."""
        with self.bell.listen() as ear:
            while not self.simulation.ended:
                ear.forget()
                require_open()
                if not self.simulation.ended:
                    await ear.rang_within(None)
        return self.simulation

    def _tell_along(self) -> None:
        for other in self._along:
            other._read_along(self)

    def _read_along(self, leader: "Job") -> None:
        """Have the log of another one; if this one is cancelled, its rows end there."""
        with self._lock:
            now = leader.simulation  # looked at here: else an earlier look could come last
            if not self.simulation.ended:
                self.log_paths = leader.log_paths
                self.simulation = replace(self.simulation, progress=now.progress, log=now.log)
        self.bell.ring()

    def _read_nothing(self) -> None:
        """Wait to run; the rows that were shown are made again, or else are all that there is."""
        with self._lock:
            if not self.simulation.ended:
                now = _Rows(self.log_paths, self.simulation.log, self.simulation.progress)
                if self._shown is None or self._shown.progress.faults < now.progress.faults:
                    self._shown = now
                self.log_paths = {}
                self.simulation = replace(self.simulation, progress=Progress(), log=None)
        self.bell.ring()

    def _end(self, state: SimulationState, **changes: Any) -> None:
        with self._lock:
            ended = replace(self.simulation, state=state, end_time=self._clock.now(), **changes)
            shown = self._shown
            if shown and shown.progress.faults > ended.progress.faults and not ended.summary:
                self.log_paths = shown.paths
                ended = replace(ended, log=shown.log, progress=shown.progress)
            self._become(ended)

    def _become(self, changed: Simulation) -> None:
        """Have it kept first: what somebody was told is true after a crash too."""
        if not self.simulation.ended:
            self._keep(changed)
            self.simulation = changed
        self.bell.ring()

    def _replace(self, **changes: Any) -> None:
        with self._lock:
            if not self.simulation.ended:
                self.simulation = replace(self.simulation, **changes)
        self.bell.ring()
