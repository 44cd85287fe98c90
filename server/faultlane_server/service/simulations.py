"""SimulationService: each method translates, calls, translates."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import LogKind, Runs
from faultlane_server.service.requests import (
    StreamRequest,
    name_of,
    order_of,
    which_of,
    whole_log,
    window_of,
)
from faultlane_server.service.translate import explained_to_wire, simulation_to_wire
from faultlane_server.service.wire import response_bytes

Responses = AsyncGenerator[Any]  # messages, or bytes of messages


class SimulationServicer:
    """One method for each rpc."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def CreateSimulation(
        self, request: pb.CreateSimulationRequest
    ) -> pb.CreateSimulationResponse:
        order = await asyncio.to_thread(order_of, request)
        job = self._runs.create(order)
        return pb.CreateSimulationResponse(simulation=simulation_to_wire(job.simulation))

    async def RunSimulation(self, request: pb.RunSimulationRequest) -> Responses:
        order = await asyncio.to_thread(order_of, request)
        job = self._runs.create(order)
        yield pb.RunSimulationResponse(simulation=simulation_to_wire(job.simulation))
        windows = dict.fromkeys(LogKind, whole_log(request))
        response = pb.RunSimulationResponse()
        async with aclosing(self._runs.follow(job, windows)) as parts:
            async for part in parts:
                if part and part.kind is LogKind.FAULTS:
                    response.next_fault_offset = part.next_offset
                elif part:
                    response.next_operation_offset = part.next_offset
                yield response_bytes(part, response)
        response.simulation.CopyFrom(simulation_to_wire(job.simulation))
        yield response

    async def GetSimulation(self, request: pb.GetSimulationRequest) -> pb.GetSimulationResponse:
        job = self._runs.get(name_of(request))
        return pb.GetSimulationResponse(simulation=simulation_to_wire(job.simulation))

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
        simulation = await self._runs.cancel(name_of(request))
        return pb.CancelSimulationResponse(simulation=simulation_to_wire(simulation))

    async def ExplainFault(self, request: pb.ExplainFaultRequest) -> pb.ExplainFaultResponse:
        which = which_of(request)
        job = self._runs.get(name_of(request))
        return explained_to_wire(await self._runs.explain(job, which))

    async def _stream(
        self,
        request: StreamRequest,
        kind: LogKind,
        response: pb.StreamEventsResponse | pb.StreamOperationsResponse,
    ) -> Responses:
        window = window_of(request)
        job = self._runs.get(request.name)
        response.next_offset = window.offset
        async with aclosing(self._runs.follow(job, {kind: window})) as parts:
            async for part in parts:
                response.next_offset = part.next_offset if part else response.next_offset
                yield response_bytes(part, response)
        response.simulation.CopyFrom(simulation_to_wire(job.simulation))
        yield response
