"""Servers that end with the test."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.service.fake import Peer, Servers


@pytest.fixture
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(scope="module")
def module_servers() -> Iterator[Servers]:
    """The same for what all tests of a module share."""
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def peer(servers: Servers) -> Peer:
    """A peer of a server that is ready and whose runs have three slices."""
    return servers.start()
