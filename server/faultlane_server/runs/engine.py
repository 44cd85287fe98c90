"""What the runs need of an engine, and the one that we have."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from faultlane_server.explanation import Explanation
from faultlane_server.runs.memory import resident_bytes
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


class Explain(Protocol):
    """Simulates a run again, up to the end of one fault of it."""

    def __call__(
        self, scenario: Scenario, fault: Mapping[str, int], is_cancelled: Callable[[], bool]
    ) -> Explanation:
        """Explain the fault that has this row in the log."""


class Engine(NamedTuple):
    """How to get ready, how to begin a run and look at it, and how to explain a fault of one."""

    model_version: int
    warm_up: Callable[[], None]
    simulator: Callable[[Scenario], Simulator]
    explain: Explain
    memory_of: Callable[[Simulator], int]  # bytes that a run takes now


def compiled_engine() -> Engine:
    """Return our engine.

    It is imported here because numba takes a second, which nobody pays who brings his own.
    """
    from faultlane_server.engine import MODEL_VERSION, Simulator, warm_up
    from faultlane_server.explain import explain

    def memory_of(simulator: Any) -> int:
        return resident_bytes(simulator.world.base)

    return Engine(MODEL_VERSION, warm_up, Simulator, explain, memory_of)
