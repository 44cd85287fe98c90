"""`faultlane-server health` says how a server is, by word and by exit code."""

import socket

from typer.testing import CliRunner, Result

from faultlane_server.cli import app
from faultlane_server.service.local import LocalServer
from tests.service.fake import PATIENCE_S, Gate, Servers, an_engine


def health(address: str) -> Result:
    return CliRunner().invoke(app, ["health", "--address", address])


def test_a_server_that_is_ready_serves(servers: Servers) -> None:
    outcome = health(servers.server().address)

    assert (outcome.exit_code, outcome.output) == (0, "SERVING\n")


def test_a_server_that_still_loads_its_kernels_is_not_serving() -> None:
    gate = Gate()
    server = LocalServer(engine=an_engine(warm_up=gate.pass_through))
    address = server.listen()
    assert gate.reached.wait(PATIENCE_S)

    outcome = health(address)

    assert (outcome.exit_code, outcome.output) == (1, "NOT_SERVING\n")
    gate.opened.set()
    server.close()


def test_where_nobody_listens_there_is_no_health() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        outcome = health(f"127.0.0.1:{reserved.getsockname()[1]}")

    assert outcome.exit_code == 1
    assert outcome.output.startswith("UNREACHABLE: ")
