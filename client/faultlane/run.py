"""A run: a simulation on the server, and what is still to be read of its logs."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from faultlane import v1 as pb
from faultlane.backoff import CUT, PATIENCE_S, Backoff
from faultlane.calls import ENDED
from faultlane.errors import FaultlaneError, RunCancelled, RunFailed, TimedOut
from faultlane.events import FaultEvents, OperationEvents

if TYPE_CHECKING:
    from faultlane.client import Client

Events = TypeVar("Events", FaultEvents, OperationEvents)
RunMessages = Generator[pb.RunSimulationResponse, None, None]
OnProgress = Callable[[pb.Simulation], None]


@dataclass
class Log(Generic[Events]):
    """How far one log has been read."""

    kind: type[Events]
    next_offset: int = 0
    over: bool = False  # whether `next_offset` is the end of the log
    waiting: deque[Events] = field(default_factory=deque)  # read, but not handed out yet

    def take(self, batch: Any, next_offset: int) -> None:
        """Take what a message brought."""
        self.next_offset = next_offset
        events = self.kind.from_message(batch)
        if len(events):
            self.waiting.append(events)

    def drained(self) -> Iterator[Events]:
        while self.waiting:
            yield self.waiting.popleft()


class RunState:
    """What is known of a run, however it is read.

    Attributes
    ----------
    simulation
        The simulation as it was last heard of.
    patience_s
        How long a server may be away, in seconds, before reading or waiting ends in an error.
    """

    def __init__(self, simulation: pb.Simulation) -> None:
        self.simulation = simulation
        self.patience_s = PATIENCE_S
        self._faults = Log(FaultEvents)
        self._operations = Log(OperationEvents)

    @property
    def name(self) -> str:
        """`simulations/{id}`."""
        return self.simulation.name

    @property
    def ended(self) -> bool:
        """Whether the run had ended when it was last heard of."""
        return self.simulation.state in ENDED

    def _require_success(self) -> pb.Simulation:
        simulation = self.simulation
        if simulation.state == pb.SimulationState.SIMULATION_STATE_FAILED:
            raise RunFailed(simulation.error.reason, simulation.error.message)
        if simulation.state == pb.SimulationState.SIMULATION_STATE_CANCELLED:
            raise RunCancelled(f"{self.name} was cancelled")
        return simulation

    def _too_late(self, timeout_s: float | None) -> TimedOut:
        return TimedOut(f"{self.name} has not ended within {timeout_s} s")

    def _take_first(self, message: pb.RunSimulationResponse) -> None:
        """Take the message that tells of the run, which may be one that has ended before."""
        self._faults.take(message.faults, message.next_fault_offset)
        self._operations.take(message.operations, message.next_operation_offset)

    def _take(self, message: pb.RunSimulationResponse) -> None:
        """Take a message with rows of both logs."""
        self._take_first(message)
        if message.HasField("simulation"):
            self.simulation = message.simulation
            self._faults.over = self._operations.over = True

    def _take_faults(self, message: pb.StreamEventsResponse) -> None:
        self._faults.take(message.faults, message.next_offset)
        if message.HasField("simulation"):
            self.simulation = message.simulation
            self._faults.over = True

    def _take_operations(self, message: pb.StreamOperationsResponse) -> None:
        self._operations.take(message.operations, message.next_offset)
        if message.HasField("simulation"):
            self.simulation = message.simulation
            self._operations.over = True

    def _hear(self, message: pb.WatchSimulationResponse, on_progress: OnProgress | None) -> None:
        """Take news, which come without the scenario."""
        scenario = self.simulation.scenario
        self.simulation = message.simulation
        self.simulation.scenario.CopyFrom(scenario)
        if on_progress:
            on_progress(self.simulation)


class Run(RunState):
    """One run of a scenario, as `Client.submit` and `Client.run` return it.

    `events` and `operations` hand out each batch once: a second loop goes on where the first one
    stopped. After a cut they read on from the row where they were, as long as the server is not
    away for longer than `patience_s`. As a context manager, a run that is left by an exception is
    cancelled; any other run goes on by itself.

    Examples
    --------
    >>> with client.run(scenario) as run:
    ...     slow = sum(len(faults[faults.duration_ns > 10**6]) for faults in run.events())
    ...     mapped = sum(map(len, run.operations()))
    >>> run.ended and slow > 0 and mapped > 0
    True
    >>> run.summary.fingerprint == client.submit(scenario).summary.fingerprint
    True

    A run can be left alone, and another program can read it later, from any row:

    >>> name = client.submit(scenario).name
    >>> messages = client.stream_events(name, offset=1000, limit=10)
    >>> sum(len(message.faults.start_ns) for message in messages)
    10
    """

    def __init__(
        self, client: "Client", simulation: pb.Simulation, messages: RunMessages | None = None
    ) -> None:
        super().__init__(simulation)
        self._client = client
        self._messages = messages  # of both logs, if one stream carries both

    @classmethod
    def begun_by(cls, client: "Client", messages: RunMessages) -> Self:
        """Return the run that the first of `messages` tells of."""
        first = next(messages)
        run = cls(client, first.simulation, messages)
        run._take_first(first)
        return run

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
        self.wait()
        return self._require_success()

    def events(self) -> Iterator[FaultEvents]:
        """Hand out the faults batch by batch, as the run makes them, until it has ended."""
        return self._read(self._faults, self._client.stream_events, self._take_faults)

    def operations(self) -> Iterator[OperationEvents]:
        """Hand out the operations batch by batch, as the run makes them, until it has ended."""
        return self._read(self._operations, self._client.stream_operations, self._take_operations)

    def wait(
        self, timeout_s: float | None = None, *, on_progress: OnProgress | None = None
    ) -> pb.Simulation:
        """Wait until the run has ended, whether its events are read or not.

        Parameters
        ----------
        timeout_s
            After how many seconds to give up; the run goes on.
        on_progress
            Called with the simulation whenever it has changed, ten times a second at most.

        Raises
        ------
        TimedOut
            If the run has not ended after `timeout_s` seconds.
        """
        backoff = Backoff(self.patience_s)
        give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.ended:
            left_s = None if give_up_s is None else give_up_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise self._too_late(timeout_s)
            try:
                for message in self._client.watch_simulation(self.name, timeout_s=left_s):
                    backoff.succeed()
                    self._hear(message, on_progress)
            except TimedOut as error:
                raise self._too_late(timeout_s) from error
            except CUT as error:
                time.sleep(backoff.pause_after(error))
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

    def _read(
        self, log: Log[Events], stream: Callable[..., Any], take: Callable[[Any], None]
    ) -> Iterator[Events]:
        yield from self._read_both(log)
        backoff = Backoff(self.patience_s)
        while not log.over:
            try:
                for message in stream(self.name, offset=log.next_offset):
                    backoff.succeed()
                    take(message)
                    yield from log.drained()
            except CUT as error:
                time.sleep(backoff.pause_after(error))

    def _read_both(self, log: Log[Events]) -> Iterator[Events]:
        """Read the stream of both logs; what belongs to the other one waits for its reader."""
        yield from log.drained()
        while self._messages is not None:
            try:
                message = next(self._messages, None)
            except CUT:  # each log is read on by itself
                message = None
            if message is None:
                return
            self._take(message)
            yield from log.drained()
