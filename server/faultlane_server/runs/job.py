"""A simulation on its way: what is known of it, and who is told when that changes."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faultlane_server.codes import SimulationState
from faultlane_server.runs.bell import Bell
from faultlane_server.runs.recorder import LogKind
from faultlane_server.runs.simulation import RunError, Simulation
from faultlane_server.scenario import Scenario
from faultlane_server.store import LogReader
from faultlane_server.summary import Summary


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for: a checked scenario, and how it was put."""

    scenario: Scenario
    as_asked: bytes
    owner: str = ""
    request_id: str = ""
    validate_only: bool = False


class Job:
    """One simulation. `simulation` is replaced, never changed: whoever reads it sees one moment."""

    def __init__(self, scenario: Scenario, simulation: Simulation) -> None:
        self.scenario = scenario
        self.simulation = simulation
        self.bell = Bell()  # rings when `simulation` is replaced
        self.is_cancelled = threading.Event()
        self._log_paths: Mapping[LogKind, Path] = {}
        self._has_begun = False
        self._lock = threading.RLock()  # so that nothing changes after the end

    def open_log(self, kind: LogKind) -> LogReader | None:
        """Return a reader of a log, or None while there is none."""
        path = self._log_paths.get(kind)
        return LogReader(path) if path else None

    def start(self) -> None:
        self._replace(state=SimulationState.RUNNING, start_time=datetime.now(UTC))

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
        self._log_paths = paths

    def progress(self, **changes: int) -> None:
        self._replace(progress=replace(self.simulation.progress, **changes))

    def succeed(self, summary: Summary) -> None:
        self._end(SimulationState.SUCCEEDED, summary=summary)

    def fail(self, reason: str, message: str) -> None:
        self._end(SimulationState.FAILED, error=RunError(reason, message))

    def end_cancelled(self) -> None:
        self._end(SimulationState.CANCELLED)

    async def ended(self) -> Simulation:
        """Wait until the simulation has ended."""
        with self.bell.listen() as ear:
            while not self.simulation.ended:
                ear.forget()
                if not self.simulation.ended:
                    await ear.rang_within(None)
        return self.simulation

    def _end(self, state: SimulationState, **changes: Any) -> None:
        self._replace(state=state, end_time=datetime.now(UTC), **changes)

    def _replace(self, **changes: Any) -> None:
        with self._lock:
            if not self.simulation.ended:
                self.simulation = replace(self.simulation, **changes)
        self.bell.ring()
