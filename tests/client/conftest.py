"""A fake server for each test, and a client that talks to it."""

from collections.abc import Iterator

import pytest

from faultlane import Client
from tests.client.fake import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that says what the test tells it to."""
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """A client of that server."""
    with Client.connect(server.address) as client:
        yield client
