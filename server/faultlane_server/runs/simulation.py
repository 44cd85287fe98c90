"""What is known of a simulation at a moment."""

from dataclasses import dataclass
from datetime import datetime

from faultlane_server.codes import SimulationState
from faultlane_server.summary import Summary

ENDED = frozenset({SimulationState.SUCCEEDED, SimulationState.FAILED, SimulationState.CANCELLED})


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
    horizon_ns: int
    state: SimulationState | None = None  # None: it was only looked at
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: Progress = Progress()
    summary: Summary | None = None
    error: RunError | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED
