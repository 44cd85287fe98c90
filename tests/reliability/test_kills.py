"""However often a server is killed, what it accepted is done, and no reader misses a row.

The server is a process with a fake engine, ended with SIGKILL at moments that a seed
chooses, while clients submit and stream. They know its address and nothing else.
"""

import asyncio
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

import faultlane
from faultlane import FaultEvents
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import SimulationState
from faultlane_server.columns import FAULT_COLUMNS
from faultlane_server.store import Columns
from tests.reliability.server import slices_of
from tests.service.fake import PATIENCE_S, Peer, a_scenario, rows_of_faults

CLIENTS = 4
RUNS_A_CLIENT = 4


class Killed:
    """A server that is started again whenever it was killed."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        command = [sys.executable, "-m", "tests.reliability.server"]
        self._process = subprocess.Popen(
            [*command, str(self._data_dir), str(self._port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    server = Killed(tmp_path / "data")
    yield server
    server.kill()


@contextmanager
def peer_of(server: Killed) -> Iterator[Peer]:
    """A peer that looks for the server ten times a second while it is away."""
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(server.address, options) as channel:
        yield Peer(channel)


class Client:
    """Submits runs and reads their rows, however often it is cut off."""

    def __init__(self, server: Killed, number: int) -> None:
        self._server = server
        self._number = number
        self.cuts = 0

    def work(self) -> dict[str, tuple[int, Columns]]:
        """Return name, seed and rows of each of its runs."""
        with peer_of(self._server) as peer:
            runs = {self._create(peer, seed): seed for seed in self._seeds()}
            return {name: (seed, self._read(peer, name)) for name, seed in runs.items()}

    def _seeds(self) -> list[int]:
        return [1 + self._number * RUNS_A_CLIENT + run for run in range(RUNS_A_CLIENT)]

    def _create(self, peer: Peer, seed: int) -> str:
        request = pb.CreateSimulationRequest(
            scenario=a_scenario(seed=seed), request_id=f"{self._number}-{seed}"
        )
        while True:
            try:
                return peer.simulations.CreateSimulation(
                    request, timeout=PATIENCE_S
                ).simulation.name
            except grpc.RpcError as error:
                self._require_cut(error)

    def _read(self, peer: Peer, name: str) -> Columns:
        parts: list[pb.StreamEventsResponse] = []
        offset = 0
        while True:
            request = pb.StreamEventsRequest(name=name, offset=offset)
            try:
                for response in peer.simulations.StreamEvents(request, wait_for_ready=True):
                    parts.append(response)
                    offset = response.next_offset
                    if response.HasField("simulation"):
                        succeeded = SimulationState.SIMULATION_STATE_SUCCEEDED
                        assert response.simulation.state == succeeded
                        return joined(parts)
            except grpc.RpcError as error:
                self._require_cut(error)

    def _require_cut(self, error: grpc.RpcError) -> None:
        self.cuts += 1
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def joined(parts: list[pb.StreamEventsResponse]) -> Columns:
    return {
        name: np.concatenate([np.array(getattr(part.faults, name), dtype) for part in parts])
        for name, dtype in FAULT_COLUMNS.items()
    }


def kill_at_random(server: Killed, seed: int, times: int) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        threading.Event().wait(chance.uniform(0.02, 0.6))
        server.kill()
        server.start()


def require_all_was_done(server: Killed, seed: int, kills: int) -> int:
    """Let clients work while the server is killed; return how often they were cut off."""
    server.start()
    clients = [Client(server, number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        working = [pool.submit(client.work) for client in clients]
        killing = pool.submit(kill_at_random, server, seed, kills)
        killing.result()
        done = [each.result() for each in working]
    with peer_of(server) as peer:
        for runs in done:
            for name, (run_seed, rows) in runs.items():
                require_rows(rows, run_seed)
                again = Client(server, 0)._read(peer, name)
                require_rows(again, run_seed)
        names = [name for runs in done for name in runs]
        request = pb.ListSimulationsRequest(page_size=1000)
        found = peer.simulations.ListSimulations(request, timeout=PATIENCE_S).simulations
        assert sorted(each.name for each in found) == sorted(names)
    return sum(client.cuts for client in clients)


def require_rows(rows: Columns, seed: int) -> None:
    expected = rows_of_faults(0, slices_of(seed), seed)
    for name, column in expected.items():
        assert rows[name].tobytes() == column.tobytes(), f"seed {seed}, column {name}"


def test_a_server_that_is_killed_loses_nothing(killed: Killed) -> None:
    assert require_all_was_done(killed, seed=1, kills=3) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_server_that_is_killed_again_and_again_loses_nothing(killed: Killed, seed: int) -> None:
    began_s = time.monotonic()

    assert require_all_was_done(killed, seed, kills=25) > 0

    assert time.monotonic() - began_s < 300


def test_a_run_that_is_killed_forever_ends_when_it_is_left_alone(killed: Killed) -> None:
    """Each life is long enough for some rows, and each begins the run again."""
    killed.start()
    with peer_of(killed) as peer:
        client = Client(killed, 0)
        name = client._create(peer, seed=99)
        for _ in range(2):
            stream = peer.simulations.StreamEvents(
                pb.StreamEventsRequest(name=name), wait_for_ready=True, timeout=PATIENCE_S
            )
            next(stream)
            killed.kill()
            killed.start()

        require_rows(client._read(peer, name), seed=99)


def read_with_client(address: str, seed: int) -> FaultEvents:
    with faultlane.Client.connect(address) as client, client.submit(a_scenario(seed=seed)) as run:
        return FaultEvents.concat(run.events())


def read_with_async_client(address: str, seed: int) -> FaultEvents:
    async def read() -> FaultEvents:
        async with faultlane.AsyncClient.connect(address) as client:
            run = await client.run(a_scenario(seed=seed))
            batches = [batch async for batch in run.events()]
            assert (await run.result()).progress.fault_rows == sum(map(len, batches))
            return FaultEvents.concat(batches)

    return asyncio.run(read())


def test_both_clients_read_on_by_themselves(killed: Killed) -> None:
    """Nothing but a run is asked for: what happens to the server is not the reader's business."""
    killed.start()
    ways = {97: read_with_client, 98: read_with_async_client}
    with ThreadPoolExecutor(len(ways)) as pool:
        reading = {seed: pool.submit(way, killed.address, seed) for seed, way in ways.items()}
        kill_at_random(killed, seed=0, times=2)
        for seed, read in reading.items():
            require_rows(dict(read.result().columns()), seed)
