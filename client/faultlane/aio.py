"""The client for asyncio: what `faultlane.client` has, under the same names, to be awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

import grpc

from faultlane import v1 as pb
from faultlane.access import Access
from faultlane.backoff import CUT, Backoff
from faultlane.calls import (
    CHOICES,
    EXPLAIN_TIMEOUT_S,
    TIMEOUT_S,
    Choice,
    explain_request,
    keep_memory,
    new_request_id,
    run_is_over,
    stream_is_over,
    watch_is_over,
)
from faultlane.errors import (
    CannotExplain,
    FaultlaneError,
    InvalidRequest,
    InvalidScenario,
    NoSuchFault,
    NoSuchPreset,
    StreamCut,
    TimedOut,
    errors_from_status,
)
from faultlane.events import FaultEvents, OperationEvents
from faultlane.run import Events, Log, OnProgress, RunState
from faultlane.v1.catalog_service_pb2_grpc import CatalogServiceStub
from faultlane.v1.simulation_service_pb2_grpc import SimulationServiceStub


class AsyncClient:
    """A connection to a server, in one event loop. Methods and errors are those of `Client`.

    Examples
    --------
    >>> async def policies() -> list[str]:
    ...     async with AsyncClient.connect(address) as client:
    ...         return [policy.id for policy in await client.list_policies()]
    >>> "rfc" in asyncio.run(policies())
    True
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._simulations: Any = SimulationServiceStub(channel)
        self._catalog: Any = CatalogServiceStub(channel)

    @classmethod
    def connect(cls, address: str, access: Access | None = None) -> Self:
        """Make a client for the server at `host:port`; `access` and errors as in `Client`."""
        keep_memory()
        access = Access.from_environment() if access is None else access
        return cls(access.aio_channel(address))

    async def close(self) -> None:
        """Close the connection: calls under way end with an error."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # On top of the rpcs.

    async def submit(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        options: pb.RunOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> "AsyncRun":
        """Queue a scenario and return at once."""
        simulation = await self.create_simulation(
            scenario, request_id=request_id, options=options, timeout_s=timeout_s
        )
        return AsyncRun(self, simulation)

    async def run(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        batch_rows: int = 0,
        options: pb.RunOptions | None = None,
    ) -> "AsyncRun":
        """Queue a scenario and stream its faults and operations, all in one call."""
        messages = self.run_simulation(
            scenario, request_id=request_id, batch_rows=batch_rows, options=options
        )
        return await AsyncRun.begun_by(self, messages)

    async def explain(
        self,
        run: RunState | str,
        fault: int | Choice = "slowest",
        *,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Tell why a fault took as long as it did: every step and wait, and who was in the way."""
        name = run if isinstance(run, str) else run.name
        if isinstance(fault, int):
            return await self.explain_fault(name, fault=fault, timeout_s=timeout_s)
        return await self.explain_fault(name, choice=CHOICES[fault], timeout_s=timeout_s)

    async def estimate(
        self, scenario: pb.Scenario, *, timeout_s: float = TIMEOUT_S
    ) -> pb.CostEstimate:
        """Check a scenario, and tell what a run of it will need."""
        request = pb.CreateSimulationRequest(scenario=scenario, validate_only=True)
        with errors_from_status(invalid=InvalidScenario):
            answer = await self._simulations.CreateSimulation(request, timeout=timeout_s)
        estimate: pb.CostEstimate = answer.estimate
        return estimate

    # SimulationService.

    async def create_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        validate_only: bool = False,
        options: pb.RunOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> pb.Simulation:
        """Queue a scenario on the server, or only check it."""
        request = pb.CreateSimulationRequest(
            scenario=scenario,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
            options=options,
        )
        with errors_from_status(invalid=InvalidScenario):
            return _simulation(await self._simulations.CreateSimulation(request, timeout=timeout_s))

    def run_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        batch_rows: int = 0,
        options: pb.RunOptions | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[pb.RunSimulationResponse]:
        """Queue a scenario and stream its faults and operations until it has ended."""
        request = pb.RunSimulationRequest(
            scenario=scenario, request_id=request_id, batch_rows=batch_rows, options=options
        )
        call = self._simulations.RunSimulation(request, timeout=timeout_s)
        return _until(run_is_over, call, invalid=InvalidScenario)

    async def get_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """Tell how far a simulation is, and what it found out."""
        with errors_from_status():
            request = pb.GetSimulationRequest(name=name)
            return _simulation(await self._simulations.GetSimulation(request, timeout=timeout_s))

    def watch_simulation(
        self, name: str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[pb.WatchSimulationResponse]:
        """Stream a simulation as it changes, until it has ended."""
        request = pb.WatchSimulationRequest(name=name)
        return _until(watch_is_over, self._simulations.WatchSimulation(request, timeout=timeout_s))

    async def list_simulations(
        self,
        *,
        states: Sequence[pb.SimulationState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncIterator[pb.Simulation]:
        """Go through the simulations in one of `states` with all `labels`, the newest first."""
        request = pb.ListSimulationsRequest(page_size=page_size, states=states, labels=labels)
        while True:
            with errors_from_status():
                page = await self._simulations.ListSimulations(request, timeout=timeout_s)
            for simulation in page.simulations:
                yield simulation
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
    ) -> AsyncGenerator[pb.StreamEventsResponse]:
        """Stream the faults of a simulation from an offset on, until it has ended."""
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
    ) -> AsyncGenerator[pb.StreamOperationsResponse]:
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

    async def cancel_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """End a simulation, and return it as it ended."""
        with errors_from_status():
            request = pb.CancelSimulationRequest(name=name)
            return _simulation(await self._simulations.CancelSimulation(request, timeout=timeout_s))

    async def explain_fault(
        self,
        name: str,
        *,
        fault: int | None = None,
        choice: pb.FaultChoice.ValueType | None = None,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Explain the fault in a row of the log, or one that is chosen."""
        request = explain_request(name, fault, choice)
        with errors_from_status(out_of_range=NoSuchFault, cannot=CannotExplain):
            answer: pb.ExplainFaultResponse = await self._simulations.ExplainFault(
                request, timeout=timeout_s
            )
        return answer

    async def delete_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Let the server forget a simulation that has ended, and its rows."""
        with errors_from_status():
            request = pb.DeleteSimulationRequest(name=name)
            await self._simulations.DeleteSimulation(request, timeout=timeout_s)

    # CatalogService.

    async def get_server_info(self, *, timeout_s: float = TIMEOUT_S) -> pb.GetServerInfoResponse:
        """Tell versions and limits of the server."""
        with errors_from_status():
            info: pb.GetServerInfoResponse = await self._catalog.GetServerInfo(
                pb.GetServerInfoRequest(), timeout=timeout_s
            )
        return info

    async def list_architectures(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Architecture]:
        """List the architectures."""
        with errors_from_status():
            request = pb.ListArchitecturesRequest()
            answer = await self._catalog.ListArchitectures(request, timeout=timeout_s)
        return list(answer.architectures)

    async def list_machines(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.MachineProfile]:
        """List the machine profiles, with every cost and its source."""
        with errors_from_status():
            answer = await self._catalog.ListMachines(pb.ListMachinesRequest(), timeout=timeout_s)
        return list(answer.machines)

    async def list_kernels(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.KernelGeneration]:
        """List the kernel generations."""
        with errors_from_status():
            answer = await self._catalog.ListKernels(pb.ListKernelsRequest(), timeout=timeout_s)
        return list(answer.kernels)

    async def list_policies(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Policy]:
        """List the retry policies."""
        with errors_from_status():
            answer = await self._catalog.ListPolicies(pb.ListPoliciesRequest(), timeout=timeout_s)
        return list(answer.policies)

    async def list_presets(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Preset]:
        """List the scenarios that come with the server, without the scenarios themselves."""
        with errors_from_status():
            answer = await self._catalog.ListPresets(pb.ListPresetsRequest(), timeout=timeout_s)
        return list(answer.presets)

    async def get_preset(self, preset_id: str, *, timeout_s: float = TIMEOUT_S) -> pb.Preset:
        """Return one of them, its scenario ready to be run or changed."""
        with errors_from_status(not_found=NoSuchPreset):
            request = pb.GetPresetRequest(id=preset_id)
            answer = await self._catalog.GetPreset(request, timeout=timeout_s)
        preset: pb.Preset = answer.preset
        return preset


class AsyncRun(RunState):
    """One run of a scenario, as `AsyncClient.submit` and `AsyncClient.run` return it.

    It does what `Run` does; `summary` is a method here, since it waits.

    Examples
    --------
    >>> async def faults_of(scenario: pb.Scenario) -> int:
    ...     async with AsyncClient.connect(address) as client, await client.run(scenario) as run:
    ...         return sum([len(faults) async for faults in run.events()])
    >>> asyncio.run(faults_of(scenario)) > 0
    True
    """

    def __init__(
        self,
        client: AsyncClient,
        simulation: pb.Simulation,
        messages: AsyncGenerator[pb.RunSimulationResponse] | None = None,
    ) -> None:
        super().__init__(simulation)
        self._client = client
        self._messages = messages  # of both logs, if one stream carries both

    @classmethod
    async def begun_by(
        cls, client: AsyncClient, messages: AsyncGenerator[pb.RunSimulationResponse]
    ) -> Self:
        """Return the run that the first of `messages` tells of."""
        first = await anext(messages)
        run = cls(client, first.simulation, messages)
        run._take_first(first)
        return run

    async def summary(self) -> pb.Summary:
        """Return what the run found out: the summary of `result`."""
        return (await self.result()).summary

    async def result(self) -> pb.Simulation:
        """Wait for the end of the run and return the simulation, if it has succeeded."""
        await self.wait()
        return self._require_success()

    def events(self) -> AsyncIterator[FaultEvents]:
        """Hand out the faults batch by batch, as the run makes them, until it has ended."""
        return self._read(self._faults, self._client.stream_events, self._take_faults)

    def operations(self) -> AsyncIterator[OperationEvents]:
        """Hand out the operations batch by batch, as the run makes them, until it has ended."""
        return self._read(self._operations, self._client.stream_operations, self._take_operations)

    async def wait(
        self, timeout_s: float | None = None, *, on_progress: OnProgress | None = None
    ) -> pb.Simulation:
        """Wait until the run has ended, whether its events are read or not."""
        backoff = Backoff(self.patience_s)
        give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.ended:
            left_s = None if give_up_s is None else give_up_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise self._too_late(timeout_s)
            try:
                news = self._client.watch_simulation(self.name, timeout_s=left_s)
                async with aclosing(news) as messages:
                    async for message in messages:
                        backoff.succeed()
                        self._hear(message, on_progress)
            except TimedOut as error:
                raise self._too_late(timeout_s) from error
            except CUT as error:
                await asyncio.sleep(backoff.pause_after(error))
        return self.simulation

    async def cancel(self) -> pb.Simulation:
        """End the run. What had ended before is left as it is."""
        self.simulation = await self._client.cancel_simulation(self.name)
        return self.simulation

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not self.ended:
            with suppress(FaultlaneError):  # the error on its way says more
                await self.cancel()
        if self._messages is not None:
            await self._messages.aclose()

    async def _read(
        self, log: Log[Events], stream: Callable[..., Any], take: Callable[[Any], None]
    ) -> AsyncGenerator[Events]:
        async for events in self._read_both(log):
            yield events
        backoff = Backoff(self.patience_s)
        while not log.over:
            try:
                async with aclosing(stream(self.name, offset=log.next_offset)) as messages:
                    async for message in messages:
                        backoff.succeed()
                        take(message)
                        for events in log.drained():
                            yield events
            except CUT as error:
                await asyncio.sleep(backoff.pause_after(error))

    async def _read_both(self, log: Log[Events]) -> AsyncGenerator[Events]:
        """Read the stream of both logs; what belongs to the other one waits for its reader."""
        for events in log.drained():
            yield events
        while self._messages is not None:
            try:
                message = await anext(self._messages, None)
            except CUT:  # each log is read on by itself
                message = None
            if message is None:
                return
            self._take(message)
            for events in log.drained():
                yield events


def _simulation(answer: Any) -> pb.Simulation:
    simulation: pb.Simulation = answer.simulation
    return simulation


async def _until(
    is_over: Callable[[Any, int], bool],
    call: Any,
    *,
    invalid: type[InvalidRequest] = InvalidRequest,
) -> AsyncGenerator[Any]:
    """Hand out the messages of a stream; the call ends when the reader stops reading."""
    over, number = False, 0
    try:
        with errors_from_status(invalid=invalid):
            async for message in call:
                over = is_over(message, number)
                number += 1
                yield message
    finally:
        call.cancel()
    if not over:
        raise StreamCut("the stream ended before its last message")
