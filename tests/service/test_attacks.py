"""Clients that mean harm: each is refused with a status, or its connection is closed.

Meanwhile everybody else is served.
"""

import resource
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faultlane.v1 import catalog_service_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions
from faultlane_server.runs import Limits, OwnerLimits, within_files
from faultlane_server.service.access import Access
from faultlane_server.service.errors import Unauthenticated
from faultlane_server.service.server import REQUEST_BYTES_MAX, Security
from faultlane_server.service.tls import TlsFiles
from faultlane_server.service.tokens import Role, TokenFile, add_token
from tests.service.certificates import Authority
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    create,
    endless,
    get,
    reason,
    refused,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
HALF_A_HEADER = (16).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + b"\x82"
TOO_SLOW = 0.3

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), PATIENCE_S)
    connection.settimeout(PATIENCE_S)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other end closes the connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def is_served(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        request = catalog_service_pb2.ListPoliciesRequest()
        return bool(Peer(channel).catalog.ListPolicies(request, timeout=PATIENCE_S).policies)


# Connections.


@pytest.mark.parametrize(
    "sent",
    [b"", PREFACE[:10], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(500)],
    ids=["nothing", "half of a preface", "HTTP/1.1", "TLS"],
)
def test_a_connection_that_begins_nothing_is_closed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("faultlane_server.service.server.HANDSHAKE_S_MAX", TOO_SLOW)
    address = servers.server().address
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(address)) for _ in range(100)]
        for connection in connections:
            connection.sendall(sent)

        assert is_served(address)
        assert all(is_closed(connection) for connection in connections)


