"""Clients in a process of their own that stream whatever runs, until the process is ended.

    python -m tests.reliability.streaming_clients ADDRESS COUNT

It prints a line when each of them has had its first rows.
"""

import asyncio
import sys
from typing import Any

import grpc

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import SimulationState
from faultlane.v1.simulation_service_pb2_grpc import SimulationServiceStub

METHOD = "/faultlane.v1.SimulationService/StreamEvents"


async def main(address: str, count: int) -> None:
    """Stream until the process is ended."""
    together = asyncio.Barrier(count + 1)
    clients = [asyncio.ensure_future(_stream(address, n, together)) for n in range(count)]
    await together.wait()
    print("streaming", flush=True)
    await asyncio.gather(*clients)


async def _stream(address: str, number: int, together: asyncio.Barrier) -> None:
    has_begun = False
    async with grpc.aio.insecure_channel(address) as channel:
        stream: Any = channel.unary_stream(METHOD)  # of bytes: parsing would take the most time
        while True:
            name = await _one_that_runs(channel, number)
            request = pb.StreamEventsRequest(name=name)
            async for _ in stream(request.SerializeToString()):
                if not has_begun:
                    has_begun = True
                    await together.wait()


async def _one_that_runs(channel: grpc.aio.Channel, number: int) -> str:
    running = [SimulationState.SIMULATION_STATE_RUNNING]
    while True:
        request = pb.ListSimulationsRequest(states=running)
        found: Any = await SimulationServiceStub(channel).ListSimulations(request)
        if found.simulations:
            return str(found.simulations[number % len(found.simulations)].name)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
