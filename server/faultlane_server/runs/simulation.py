"""What is known of a simulation at a moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from faultlane_server.codes import SimulationState
from faultlane_server.summary import Summary

ENDED = frozenset({SimulationState.SUCCEEDED, SimulationState.FAILED, SimulationState.CANCELLED})


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a scenario is run; nothing of it changes what the run finds out. Fields as in the proto.

    What is to be done if the caller goes away is the caller's service to know.
    """

    run_timeout_ms: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    skip_cache: bool = False


NO_OPTIONS = RunOptions()


@dataclass(frozen=True, slots=True)
class Progress:
    """How much has been done. Fields as in the proto."""

    now_ns: int = 0
    faults: int = 0
    fault_rows: int = 0
    operation_rows: int = 0


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed: a word for programs, a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """One run of a scenario, as it is at a moment. Fields as in the proto."""

    name: str  # empty: it was only looked at
    owner: str
    scenario_as_asked: bytes  # in the caller's words; only the service can read them
    digest: str
    model_version: int
    horizon_ns: int
    options: RunOptions = NO_OPTIONS
    state: SimulationState | None = None  # None: it was only looked at
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: Progress = Progress()
    summary: Summary | None = None
    error: RunError | None = None
    log: int | None = None  # the id of its log; None: it has none yet, or none any more

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def ended_as(self, twin: "Simulation", now: datetime) -> "Simulation":
        """Return it as an equal run has ended, with the log of that one."""
        return replace(
            self,
            state=twin.state,
            start_time=now,
            end_time=now,
            progress=twin.progress,
            summary=twin.summary,
            log=twin.log,
        )

    @property
    def log_expired(self) -> bool:
        """Whether its rows are gone."""
        progress = self.progress
        return (
            self.ended and self.log is None and bool(progress.fault_rows + progress.operation_rows)
        )
