"""The client: one method for each rpc, and `run` and `submit` on top.

Messages of `faultlane.v1` are the types; the proto is their manual. Every error is one of
`faultlane.errors`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import grpc

from faultlane import v1 as pb
from faultlane.access import Access
from faultlane.calls import (
    CHOICES,
    EXPLAIN_TIMEOUT_S,
    TIMEOUT_S,
    Choice,
    Message,
    explain_request,
    keep_memory,
    new_request_id,
    run_is_over,
    stream_is_over,
    watch_is_over,
)
from faultlane.errors import (
    CannotExplain,
    InvalidRequest,
    InvalidScenario,
    NoSuchFault,
    NoSuchPreset,
    StreamCut,
    errors_from_status,
)
from faultlane.run import Run, RunState
from faultlane.v1.catalog_service_pb2_grpc import CatalogServiceStub
from faultlane.v1.simulation_service_pb2_grpc import SimulationServiceStub


class _Stream(Protocol[Message]):
    def __iter__(self) -> Iterator[Message]: ...

    def cancel(self) -> bool: ...


class Client:
    """A connection to a server; safe to be used by many threads.

    Parameters
    ----------
    channel
        The channel to call through; `close` closes it.
    on_close
        Called after the channel was closed.

    Examples
    --------
    >>> with Client.connect(address) as client:
    ...     scenario = client.get_preset("first-look").scenario
    ...     run = client.submit(scenario, options=pb.RunOptions(labels={"for": "me"}))
    ...     simulation = run.wait()
    ...     [found] = client.list_simulations(labels={"for": "me"})
    >>> found.name == simulation.name
    True
    >>> pb.SimulationState.Name(found.state)
    'SIMULATION_STATE_SUCCEEDED'

    What a run would need, and what is wrong with it, can be asked without running it:

    >>> with Client.connect(address) as client:
    ...     print(client.estimate(scenario).threads)
    ...     scenario.machine.cpus = 9999
    ...     client.estimate(scenario)
    Traceback (most recent call last):
    faultlane.errors.InvalidScenario: machine.cpus: want 1 to 512, got 9999
    """

    def __init__(
        self, channel: grpc.Channel, *, on_close: Callable[[], None] = lambda: None
    ) -> None:
        self._channel = channel
        self._on_close = on_close
        self._simulations = SimulationServiceStub(channel)
        self._catalog = CatalogServiceStub(channel)

    @classmethod
    def connect(
        cls,
        address: str,
        access: Access | None = None,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> Self:
        """Make a client for the server at `host:port`; the first call opens the connection.

        Parameters
        ----------
        access
            A token, certificates, TLS; None takes what `Access.from_environment` finds.

        Raises
        ------
        InvalidRequest
            If what is to be shown cannot be read, or a token would be sent in plain text.
        """
        keep_memory()
        access = Access.from_environment() if access is None else access
        return cls(access.channel(address), on_close=on_close)

    def close(self) -> None:
        """Close the connection: calls under way end with an error."""
        self._channel.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # On top of the rpcs.

    def submit(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        options: pb.RunOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Run:
        """Queue a scenario and return at once.

        Raises
        ------
        InvalidScenario
            If fields of the scenario have values that make no sense; `.violations` has them all.
        QueueFull
            If the server has no room; `.retry_after_s` says when to come back.
        TooLarge
            If the scenario needs more than one run may have on the server.
        """
        simulation = self.create_simulation(
            scenario, request_id=request_id, options=options, timeout_s=timeout_s
        )
        return Run(self, simulation)

    def run(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        batch_rows: int = 0,
        options: pb.RunOptions | None = None,
    ) -> Run:
        """Queue a scenario and stream its faults and operations, all in one call.

        Errors are those of `submit`.
        """
        messages = self.run_simulation(
            scenario, request_id=request_id, batch_rows=batch_rows, options=options
        )
        return Run.begun_by(self, messages)

    def explain(
        self,
        run: RunState | str,
        fault: int | Choice = "slowest",
        *,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Tell why a fault took as long as it did: every step and wait, and who was in the way.

        `faultlane.report.explanation.explanation_report` makes text of it.

        Parameters
        ----------
        run
            The run, which must have ended, or its name.
        fault
            The row of a fault in the log, or which one is to be chosen.

        Raises
        ------
        NoSuchSimulation
            If the server does not know the run.
        NoSuchFault
            If the log has no such row.
        LogExpired
            If the server has let the rows go: run the scenario again.
        CannotExplain
            If the run has not ended, has no faults to choose from, or cannot be had again.
        """
        name = run if isinstance(run, str) else run.name
        if isinstance(fault, int):
            return self.explain_fault(name, fault=fault, timeout_s=timeout_s)
        return self.explain_fault(name, choice=CHOICES[fault], timeout_s=timeout_s)

    def estimate(self, scenario: pb.Scenario, *, timeout_s: float = TIMEOUT_S) -> pb.CostEstimate:
        """Check a scenario, and tell what a run of it will need.

        Raises
        ------
        InvalidScenario
            If fields of the scenario have values that make no sense; `.violations` has them all.
        """
        request = pb.CreateSimulationRequest(scenario=scenario, validate_only=True)
        with errors_from_status(invalid=InvalidScenario):
            return self._simulations.CreateSimulation(request, timeout=timeout_s).estimate

    # SimulationService.

    def create_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        validate_only: bool = False,
        options: pb.RunOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> pb.Simulation:
        """Queue a scenario on the server, or only check it.

        If the server is away for a moment it is asked again, with the same `request_id`: a new
        one, if none is given.

        Raises
        ------
        InvalidScenario
            If fields of the scenario have values that make no sense; `.violations` has them all.
        AlreadyExists
            If `request_id` was used before, with another request.
        QueueFull
            If the server has no room; `.retry_after_s` says when to come back.
        TooLarge
            If the scenario needs more than one run may have on the server.
        """
        request = pb.CreateSimulationRequest(
            scenario=scenario,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
            options=options,
        )
        with errors_from_status(invalid=InvalidScenario):
            return self._simulations.CreateSimulation(request, timeout=timeout_s).simulation

    def run_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        batch_rows: int = 0,
        options: pb.RunOptions | None = None,
        timeout_s: float | None = None,
    ) -> Generator[pb.RunSimulationResponse, None, None]:
        """Queue a scenario and stream its faults and operations until it has ended.

        Errors come with the first message; they are those of `create_simulation`.

        Raises
        ------
        StreamCut
            If the stream ends before the run; it can be read on with `stream_events` and
            `stream_operations`.
        """
        request = pb.RunSimulationRequest(
            scenario=scenario, request_id=request_id, batch_rows=batch_rows, options=options
        )
        call = self._simulations.RunSimulation(request, timeout=timeout_s)
        return _until(run_is_over, call, invalid=InvalidScenario)

    def get_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """Tell how far a simulation is, and what it found out.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        """
        with errors_from_status():
            request = pb.GetSimulationRequest(name=name)
            return self._simulations.GetSimulation(request, timeout=timeout_s).simulation

    def watch_simulation(
        self, name: str, *, timeout_s: float | None = None
    ) -> Generator[pb.WatchSimulationResponse, None, None]:
        """Stream a simulation as it changes, until it has ended.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        StreamCut
            If the stream ends before the simulation.
        """
        request = pb.WatchSimulationRequest(name=name)
        return _until(watch_is_over, self._simulations.WatchSimulation(request, timeout=timeout_s))

    def list_simulations(
        self,
        *,
        states: Sequence[pb.SimulationState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[pb.Simulation]:
        """Go through the simulations in one of `states` with all `labels`, the newest first.

        Pages are asked for as they are needed, each within `timeout_s` seconds.
        """
        request = pb.ListSimulationsRequest(page_size=page_size, states=states, labels=labels)
        while True:
            with errors_from_status():
                page = self._simulations.ListSimulations(request, timeout=timeout_s)
            yield from page.simulations
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def stream_events(
        self,
        name: str,
        *,
        offset: int = 0,
        batch_rows: int = 0,
        limit: int = 0,
        no_follow: bool = False,
        filter: pb.FaultFilter | None = None,
        timeout_s: float | None = None,
    ) -> Generator[pb.StreamEventsResponse, None, None]:
        """Stream the faults of a simulation from an offset on, until it has ended.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        OffsetOutOfRange
            If the simulation has ended and its log is shorter.
        LogExpired
            If the rows are gone; `.earliest_offset` is the first one that can be read.
        StreamCut
            If the stream ends without its last message.
        """
        request = pb.StreamEventsRequest(
            name=name,
            offset=offset,
            batch_rows=batch_rows,
            limit=limit,
            no_follow=no_follow,
            filter=filter,
        )
        return _until(stream_is_over, self._simulations.StreamEvents(request, timeout=timeout_s))

    def stream_operations(
        self,
        name: str,
        *,
        offset: int = 0,
        batch_rows: int = 0,
        limit: int = 0,
        no_follow: bool = False,
        filter: pb.OperationFilter | None = None,
        timeout_s: float | None = None,
    ) -> Generator[pb.StreamOperationsResponse, None, None]:
        """Stream the operations of a simulation; all else as in `stream_events`."""
        request = pb.StreamOperationsRequest(
            name=name,
            offset=offset,
            batch_rows=batch_rows,
            limit=limit,
            no_follow=no_follow,
            filter=filter,
        )
        call = self._simulations.StreamOperations(request, timeout=timeout_s)
        return _until(stream_is_over, call)

    def cancel_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """End a simulation, and return it as it ended.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        """
        with errors_from_status():
            request = pb.CancelSimulationRequest(name=name)
            return self._simulations.CancelSimulation(request, timeout=timeout_s).simulation

    def explain_fault(
        self,
        name: str,
        *,
        fault: int | None = None,
        choice: pb.FaultChoice.ValueType | None = None,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Explain the fault in a row of the log, or one that is chosen; errors as in `explain`."""
        request = explain_request(name, fault, choice)
        with errors_from_status(out_of_range=NoSuchFault, cannot=CannotExplain):
            return self._simulations.ExplainFault(request, timeout=timeout_s)

    def delete_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Let the server forget a simulation that has ended, and its rows.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        NotEnded
            If it is queued or runs: cancel it first.
        """
        with errors_from_status():
            request = pb.DeleteSimulationRequest(name=name)
            self._simulations.DeleteSimulation(request, timeout=timeout_s)

    # CatalogService.

    def get_server_info(self, *, timeout_s: float = TIMEOUT_S) -> pb.GetServerInfoResponse:
        """Tell versions and limits of the server."""
        with errors_from_status():
            return self._catalog.GetServerInfo(pb.GetServerInfoRequest(), timeout=timeout_s)

    def list_architectures(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Architecture]:
        """List the architectures."""
        with errors_from_status():
            request = pb.ListArchitecturesRequest()
            answer = self._catalog.ListArchitectures(request, timeout=timeout_s)
        return list(answer.architectures)

    def list_machines(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.MachineProfile]:
        """List the machine profiles, with every cost and its source."""
        with errors_from_status():
            answer = self._catalog.ListMachines(pb.ListMachinesRequest(), timeout=timeout_s)
        return list(answer.machines)

    def list_kernels(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.KernelGeneration]:
        """List the kernel generations."""
        with errors_from_status():
            answer = self._catalog.ListKernels(pb.ListKernelsRequest(), timeout=timeout_s)
        return list(answer.kernels)

    def list_policies(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Policy]:
        """List the retry policies."""
        with errors_from_status():
            answer = self._catalog.ListPolicies(pb.ListPoliciesRequest(), timeout=timeout_s)
        return list(answer.policies)

    def list_presets(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Preset]:
        """List the scenarios that come with the server, without the scenarios themselves."""
        with errors_from_status():
            answer = self._catalog.ListPresets(pb.ListPresetsRequest(), timeout=timeout_s)
        return list(answer.presets)

    def get_preset(self, preset_id: str, *, timeout_s: float = TIMEOUT_S) -> pb.Preset:
        """Return one of them, its scenario ready to be run or changed.

        Raises
        ------
        NoSuchPreset
            If there is no preset of that id.
        """
        with errors_from_status(not_found=NoSuchPreset):
            request = pb.GetPresetRequest(id=preset_id)
            return self._catalog.GetPreset(request, timeout=timeout_s).preset


def _until(
    is_over: Callable[[Message, int], bool],
    call: _Stream[Message],
    *,
    invalid: type[InvalidRequest] = InvalidRequest,
) -> Generator[Message, None, None]:
    """Hand out the messages of a stream; the call ends when the reader stops reading."""
    over = False
    try:
        with errors_from_status(invalid=invalid):
            for number, message in enumerate(call):
                over = is_over(message, number)
                yield message
    finally:
        call.cancel()
    if not over:
        raise StreamCut("the stream ended before its last message")
