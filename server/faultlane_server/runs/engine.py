"""What the runs need of an engine, and the one that we have."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from faultlane_server.scenario import Scenario
from faultlane_server.store import Columns
from faultlane_server.summary import Summary


class Simulator(Protocol):
    """One run of a scenario, a few milliseconds at a time."""

    @property
    def now_ns(self) -> int:
        """Simulated time."""

    @property
    def faults(self) -> int:
        """Faults that have ended."""

    @property
    def events(self) -> int:
        """Everything that has happened."""

    def advance(self) -> bool:
        """Go on for some milliseconds; True when the run has ended."""

    def take_rows(self) -> tuple[Columns, Columns]:
        """Return the faults and the operations since the last call."""

    def summary(self) -> Summary:
        """Return what the run found out, after its end."""


class Engine(NamedTuple):
    """How to get ready, and how to begin a run."""

    model_version: int
    warm_up: Callable[[], None]
    simulator: Callable[[Scenario], Simulator]


def compiled_engine() -> Engine:
    """Return our engine.

    It is imported here because numba takes a second, which nobody pays who brings his own.
    """
    from faultlane_server.engine import MODEL_VERSION, Simulator, warm_up

    return Engine(MODEL_VERSION, warm_up, Simulator)
