"""Servers that end with the test, as the tests of the service have them."""

from tests.service.conftest import module_servers, peer, servers

__all__ = ["module_servers", "peer", "servers"]
