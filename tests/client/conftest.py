"""A fake server for each test, and clients of both kinds that talk to it."""

from collections.abc import Iterator
from typing import Any

import pytest

from faultlane import Client
from tests.client import blocking
from tests.client.fake import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that says what the test tells it to."""
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def loop() -> Iterator[blocking.Loop]:
    """An event loop for asynchronous clients."""
    loop = blocking.Loop()
    yield loop
    loop.close()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """A client of that server."""
    with Client.connect(server.address) as client:
        yield client


@pytest.fixture(params=["Client", "AsyncClient"])
def either(request: pytest.FixtureRequest, server: FakeServer) -> Iterator[Any]:
    """A client of one kind, then of the other: what they do is the same."""
    if request.param == "Client":
        yield request.getfixturevalue("client")
    else:
        with blocking.connect(request.getfixturevalue("loop"), server.address) as client:
            yield client
