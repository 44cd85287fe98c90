"""SimulationService: each method translates, calls, translates."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Job, LogKind, Runs, estimate_of
from faultlane_server.service.identity import owner, reach
from faultlane_server.service.pages import page_of, query_of
from faultlane_server.service.requests import (
    NamedRequest,
    StreamRequest,
    name_of,
    order_of,
    which_of,
    whole_log,
    window_of,
)
from faultlane_server.service.translate import (
    estimate_to_wire,
    explained_to_wire,
    simulation_to_wire,
)
from faultlane_server.service.wire import response_bytes

Responses = AsyncGenerator[Any]  # messages, or bytes of messages


class SimulationServicer:
    """One method for each rpc."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def CreateSimulation(
        self, request: pb.CreateSimulationRequest
    ) -> pb.CreateSimulationResponse:
        order = await asyncio.to_thread(order_of, request, owner())
        _, created = await asyncio.to_thread(self._runs.create, order)
        response = pb.CreateSimulationResponse(simulation=simulation_to_wire(created))
        if order.validate_only:
            response.estimate.CopyFrom(estimate_to_wire(estimate_of(order.scenario)))
        return response

    async def RunSimulation(self, request: pb.RunSimulationRequest) -> Responses:
        order = await asyncio.to_thread(order_of, request, owner())
        job, created = await asyncio.to_thread(self._runs.create, order)
        try:
            yield pb.RunSimulationResponse(simulation=simulation_to_wire(created))
            async with aclosing(self._run(request, job)) as responses:
                async for response in responses:
                    yield response
        finally:
            if request.options.cancel_on_disconnect:
                await asyncio.to_thread(self._runs.abandon, job)

    async def GetSimulation(self, request: pb.GetSimulationRequest) -> pb.GetSimulationResponse:
        return pb.GetSimulationResponse(
            simulation=simulation_to_wire(self._job(request).simulation)
        )

    async def WatchSimulation(self, request: pb.WatchSimulationRequest) -> Responses:
        async with aclosing(self._runs.watch(self._job(request), owner())) as simulations:
            async for simulation in simulations:
                message = simulation_to_wire(simulation)
                message.ClearField("scenario")
                yield pb.WatchSimulationResponse(simulation=message)

    async def ListSimulations(
        self, request: pb.ListSimulationsRequest
    ) -> pb.ListSimulationsResponse:
        query = query_of(request, reach())
        return page_of(await asyncio.to_thread(self._runs.find, query), query)

    async def StreamEvents(self, request: pb.StreamEventsRequest) -> Responses:
        async for response in self._stream(request, LogKind.FAULTS, pb.StreamEventsResponse()):
            yield response

    async def StreamOperations(self, request: pb.StreamOperationsRequest) -> Responses:
        empty = pb.StreamOperationsResponse()
        async for response in self._stream(request, LogKind.OPERATIONS, empty):
            yield response

    async def CancelSimulation(
        self, request: pb.CancelSimulationRequest
    ) -> pb.CancelSimulationResponse:
        job = self._job(request)
        await asyncio.to_thread(self._runs.cancel, job)
        simulation = await self._runs.cancelled(job)
        return pb.CancelSimulationResponse(simulation=simulation_to_wire(simulation))

    async def ExplainFault(self, request: pb.ExplainFaultRequest) -> pb.ExplainFaultResponse:
        which = which_of(request)
        return explained_to_wire(await self._runs.explain(self._job(request), which))

    async def DeleteSimulation(
        self, request: pb.DeleteSimulationRequest
    ) -> pb.DeleteSimulationResponse:
        await asyncio.to_thread(self._runs.delete, name_of(request), reach())
        return pb.DeleteSimulationResponse()

    def _job(self, request: NamedRequest) -> Job:
        return self._runs.get(name_of(request), reach())

    async def _run(self, request: pb.RunSimulationRequest, job: Job) -> Responses:
        windows = dict.fromkeys(LogKind, whole_log(request))
        response = pb.RunSimulationResponse()
        async with aclosing(self._runs.follow(job, windows, owner())) as parts:
            async for part in parts:
                if part and part.kind is LogKind.FAULTS:
                    response.next_fault_offset = part.next_offset
                elif part:
                    response.next_operation_offset = part.next_offset
                yield response_bytes(part, response)
        response.simulation.CopyFrom(simulation_to_wire(job.simulation))
        yield response

    async def _stream(
        self,
        request: StreamRequest,
        kind: LogKind,
        response: pb.StreamEventsResponse | pb.StreamOperationsResponse,
    ) -> Responses:
        window = window_of(request)
        job = self._runs.get(request.name, reach())
        response.next_offset = window.offset
        async with aclosing(self._runs.follow(job, {kind: window}, owner())) as parts:
            async for part in parts:
                response.next_offset = part.next_offset if part else response.next_offset
                yield response_bytes(part, response)
        response.simulation.CopyFrom(simulation_to_wire(job.simulation))
        yield response
