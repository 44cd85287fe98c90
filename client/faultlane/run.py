"""A run: a simulation on the server, and what is still to be read of its logs."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from faultlane import v1 as pb
from faultlane.errors import FaultlaneError, RunCancelled, RunFailed, TimedOut
from faultlane.events import FaultEvents, OperationEvents

if TYPE_CHECKING:
    from faultlane.client import Client

ENDED = (
    pb.SimulationState.SIMULATION_STATE_SUCCEEDED,
    pb.SimulationState.SIMULATION_STATE_FAILED,
    pb.SimulationState.SIMULATION_STATE_CANCELLED,
)

POLL_FIRST_S = 0.01
POLL_MAX_S = 0.5

Events = TypeVar("Events", FaultEvents, OperationEvents)
RunMessages = Generator[pb.RunSimulationResponse, None, None]


@dataclass
class _Log(Generic[Events]):
    """How far one log has been read."""

    next_offset: int = 0
    over: bool = False  # whether `next_offset` is the end of the log
    waiting: deque[Events] = field(default_factory=deque)  # read, but not handed out yet

    def take(self, batch: Events, next_offset: int) -> None:
        self.next_offset = next_offset
        if len(batch):
            self.waiting.append(batch)


class Run:
    """One run of a scenario, as `Client.submit` and `Client.run` return it.

    `events` and `operations` hand out each batch once: a second loop goes on where the first one
    stopped, also after a stream was cut. As a context manager, a run that is left by an exception
    is cancelled; any other run goes on by itself.

    Attributes
    ----------
    simulation
        The simulation as it was last heard of.
    """

    def __init__(
        self, client: "Client", simulation: pb.Simulation, messages: RunMessages | None = None
    ) -> None:
        self.simulation = simulation
        self._client = client
        self._messages = messages  # of both logs, if one stream carries both
        self._faults = _Log[FaultEvents]()
        self._operations = _Log[OperationEvents]()

    @classmethod
    def begun_by(cls, client: "Client", messages: RunMessages) -> Self:
        """Return the run that the first of `messages` tells of."""
        first = next(messages)
        run = cls(client, first.simulation, messages)
        run._take(first)
        return run

    @property
    def name(self) -> str:
        """`simulations/{id}`."""
        return self.simulation.name

    @property
    def ended(self) -> bool:
        """Whether the run had ended when it was last heard of."""
        return self.simulation.state in ENDED

    @property
    def summary(self) -> pb.Summary:
        """What the run found out: the summary of `result`."""
        return self.result().summary

    def result(self) -> pb.Simulation:
        """Wait for the end of the run and return the simulation, if it has succeeded.

        Raises
        ------
        RunFailed
            If the run could not be brought to an end.
        RunCancelled
            If it was cancelled.
        """
        simulation = self.wait()
        if simulation.state == pb.SimulationState.SIMULATION_STATE_FAILED:
            raise RunFailed(simulation.error.reason, simulation.error.message)
        if simulation.state == pb.SimulationState.SIMULATION_STATE_CANCELLED:
            raise RunCancelled(f"{self.name} was cancelled")
        return simulation

    def events(self) -> Iterator[FaultEvents]:
        """Hand out the faults batch by batch, as the run makes them, until it has ended."""
        yield from self._read_both(self._faults)
        if self._faults.over:
            return
        for message in self._client.stream_events(self.name, offset=self._faults.next_offset):
            self._faults.take(FaultEvents.from_message(message.faults), message.next_offset)
            self._hear(message, self._faults)
            yield from _drained(self._faults)

    def operations(self) -> Iterator[OperationEvents]:
        """Hand out the operations batch by batch, as the run makes them, until it has ended."""
        log = self._operations
        yield from self._read_both(log)
        if log.over:
            return
        for message in self._client.stream_operations(self.name, offset=log.next_offset):
            log.take(OperationEvents.from_message(message.operations), message.next_offset)
            self._hear(message, log)
            yield from _drained(log)

    def wait(self, timeout_s: float | None = None) -> pb.Simulation:
        """Wait until the run has ended, whether its events are read or not.

        Raises
        ------
        TimedOut
            If it has not ended after `timeout_s` seconds; it goes on.
        """
        give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = POLL_FIRST_S
        while not self.ended:
            self.simulation = self._client.get_simulation(self.name)
            if self.ended:
                break
            if give_up_s is not None and time.monotonic() + pause_s > give_up_s:
                raise TimedOut(f"{self.name} has not ended within {timeout_s} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MAX_S)
        return self.simulation

    def cancel(self) -> pb.Simulation:
        """End the run. What had ended before is left as it is."""
        self.simulation = self._client.cancel_simulation(self.name)
        return self.simulation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not self.ended:
            with suppress(FaultlaneError):  # the error on its way says more
                self.cancel()
        if self._messages is not None:
            self._messages.close()

    def _read_both(self, log: _Log[Events]) -> Iterator[Events]:
        """Read the stream of both logs; what belongs to the other one waits for its reader."""
        yield from _drained(log)
        while self._messages is not None:
            message = next(self._messages, None)
            if message is None:
                return
            self._take(message)
            yield from _drained(log)

    def _take(self, message: pb.RunSimulationResponse) -> None:
        self._faults.take(FaultEvents.from_message(message.faults), message.next_fault_offset)
        self._operations.take(
            OperationEvents.from_message(message.operations), message.next_operation_offset
        )
        if message.HasField("simulation"):
            self.simulation = message.simulation
            self._faults.over = self._operations.over = self.ended

    def _hear(
        self,
        message: pb.StreamEventsResponse | pb.StreamOperationsResponse,
        log: _Log[FaultEvents] | _Log[OperationEvents],
    ) -> None:
        if message.HasField("simulation"):
            self.simulation = message.simulation
            log.over = True


def _drained(log: _Log[Events]) -> Iterator[Events]:
    while log.waiting:
        yield log.waiting.popleft()