def test_a_tls_handshake_that_never_ends_is_cut(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr("faultlane_server.service.server.HANDSHAKE_S_MAX", TOO_SLOW)
    pair = Authority(tmp_path_factory.mktemp("certificates")).pair("server")
    tls = TlsFiles(pair.cert, pair.key, None)

    with connected(servers.server(security=Security(tls)).address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert is_closed(connection)


def test_a_header_that_never_ends_does_not_keep_a_connection(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was begun well, but no call ever comes of it."""
    monkeypatch.setattr("faultlane_server.service.server.IDLE_S_MAX", 1.0)
    address = servers.server().address
    with connected(address) as connection:
        connection.sendall(PREFACE + SETTINGS + HALF_A_HEADER)

        assert is_served(address)
        assert is_closed(connection)


def test_of_more_connections_than_there_may_be_the_rest_is_closed(servers: Servers) -> None:
    address = servers.server(limits=Limits(2, connections_max=5)).address
    with ExitStack() as stack:
        kept = [stack.enter_context(connected(address)) for _ in range(5)]
        for connection in kept:
            connection.sendall(PREFACE + SETTINGS)
            assert connection.recv(1)

        with connected(address) as one_more:
            assert is_closed(one_more)
    assert is_served_soon(address)


def is_served_soon(address: str) -> bool:
    """Connections of which both ends are closed are forgotten in a moment."""
    with grpc.insecure_channel(address, [("grpc.initial_reconnect_backoff_ms", 10)]) as channel:
        request = catalog_service_pb2.ListPoliciesRequest()
        answer = Peer(channel).catalog.ListPolicies(
            request, timeout=PATIENCE_S, wait_for_ready=True
        )
        return bool(answer.policies)


# Calls.


def silence(over: threading.Event) -> Iterator[bytes]:
    """Requests that never come."""
    over.wait(PATIENCE_S)
    yield from ()


@pytest.mark.parametrize(
    "method",
    [
        "/faultlane.v1.SimulationService/CreateSimulation",
        "/faultlane.v1.SimulationService/RunSimulation",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    ],
)
def test_a_call_whose_request_never_comes_is_ended(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("faultlane_server.service.handlers.REQUEST_S_MAX", TOO_SLOW)
    peer, over = servers.start(), threading.Event()
    call: Any = peer.channel.stream_stream(method)

    error = refused(lambda: list(call(silence(over), timeout=PATIENCE_S)))

    over.set()
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(error) == "REQUEST_TOO_SLOW"


@pytest.mark.parametrize("method", ["CreateSimulation", "RunSimulation"])
def test_a_call_without_a_request_is_invalid(peer: Peer, method: str) -> None:
    call: Any = peer.channel.stream_stream(f"/faultlane.v1.SimulationService/{method}")

    assert refused(lambda: list(call(iter(()), timeout=PATIENCE_S))).code() == INVALID


@pytest.mark.parametrize(
    "method", ["CreateSimulation", "RunSimulation", "ListSimulations", "StreamEvents"]
)
def test_a_message_that_is_too_long_is_refused(peer: Peer, method: str) -> None:
    call: Any = peer.channel.stream_stream(f"/faultlane.v1.SimulationService/{method}")
    message = bytes(REQUEST_BYTES_MAX + 1)

    assert refused(lambda: list(call(iter([message]), timeout=PATIENCE_S))).code() == EXHAUSTED


def test_metadata_that_is_too_long_is_refused(peer: Peer) -> None:
    request = catalog_service_pb2.ListPoliciesRequest()
    metadata = tuple((f"x-{number}", "x" * 8000) for number in range(20))

    error = refused(
        lambda: peer.catalog.ListPolicies(request, metadata=metadata, timeout=PATIENCE_S)
    )

    assert error.code() == EXHAUSTED


def test_who_has_no_token_is_refused_before_the_request_is_read(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its call is over before anything of it has come."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    add_token(path, "alice", Role.READ)
    peer = servers.start(security=Security(tokens=TokenFile(path)))
    call: Any = peer.channel.stream_stream("/faultlane.v1.SimulationService/CreateSimulation")
    over = threading.Event()

    error = refused(lambda: list(call(silence(over), timeout=PATIENCE_S)))

    over.set()
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "name",
    [
        "simulations/../../etc/passwd",
        "simulations/..",
        "simulations/%2e%2e",
        "../simulations/a",
        "/etc/passwd",
        "simulations/a\0b",
        "simulations/a\n",
        "simulations/a/../b",
        "simulations/' OR 1=1 --",
        "simulations/" + "a" * 65,
    ],
)
def test_a_name_is_no_path(peer: Peer, name: str) -> None:
    calls = [
        lambda: get(peer, name),
        lambda: peer.simulations.DeleteSimulation(pb.DeleteSimulationRequest(name=name)),
        lambda: list(peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name))),
    ]

    assert [refused(call).code() for call in calls] == [INVALID] * 3


@pytest.mark.parametrize(
    "preset", ["../first-look", "/etc/passwd", "..", "first-look\0", "x" * 999]
)
def test_the_id_of_a_preset_is_no_path(peer: Peer, preset: str) -> None:
    request = catalog_service_pb2.GetPresetRequest(id=preset)

    error = refused(lambda: peer.catalog.GetPreset(request))

    assert error.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "text", ["../../x", "'; DROP TABLE simulations; --", "\0", "\r\n{}", "%s%n"]
)
def test_text_is_text_wherever_it_stands(peer: Peer, text: str) -> None:
    made = create(peer, request_id=text, options=RunOptions(labels={"a": text}))
    request = pb.ListSimulationsRequest(labels={"a": text})

    assert create(peer, request_id=text, options=RunOptions(labels={"a": text})).name == made.name
    assert [each.name for each in peer.simulations.ListSimulations(request).simulations] == [
        made.name
    ]


# Streams.

STREAMS = 1500


def test_of_thousands_of_streams_of_one_client_the_rest_is_refused(servers: Servers) -> None:
    """Others still have theirs, and when they end there is room again."""
    limits = Limits(2, owner=OwnerLimits(streams_max=1000))
    gate = Gate()
    peer = servers.start(an_engine(on_slice=lambda _: gate.pass_through()), limits)
    request = pb.WatchSimulationRequest(name=create(peer).name)
    assert gate.reached.wait(PATIENCE_S)

    streams = [peer.simulations.WatchSimulation(request) for _ in range(STREAMS)]
    codes = [outcome(stream) for stream in streams]

    assert Counter(codes) == {grpc.StatusCode.OK: 1000, EXHAUSTED: STREAMS - 1000}
    for stream in streams:
        stream.cancel()
    assert has_room_soon(peer, request)
    gate.opened.set()


def outcome(stream: Iterator[object]) -> grpc.StatusCode:
    """How a stream begins."""
    try:
        next(stream)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def has_room_soon(peer: Peer, request: pb.WatchSimulationRequest) -> bool:
    """The server hears in a moment that a client has gone."""
    for _ in range(1000):
        stream = peer.simulations.WatchSimulation(request, timeout=PATIENCE_S)
        if outcome(stream) == grpc.StatusCode.OK:
            stream.cancel()
            return True
    return False


def test_all_owners_together_have_no_more_streams_than_the_server(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(
        an_engine(on_slice=lambda _: gate.pass_through()), Limits(1, streams_max=2)
    )
    request = pb.WatchSimulationRequest(name=create(peer).name)
    streams = [peer.simulations.WatchSimulation(request) for _ in range(2)]
    for stream in streams:
        next(stream)

    error = refused(lambda: next(peer.simulations.WatchSimulation(request)))

    assert reason(error) == "TOO_MANY_STREAMS"
    gate.opened.set()


@pytest.mark.parametrize("files_max", [256, 1024, 20_000, 1 << 20])
def test_as_many_streams_and_connections_as_files_may_be_open(files_max: int) -> None:
    limits = within_files(Limits(4), files_max)

    assert limits.connections_max + 4 * limits.streams_max <= files_max
    assert limits.streams_max >= 8
    assert limits.connections_max >= 64


def test_streams_up_to_the_limit_do_not_use_up_the_files(servers: Servers) -> None:
    """With 512 files for the process: each stream of a run reads two logs, by four files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        limits = within_files(Limits(2, heartbeat_s=0.1), 512)
        peer = servers.start(an_engine(slices=0, on_slice=endless), limits)
        request = pb.RunSimulationRequest(scenario=a_scenario(), request_id="ours")
        streams = [peer.simulations.RunSimulation(request) for _ in range(limits.streams_max)]
        for stream in streams:
            assert next(message for message in stream if message.faults.start_ns)
        error = refused(lambda: list(peer.simulations.RunSimulation(request)))
        assert reason(error) == "TOO_MANY_STREAMS"
        for stream in streams:
            stream.cancel()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_who_watches_the_health_too_often_keeps_nobody_from_calling(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no token, so anybody can."""
    monkeypatch.setattr("faultlane_server.service.guard.OPEN_MAX", 20)
    address = servers.server().address
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(50)]
        codes = [outcome(watch) for watch in watches]

        assert Counter(codes) == {grpc.StatusCode.OK: 20, EXHAUSTED: 30}
        assert is_served(address)
        for watch in watches:
            watch.cancel()


def test_attempts_with_wrong_tokens_cost_the_one_with_the_token_nothing(
    tmp_path: Path,
) -> None:
    """The quota of calls is counted for good tokens alone."""
    path = tmp_path / "tokens"
    secret = add_token(path, "alice", Role.READ)
    path.write_text(f"{path.read_text().strip()} calls_per_minute_max=1")
    access = Access(TokenFile(path), clock_s=lambda: 0.0)
    method = "/faultlane.v1.CatalogService/ListKernels"
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            access.admit(method, [("authorization", "Bearer wrong")])

    assert access.admit(method, [("authorization", f"Bearer {secret}")])
