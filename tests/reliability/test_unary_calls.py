"""Calls with one answer are answered at once, however busy the server is with runs and streams."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle, islice
from pathlib import Path

import grpc
import pytest

from faultlane import Client
from tests.reliability.figures import percentile, tell
from tests.reliability.test_real_engine import a_long_scenario
from tests.service.fake import a_scenario
from tests.serving import LOADING_S_MAX, serving, wait_until_it_serves

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LOADING_S_MAX)]

RUNS = 2
STREAMS = 20
CALLS = 1200
P99_S_MAX = 0.05


@contextmanager
def a_server(directory: Path) -> Iterator[tuple[str, Client]]:
    options = ["--workers", str(RUNS), "--data-dir", str(directory)]
    with serving(*options, stderr=subprocess.DEVNULL) as (_, address):
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
        with Client.connect(address) as client:
            yield address, client


class Runs:
    """Keeps so many simulations running, each of which makes as many rows as a log may have."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(RUNS)]

    def __enter__(self) -> "Runs":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for simulation in self._client.list_simulations():
            self._client.cancel_simulation(simulation.name)
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        for seed in count(1 + number, RUNS):
            if self._is_over.is_set():
                return
            scenario = a_long_scenario()
            scenario.seed = seed
            self._client.submit(scenario).wait()


@contextmanager
def streams(address: str) -> Iterator[None]:
    """Clients that stream what runs."""
    command = [sys.executable, "-m", "tests.reliability.streaming_clients", address, str(STREAMS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "streaming\n"
            yield
        finally:
            process.kill()


def seconds_of_calls(client: Client, name: str) -> list[float]:
    """How long each call took, of one after the other."""
    scenario = a_scenario()
    calls: list[Callable[[], object]] = [
        lambda: client.get_simulation(name),
        client.get_server_info,
        lambda: next(client.list_simulations(page_size=5)),
        lambda: client.estimate(scenario),
    ]
    took_s = []
    for call in islice(cycle(calls), CALLS):
        began_s = time.perf_counter()
        call()
        took_s.append(time.perf_counter() - began_s)
    return took_s


def test_calls_are_answered_at_once_beside_runs_and_streams(tmp_path: Path) -> None:
    with a_server(tmp_path) as (address, client):
        name = client.submit(a_scenario(seed=10**6)).wait().name
        without_s = seconds_of_calls(client, name)
        with Runs(client), streams(address):
            beside_s = seconds_of_calls(client, name)
    tell(
        "calls with one answer, ms",
        calls=CALLS,
        **{
            f"{share}_{what}": percentile(took_s, float(share) / 100) * 1e3
            for what, took_s in (("without", without_s), ("beside", beside_s))
            for share in ("50", "90", "99", "100")
        },
    )

    assert percentile(beside_s, 0.99) < P99_S_MAX
