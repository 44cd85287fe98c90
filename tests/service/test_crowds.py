"""Many clients at once, and clients that vanish."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Limits
from faultlane_server.runs.bell import Bell, Ear
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    detail,
    endless,
    rows_of_faults,
)

CLIENTS = 50
CANCELLED = simulation_pb2.SimulationState.SIMULATION_STATE_CANCELLED


def create(peer: Peer, request_id: str = "") -> str:
    request = pb.CreateSimulationRequest(scenario=a_scenario(), request_id=request_id)
    return peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation.name


def test_fifty_clients_with_one_request_id_make_one_simulation(servers: Servers) -> None:
    server = servers.server(limits=Limits(workers=2, queued_max=1))
    peers = [servers.peer(server.address) for _ in range(CLIENTS)]
    together = threading.Barrier(CLIENTS)

    def ask(peer: Peer) -> str:
        together.wait(PATIENCE_S)
        return create(peer, request_id="ours")

    with ThreadPoolExecutor(CLIENTS) as pool:
        names = set(pool.map(ask, peers))

    assert len(names) == 1


def test_of_more_clients_than_there_is_room_the_rest_is_told_when_to_come_back(
    servers: Servers,
) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    peer = servers.start(engine, Limits(workers=1, queued_max=10))
    create(peer)
    assert gate.reached.wait(PATIENCE_S)

    def ask(_: int) -> grpc.RpcError | None:
        try:
            create(peer)
        except grpc.RpcError as error:
            return error
        return None

    with ThreadPoolExecutor(CLIENTS) as pool:
        refused = [error for error in pool.map(ask, range(CLIENTS)) if error]

    gate.opened.set()
    assert len(refused) == CLIENTS - 10
    for error in refused:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(error, details.RetryInfo).retry_delay.seconds >= 1


def test_many_readers_at_offsets_of_their_own_have_the_same_rows(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=100))
    name = create(peer)

    def read_from(offset: int) -> list[int]:
        request = pb.StreamEventsRequest(name=name, offset=offset)
        responses = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)
        return [value for response in responses for value in response.faults.start_ns]

    offsets = [0, 1, 99_999, 50_000]
    with ThreadPoolExecutor(len(offsets)) as pool:
        read = list(pool.map(read_from, offsets))

    whole = rows_of_faults(0, 100)["start_ns"].tolist()
    assert read == [whole[offset:] for offset in offsets]


def test_many_who_cancel_at_once_are_told_the_same_end(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless))
    name = create(peer)
    request = pb.CancelSimulationRequest(name=name)

    with ThreadPoolExecutor(CLIENTS) as pool:
        ends = list(
            pool.map(
                lambda _: peer.simulations.CancelSimulation(request, timeout=PATIENCE_S).simulation,
                range(CLIENTS),
            )
        )

    assert ends == [ends[0]] * CLIENTS
    assert ends[0].state == CANCELLED


def test_a_run_whose_worker_has_no_cpu_is_cancelled_all_the_same(servers: Servers) -> None:
    """Its rows end where its progress says, though the worker writes more of them later."""
    gate = Gate()

    def on_slice(number: int) -> None:
        if number == 20:
            gate.pass_through()
        threading.Event().wait(0.01)  # rows are flushed

    server = servers.server(an_engine(on_slice=on_slice, slices=99), Limits(workers=1))
    peer = servers.peer(server.address)
    name = create(peer)
    assert gate.reached.wait(PATIENCE_S)
    request = pb.CancelSimulationRequest(name=name)

    ended = peer.simulations.CancelSimulation(request, timeout=PATIENCE_S).simulation

    assert ended.state == CANCELLED
    gate.opened.set()
    other = pb.CreateSimulationRequest(scenario=a_scenario(seed=2))
    other_name = peer.simulations.CreateSimulation(other).simulation.name
    stream = pb.StreamEventsRequest(name=other_name)
    assert sum(len(part.faults.thread) for part in peer.simulations.StreamEvents(stream)) == 99_000
    stream = pb.StreamEventsRequest(name=name)
    rows = [
        start for part in peer.simulations.StreamEvents(stream) for start in part.faults.start_ns
    ]
    assert len(rows) == ended.progress.fault_rows
    assert rows == rows_of_faults(0, 99)["start_ns"].tolist()[: len(rows)]
    assert peer.simulations.GetSimulation(pb.GetSimulationRequest(name=name)).simulation == ended


@pytest.mark.parametrize("rpc", ["RunSimulation", "StreamEvents"])
def test_a_client_that_vanishes_leaves_nothing_behind(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, rpc: str
) -> None:
    """Each open stream listens to the bell of its simulation; closing the log comes with it."""
    listeners = Listeners(monkeypatch)
    server = servers.server(an_engine(slices=0, on_slice=endless), Limits(1, heartbeat_s=0.01))
    peer = servers.peer(server.address)
    name = create(peer)
    request = (
        pb.RunSimulationRequest(scenario=a_scenario())
        if rpc == "RunSimulation"
        else pb.StreamEventsRequest(name=name)
    )
    for _ in range(10):
        with grpc.insecure_channel(server.address) as channel:
            list(islice(getattr(Peer(channel).simulations, rpc)(request), 2))

    assert listeners.came == 10
    assert listeners.are_gone()
    assert peer.simulations.GetSimulation(pb.GetSimulationRequest(name=name)).simulation.state != (
        CANCELLED
    )


class Listeners:
    """Counts who listens to bells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.came = 0
        self._gone = 0
        self._changed = threading.Condition()
        self._listen = Bell.listen
        monkeypatch.setattr(Bell, "listen", lambda bell: self._counted(bell))

    def are_gone(self) -> bool:
        """Wait until nobody listens any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self.came == self._gone, PATIENCE_S)

    @contextmanager
    def _counted(self, bell: Bell) -> Iterator[Ear]:
        self.came += 1
        with self._listen(bell) as ear:
            try:
                yield ear
            finally:
                with self._changed:
                    self._gone += 1
                    self._changed.notify_all()
