"""A request id names one simulation, whoever uses it and however often the server is killed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from faultlane import Client, errors
from tests.reliability.figures import tell
from tests.reliability.living import Living
from tests.service.fake import PATIENCE_S, a_scenario

CLIENTS = 50
OTHERS = 10


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    server = Living(tmp_path / "data")
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True], ids=["in peace", "while it is killed"])
def test_fifty_clients_with_one_request_id_have_one_simulation(
    living: Living, is_killed: bool
) -> None:
    """Whoever asks for something else by that id is refused."""
    living.start()
    together = threading.Barrier(CLIENTS)

    def ask(client: Client) -> str:
        together.wait(PATIENCE_S)
        while True:
            try:
                return client.submit(a_scenario(seed=1), request_id="ours").name
            except (errors.Unavailable, errors.TimedOut):
                assert is_killed

    def ask_for_another(client: Client) -> bool:
        try:
            client.submit(a_scenario(seed=2), request_id="ours")
        except errors.AlreadyExists:
            return True
        return False

    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [stack.enter_context(Client.connect(living.address)) for _ in range(CLIENTS)]
        asking = [pool.submit(ask, client) for client in clients]
        if is_killed:
            asking[0].result(PATIENCE_S)
            living.kill()
            living.start()
        names = {each.result() for each in asking}
        refused = list(pool.map(ask_for_another, clients[:OTHERS]))
        simulations = len(list(clients[0].list_simulations()))
    tell(
        "one request id",
        clients=CLIENTS,
        simulations=simulations,
        refused_with_another_body=f"{sum(refused)} of {OTHERS}",
    )

    assert len(names) == simulations == 1
    assert all(refused)
