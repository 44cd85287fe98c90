"""A hundred clients that read a byte a second cost little memory, and slow down nobody."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

import pytest

from faultlane import Client
from faultlane.v1 import simulation_service_pb2 as pb
from tests.reliability.figures import resident_mib, tell
from tests.reliability.living import Living
from tests.reliability.server import Settings
from tests.reliability.slow_client import SlowClient
from tests.service.fake import a_scenario

SLOW = 100
SLICES = 1000  # a thousand rows each: 220 MB
BYTES_EACH = 20
ROUNDS = 7

METHOD = "/faultlane.v1.SimulationService/StreamEvents"


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    server = Living(tmp_path / "data", Settings(slice_s=0, slices=SLICES))
    yield server
    server.close()


class Slow:
    """All the slow clients, each of which reads a byte a second until the block is left."""

    def __init__(self, address: str, name: str) -> None:
        self.bytes_read = 0
        self._request = pb.StreamEventsRequest(name=name)
        self._stack = ExitStack()
        self._clients = [
            self._stack.enter_context(closing(SlowClient(address, METHOD, self._request)))
            for _ in range(SLOW)
        ]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Slow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._stack.close()

    def wait_until_each_has_read(self, count: int) -> None:
        while self._thread.is_alive() and self.bytes_read < count * SLOW:
            self._is_over.wait(0.1)
        assert self._thread.is_alive(), "one was cut off"

    def _read(self) -> None:
        while not self._is_over.wait(1.0):
            for client in self._clients:
                client.read_byte()
                self.bytes_read += 1


def seconds_of_a_fast_one(client: Client, name: str) -> float:
    """How long it takes to read the whole log."""
    began_s = time.perf_counter()
    messages = client.stream_events(name)
    rows = sum(len(message.faults.thread) for message in messages)
    assert rows == SLICES * 1000
    return time.perf_counter() - began_s


@pytest.mark.slow
def test_a_hundred_slow_readers_cost_little_and_slow_down_nobody(living: Living) -> None:
    living.start()
    with Client.connect(living.address) as client:
        name = client.submit(a_scenario()).wait().name
        alone_s = [seconds_of_a_fast_one(client, name) for _ in range(ROUNDS)]
        before_mib = resident_mib(living.pid)
        with Slow(living.address, name) as slow:
            slow.wait_until_each_has_read(BYTES_EACH // 2)
            beside_s = [seconds_of_a_fast_one(client, name) for _ in range(ROUNDS)]
            slow.wait_until_each_has_read(BYTES_EACH)
            each_mib = (resident_mib(living.pid) - before_mib) / SLOW
    slower = median(beside_s) / median(alone_s) - 1
    tell(
        "readers of a byte a second",
        clients=SLOW,
        MiB_each=each_mib,
        fast_one_alone_s=median(alone_s),
        beside_them_s=median(beside_s),
        slower_by=f"{slower:.1%}",
    )

    assert each_mib < 3
    assert slower < 0.2
