"""Three hundred clients that stream at once have the same rows: all of them, in order."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faultlane import Client, FaultEvents
from faultlane import v1 as pb
from tests.reliability.crowd import require_rows
from tests.reliability.figures import peak_mib, resident_mib, tell
from tests.reliability.living import Living
from tests.reliability.server import Settings, slices_of
from tests.service.fake import a_scenario

CLIENTS = 300
SEEDS = (1, 2, 3)  # a log for each hundred
METHOD = "/faultlane.v1.SimulationService/StreamEvents"


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    server = Living(tmp_path / "data", Settings(slice_s=0))
    yield server
    server.close()


async def read(address: str, name: str, together: asyncio.Barrier) -> tuple[str, int]:
    """Return a hash of all that came, and how many bytes that was, on a channel of its own."""
    request = pb.StreamEventsRequest(name=name).SerializeToString()
    seen, length = hashlib.blake2b(), 0
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        await together.wait()
        stream: Any = channel.unary_stream(METHOD)  # of bytes: parsing would take the most time
        async for message in stream(request):
            seen.update(message)
            length += len(message)
    return seen.hexdigest(), length


async def read_all(address: str, names: list[str]) -> list[tuple[str, int]]:
    together = asyncio.Barrier(CLIENTS)
    return await asyncio.gather(
        *(read(address, names[number % len(names)], together) for number in range(CLIENTS))
    )


@pytest.mark.slow
def test_three_hundred_at_once_read_what_one_reads(living: Living) -> None:
    living.start()
    with Client.connect(living.address) as client:
        runs = [client.submit(a_scenario(seed=seed)) for seed in SEEDS]
        for run, seed in zip(runs, SEEDS, strict=True):
            events = FaultEvents.concat(run.events())
            require_rows(dict(events.columns()), seed)
    names = [run.name for run in runs]
    one_by_one = [asyncio.run(alone(living.address, name)) for name in names]
    before_mib = resident_mib(living.pid)
    began_s = time.perf_counter()

    read = asyncio.run(read_all(living.address, names))

    took_s = time.perf_counter() - began_s
    tell(
        "clients at once",
        clients=len(read),
        rows_each=slices_of(SEEDS[0]) * 1000,
        MB_in_all=sum(length for _, length in read) / 1e6,
        seconds=took_s,
        MB_a_second=sum(length for _, length in read) / 1e6 / took_s,
        server_before_MiB=before_mib,
        server_at_most_MiB=peak_mib(living.pid),
    )
    assert read == [one_by_one[number % len(names)] for number in range(CLIENTS)]
    assert peak_mib(living.pid) - before_mib < 3 * CLIENTS


async def alone(address: str, name: str) -> tuple[str, int]:
    return await read(address, name, asyncio.Barrier(1))
