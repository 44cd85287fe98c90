"""Who may call, and what they learn: each wrong way in is refused with the right status."""

import asyncio
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2 as details
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

import faultlane
from faultlane import Access, AsyncClient, Client, errors
from faultlane import v1 as messages
from faultlane.cli.app import app as client_app
from faultlane.v1 import catalog_service_pb2, simulation_service_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.cli import app as server_app
from faultlane_server.config import BadSettings, Settings
from faultlane_server.runs import Limits
from faultlane_server.service.access import NEEDS
from faultlane_server.service.server import Security
from faultlane_server.service.tls import BadCertificates, TlsFiles, server_credentials
from faultlane_server.service.tokens import Role, TokenFile, add_token, line_of
from tests.service.certificates import DAY, Authority, Pair
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    cancel,
    create,
    delete,
    detail,
    endless,
    get,
    reason,
    refused,
    run,
    starts,
    wait,
)
from tests.serving import COMMAND

SERVICES = [
    simulation_service_pb2.DESCRIPTOR.services_by_name["SimulationService"],
    catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
]
RPCS = [rpc for service in SERVICES for rpc in service.methods]


class Guarded(NamedTuple):
    """A server that wants tokens."""

    address: str
    path: Path  # of its tokens
    secrets: dict[str, str]  # by the name and role of a token
    stack: ExitStack

    def peer(self, secret: str | None) -> Peer:
        channel = Access(token=secret).channel(self.address)
        return Peer(self.stack.enter_context(channel))

    def of(self, who: str) -> Peer:
        return self.peer(self.secrets[who])


@pytest.fixture
def guarded(servers: Servers, tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    """Starts a server with tokens for alice, bob and an admin."""
    path = tmp_path / "tokens"
    secrets = {
        "alice": add_token(path, "alice", Role.SUBMIT),
        "alice reads": add_token(path, "alice", Role.READ),
        "bob": add_token(path, "bob", Role.SUBMIT),
        "admin": add_token(path, "boss", Role.ADMIN),
    }
    with ExitStack() as stack:

        def start(engine: Any = None, limits: Limits | None = None, **security: Any) -> Guarded:
            settings = Security(tokens=TokenFile(path), **security)
            server = servers.server(engine, limits, security=settings)
            return Guarded(server.address, path, secrets, stack)

        yield start


def call(peer: Peer, rpc: Any) -> grpc.RpcError | None:
    """Call with an empty request, and return the error."""
    stub = peer.simulations if rpc in SERVICES[0].methods else peer.catalog
    try:
        answer = getattr(stub, rpc.name)(GetMessageClass(rpc.input_type)(), timeout=PATIENCE_S)
        if rpc.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return error
    return None


def code_of(error: grpc.RpcError | None) -> grpc.StatusCode:
    return error.code() if error else grpc.StatusCode.OK


# Tokens.


def test_every_rpc_says_what_role_it_needs() -> None:
    ours = {f"/{rpc.containing_service.full_name}/{rpc.name}" for rpc in RPCS}

    assert {method for method in NEEDS if method.startswith("/faultlane.")} == ours


@pytest.mark.parametrize("secret", [None, "wrong", "", "sha256:" + "0" * 64, "x" * 4000])
def test_without_a_good_token_no_rpc_does_anything(
    guarded: Callable[..., Guarded], secret: str | None
) -> None:
    server = guarded()
    peer = server.peer(secret)

    for rpc in RPCS:
        error = call(peer, rpc)
        assert code_of(error) == grpc.StatusCode.UNAUTHENTICATED, rpc.name
        assert error is not None
        assert reason(error) == ("WRONG_TOKEN" if secret else "NO_TOKEN")
        trailers: Any = error.trailing_metadata()
        assert dict(trailers)["www-authenticate"] == 'Bearer realm="faultlane"'


@pytest.mark.parametrize("shown", ["Basic {}", "{}", "bearer", "Bearer {} {}"])
def test_a_token_in_another_form_is_no_token(guarded: Callable[..., Guarded], shown: str) -> None:
    server = guarded()
    value = shown.replace("{}", server.secrets["alice"])
    metadata = (("authorization", value),)

    with pytest.raises(grpc.RpcError) as caught:
        server.peer(None).catalog.ListPolicies(
            catalog_service_pb2.ListPoliciesRequest(), metadata=metadata
        )

    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_two_tokens_at_once_are_refused(guarded: Callable[..., Guarded]) -> None:
    """Else it would depend on somebody's parser whose call it is."""
    server = guarded()
    metadata = tuple(
        ("authorization", f"Bearer {server.secrets[who]}") for who in ("alice", "admin")
    )

    with pytest.raises(grpc.RpcError) as caught:
        server.peer(None).catalog.ListPolicies(
            catalog_service_pb2.ListPoliciesRequest(), metadata=metadata
        )

    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_role_may_do_what_it_needs_and_nothing_more(guarded: Callable[..., Guarded]) -> None:
    server = guarded()
    for rpc in RPCS:
        needs = NEEDS[f"/{rpc.containing_service.full_name}/{rpc.name}"]
        for who, role in (("alice reads", Role.READ), ("alice", Role.SUBMIT)):
            error = call(server.of(who), rpc)
            if role >= needs:
                assert code_of(error) not in (
                    grpc.StatusCode.PERMISSION_DENIED,
                    grpc.StatusCode.UNAUTHENTICATED,
                )
                continue
            assert error is not None
            assert code_of(error) == grpc.StatusCode.PERMISSION_DENIED, rpc.name
            info = detail(error, details.ErrorInfo)
            assert info.reason == "ROLE"
            assert dict(info.metadata) == {"role": "read", "needs": "submit"}


def test_simulations_of_others_are_neither_readable_nor_countable(
    guarded: Callable[..., Guarded],
) -> None:
    server = guarded(an_engine(slices=3))
    alice, bob = server.of("alice"), server.of("bob")
    name = run(alice).name
    calls: list[Callable[[], object]] = [
        lambda: get(bob, name),
        lambda: wait(bob, name),
        lambda: starts(bob, name),
        lambda: list(bob.simulations.StreamOperations(pb.StreamOperationsRequest(name=name))),
        lambda: cancel(bob, name),
        lambda: delete(bob, name),
        lambda: bob.simulations.ExplainFault(pb.ExplainFaultRequest(name=name, fault=0)),
    ]
    missing = "simulations/00000000000000000000000000000000"

    found = [refused(one) for one in calls]
    of_nobody = refused(lambda: get(bob, missing))

    for error in found:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        said = str(error.details()).replace(name, missing)
        assert said == of_nobody.details(), "what is there and what is not must look alike"
    assert listed(bob) == []
    assert listed(server.of("alice reads")) == [name]
    assert get(alice, name).state == messages.SimulationState.SIMULATION_STATE_SUCCEEDED


def test_a_page_token_does_not_tell_how_many_simulations_others_have(
    guarded: Callable[..., Guarded],
) -> None:
    """Two lists of the same length, with others' simulations in between: no pattern to see."""
    server = guarded()
    bob = server.of("bob")
    tokens = []
    for _ in range(8):
        create(bob)
        create(bob)
        page = bob.simulations.ListSimulations(pb.ListSimulationsRequest(page_size=1))
        tokens += [page.next_page_token]
        again = bob.simulations.ListSimulations(pb.ListSimulationsRequest(page_size=1))
        assert again.next_page_token != page.next_page_token, "the same number looks another way"

    assert all(re.fullmatch(r"[0-9a-f]{48}", token) for token in tokens)
    request = pb.ListSimulationsRequest(page_token="0" * 48)
    assert refused(lambda: bob.simulations.ListSimulations(request)).code() == (
        grpc.StatusCode.INVALID_ARGUMENT
    )


def test_a_request_id_of_somebody_else_is_free(guarded: Callable[..., Guarded]) -> None:
    server = guarded()

    names = {create(server.of(who), request_id="mine").name for who in ("alice", "bob")}

    assert len(names) == 2


def test_an_admin_reads_counts_and_ends_what_others_have(guarded: Callable[..., Guarded]) -> None:
    server = guarded(an_engine(slices=0, on_slice=endless))
    boss = server.of("admin")
    names = [create(server.of(who)).name for who in ("alice", "bob")]

    assert sorted(listed(boss)) == sorted(names)
    assert [get(boss, name).owner for name in names] == ["alice", "bob"]
    for name in names:
        cancel(boss, name)
        delete(boss, name)
    assert listed(boss) == []


def test_a_token_that_is_taken_back_ends_its_open_streams(
    guarded: Callable[..., Guarded],
) -> None:
    server = guarded(an_engine(slices=0, on_slice=endless), Limits(2, heartbeat_s=0.02))
    name = create(server.of("alice")).name
    stream = server.of("alice").simulations.WatchSimulation(
        pb.WatchSimulationRequest(name=name), timeout=PATIENCE_S
    )
    next(stream)

    draft = server.path.with_name("draft")
    draft.write_text(line_of("bob", Role.SUBMIT, server.secrets["bob"]))
    draft.replace(server.path)

    error = refused(lambda: list(stream))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert call(server.of("bob"), SERVICES[1].methods_by_name["ListKernels"]) is None


# Quotas.


def say(path: Path, name: str, quota: str) -> None:
    """Give a quota to a name."""
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith(f"{name} "))
    lines[number] += f" {quota}"
    draft = path.with_name("draft")
    draft.write_text("\n".join(lines))
    draft.replace(path)


def test_a_quota_of_calls_is_for_one_name_and_says_when_to_come_back(
    guarded: Callable[..., Guarded],
) -> None:
    server = guarded()
    say(server.path, "alice", "calls_per_minute_max=5")
    rpc = SERVICES[1].methods_by_name["ListKernels"]

    found = [call(server.of("alice"), rpc) for _ in range(8)]

    assert [code_of(error) for error in found[:5]] == [grpc.StatusCode.OK] * 5
    for error in found[5:]:
        assert error is not None
        assert (code_of(error), reason(error)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_CALLS",
        )
        assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
    assert call(server.of("bob"), rpc) is None


def test_quotas_of_what_waits_and_of_streams_are_for_one_name(
    guarded: Callable[..., Guarded],
) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    server = guarded(engine, Limits(workers=1))
    say(server.path, "alice", "queued_max=1 streams_max=1")
    alice = server.of("alice")
    running = create(alice).name
    assert gate.reached.wait(PATIENCE_S)
    create(alice, seed=2)

    queue_full = refused(lambda: create(alice, seed=3))
    streams = [
        alice.simulations.WatchSimulation(pb.WatchSimulationRequest(name=running)) for _ in range(2)
    ]
    next(streams[0])
    too_many = refused(lambda: next(streams[1]))

    assert reason(queue_full) == "QUEUE_FULL"
    assert reason(too_many) == "TOO_MANY_STREAMS"
    create(server.of("bob"), seed=4)
    gate.opened.set()


def test_a_quota_of_the_disk_is_for_one_name(guarded: Callable[..., Guarded]) -> None:
    server = guarded(an_engine(slices=100))
    say(server.path, "alice", "disk_mib_max=1")
    for who in ("alice", "bob"):
        run(server.of(who), options=messages.RunOptions(skip_cache=True))

    assert reason(refused(lambda: create(server.of("alice"), seed=2))) == "DISK_FULL"
    create(server.of("bob"), seed=2)


def test_how_many_run_at_once_can_be_a_quota(guarded: Callable[..., Guarded]) -> None:
    gate = Gate()
    server = guarded(an_engine(on_slice=lambda _: gate.pass_through()), Limits(workers=2))
    say(server.path, "alice", "running_max=1")
    alice = server.of("alice")
    names = [create(alice, seed=seed).name for seed in (1, 2)]
    bobs = create(server.of("bob"), seed=3).name
    for state in watched(server.of("bob"), bobs):
        if state == messages.SimulationState.SIMULATION_STATE_RUNNING:
            break

    states = [get(alice, name).state for name in names]

    assert states[1] == messages.SimulationState.SIMULATION_STATE_QUEUED
    gate.opened.set()
    assert wait(alice, names[1]).state == messages.SimulationState.SIMULATION_STATE_SUCCEEDED


def watched(peer: Peer, name: str) -> Iterator[int]:
    request = pb.WatchSimulationRequest(name=name)
    for message in peer.simulations.WatchSimulation(request, timeout=PATIENCE_S):
        yield message.simulation.state


def listed(peer: Peer) -> list[str]:
    page = peer.simulations.ListSimulations(pb.ListSimulationsRequest(), timeout=PATIENCE_S)
    return [each.name for each in page.simulations]


# What is not ours: health, reflection, channelz.


def test_health_needs_no_token(guarded: Callable[..., Guarded]) -> None:
    stub: Any = health_pb2_grpc.HealthStub(guarded().peer(None).channel)

    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert next(stub.Watch(health_pb2.HealthCheckRequest())).status == answer.status
    unknown = refused(lambda: stub.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert unknown.code() == grpc.StatusCode.NOT_FOUND


def reflect(peer: Peer) -> grpc.RpcError | None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(peer.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    try:
        next(stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE_S))
    except grpc.RpcError as error:
        return error
    return None


def sockets(peer: Peer) -> grpc.RpcError | None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(peer.channel)
    try:
        stub.GetServers(channelz_pb2.GetServersRequest(), timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return error
    return None


def signed(server: Guarded, who: str) -> Peer:
    """A peer whose calls of all kinds carry a token: reflection has a stream of requests."""

    class Sign(grpc.StreamStreamClientInterceptor, grpc.UnaryUnaryClientInterceptor):
        def intercept_stream_stream(self, call: Any, details: Any, requests: Any) -> Any:
            return call(self._signed(details), requests)

        def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
            return call(self._signed(details), request)

        def _signed(self, details: Any) -> Any:
            shown = ("authorization", f"Bearer {server.secrets[who]}")
            return details._replace(metadata=(shown,))

    channel = server.stack.enter_context(grpc.insecure_channel(server.address))
    return Peer(grpc.intercept_channel(channel, Sign()))


def test_reflection_needs_a_token_and_channelz_an_admins(
    guarded: Callable[..., Guarded],
) -> None:
    server = guarded(channelz=True)

    assert code_of(reflect(server.peer(None))) == grpc.StatusCode.UNAUTHENTICATED
    assert reflect(signed(server, "alice reads")) is None
    assert code_of(sockets(server.peer(None))) == grpc.StatusCode.UNAUTHENTICATED
    assert code_of(sockets(signed(server, "alice"))) == grpc.StatusCode.PERMISSION_DENIED
    assert sockets(signed(server, "admin")) is None


def test_reflection_and_channelz_can_be_switched_off(servers: Servers) -> None:
    closed = servers.start(security=Security(reflection=False))
    usual = servers.start()

    assert code_of(reflect(closed)) == grpc.StatusCode.UNIMPLEMENTED
    assert code_of(sockets(closed)) == grpc.StatusCode.UNIMPLEMENTED
    assert reflect(usual) is None
    assert code_of(sockets(usual)) == grpc.StatusCode.UNIMPLEMENTED


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def tls_server(
    servers: Servers, authority: Authority, *, asks: bool = False, pair: Pair | None = None
) -> str:
    pair = pair or authority.pair("server")
    files = TlsFiles(pair.cert, pair.key, authority.cert if asks else None)
    return servers.server(security=Security(tls=files)).address


def info_of(address: str, access: Access) -> messages.GetServerInfoResponse:
    with Client.connect(address, access) as client:
        return client.get_server_info(timeout_s=5)


def test_tls_is_spoken_with_who_trusts_the_certificate_and_with_nobody_else(
    servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    address = tls_server(servers, authority)

    assert info_of(address, Access(ca=authority.cert)).version
    for access in (Access(), Access(tls=True), Access(ca=Authority(tmp_path).cert)):
        with pytest.raises((errors.Unavailable, errors.TimedOut)):
            info_of(address, access)


def test_who_shows_no_certificate_or_a_wrong_one_is_not_heard(
    servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    address = tls_server(servers, authority, asks=True)
    good, expired = authority.pair("alice"), authority.pair("alice", valid=-DAY)
    foreign = Authority(tmp_path, "authority").pair("alice")

    assert info_of(address, Access(ca=authority.cert, cert=good.cert, key=good.key)).version
    for pair in (expired, foreign):
        with pytest.raises((errors.Unavailable, errors.TimedOut)):
            info_of(address, Access(ca=authority.cert, cert=pair.cert, key=pair.key))
    with pytest.raises((errors.Unavailable, errors.TimedOut)):
        info_of(address, Access(ca=authority.cert))


def test_a_server_whose_certificate_has_expired_is_not_trusted(
    servers: Servers, authority: Authority
) -> None:
    address = tls_server(servers, authority, pair=authority.pair("server", valid=-DAY))

    with pytest.raises((errors.Unavailable, errors.TimedOut)):
        info_of(address, Access(ca=authority.cert))


def test_the_name_in_a_certificate_owns_what_its_client_asks_for(
    servers: Servers, authority: Authority
) -> None:
    address = tls_server(servers, authority, asks=True)
    alice, bob = (
        Access(ca=authority.cert, cert=pair.cert, key=pair.key)
        for pair in map(authority.pair, ("alice", "bob"))
    )
    with Client.connect(address, alice) as client, Client.connect(address, bob) as other:
        run = client.submit(a_scenario())

        assert client.get_simulation(run.name).owner == "alice"
        assert list(other.list_simulations()) == []
        with pytest.raises(errors.NoSuchSimulation):
            other.get_simulation(run.name)


def test_a_certificate_is_renewed_without_a_restart(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pair that does not fit, as between two copies, leaves the one before."""
    old, new = Authority(tmp_path / "old", "old"), Authority(tmp_path / "new", "new")
    pair, fresh = old.pair("server"), new.pair("server")
    address = tls_server(servers, old, pair=pair)
    assert info_of(address, Access(ca=old.cert)).version

    os.replace(fresh.cert, pair.cert)
    assert info_of(address, Access(ca=old.cert)).version
    assert "the certificates stay as they were" in caplog.text
    os.replace(fresh.key, pair.key)

    assert info_of(address, Access(ca=new.cert)).version
    with pytest.raises((errors.Unavailable, errors.TimedOut)):
        info_of(address, Access(ca=old.cert))


def test_certificates_that_cannot_be_used_are_told_at_once(
    authority: Authority, tmp_path: Path
) -> None:
    one, other = authority.pair("one"), authority.pair("other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for files in (
        TlsFiles(one.cert, other.key, None),
        TlsFiles(nonsense, one.key, None),
        TlsFiles(one.cert, tmp_path / "missing", None),
        TlsFiles(one.cert, one.key, nonsense),
    ):
        with pytest.raises(BadCertificates):
            server_credentials(files)


# The SDK.


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Callable[[str, Access], Any]:
    """Asks a server for its limits and a run, with either client."""

    def ask(address: str, access: Access) -> str:
        with Client.connect(address, access) as client, client.run(a_scenario()) as run:
            return run.result().owner

    def ask_async(address: str, access: Access) -> str:
        async def asked() -> str:
            async with AsyncClient.connect(address, access) as client:
                run = await client.run(a_scenario())
                return (await run.result()).owner

        return asyncio.run(asked())

    return ask if request.param == "Client" else ask_async


def test_both_clients_show_their_token_with_every_call(
    guarded: Callable[..., Guarded], connect: Callable[[str, Access], str]
) -> None:
    server = guarded()

    assert connect(server.address, Access(token=server.secrets["alice"])) == "alice"
    with pytest.raises(errors.Unauthenticated):
        connect(server.address, Access())
    with pytest.raises(errors.NotAllowed):
        connect(server.address, Access(token=server.secrets["alice reads"]))


def test_tokens_and_tls_go_together(
    servers: Servers, authority: Authority, tmp_path: Path, connect: Callable[[str, Access], str]
) -> None:
    path = tmp_path / "tokens"
    secret = add_token(path, "alice", Role.SUBMIT)
    pair, own = authority.pair("server"), authority.pair("somebody")
    files = TlsFiles(pair.cert, pair.key, authority.cert)
    address = servers.server(security=Security(files, TokenFile(path))).address
    shown: dict[str, Any] = {"ca": authority.cert, "cert": own.cert, "key": own.key}

    assert connect(address, Access(token=secret, **shown)) == "alice"
    with pytest.raises(errors.Unauthenticated):
        connect(address, Access(**shown))


@pytest.mark.parametrize(
    "address", ["faultlane.example:50051", "10.0.0.1:50051", "[::2]:1", "dns:///127.0.0.1:1", "x"]
)
def test_no_client_sends_a_token_to_another_machine_in_plain_text(address: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(errors.InvalidRequest, match="TLS where a token is sent") as caught:
            client.connect(address, Access(token="secret-of-mine"))
        assert "secret-of-mine" not in str(caught.value)


def test_what_is_shown_can_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n")

    assert Access.from_environment({}) == Access()
    assert Access.from_environment({"FAULTLANE_TLS": "0", "FAULTLANE_TOKEN": ""}) == Access()
    assert Access.from_environment({"FAULTLANE_TOKEN_FILE": str(file)}).token == "from the file"
    assert Access.from_environment(
        {
            "FAULTLANE_TOKEN": "t",
            "FAULTLANE_TLS": "1",
            "FAULTLANE_CA": "a",
            "FAULTLANE_CERT": "c",
            "FAULTLANE_KEY": "k",
        }
    ) == Access("t", True, "a", "c", "k")


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (Access(cert="a"), "both of cert and key"),
        (Access(ca="/nowhere/ca.pem"), "No such file"),
        (Access(token="ä"), "printable ASCII"),
        (Access(token="a\nb"), "printable ASCII"),
    ],
)
def test_what_cannot_be_shown_is_an_error_that_names_it(access: Access, said: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        Client.connect("127.0.0.1:1", access)


def test_a_token_is_not_in_the_repr() -> None:
    assert "secret" not in repr(Access(token="secret"))


def test_a_local_server_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment has for other servers."""
    seen: list[Access] = []
    monkeypatch.setenv("FAULTLANE_TOKEN", "secret")
    monkeypatch.setattr("faultlane_server.service.local.LocalServer.start", lambda _: "x:1")
    monkeypatch.setattr(
        Client, "connect", classmethod(lambda _, address, access, **__: seen.append(access))
    )

    faultlane.local()

    assert seen == [Access()]


# The commands.


def test_the_command_shows_a_token_from_a_file_or_from_the_environment(
    guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    server = guarded()
    file = tmp_path / "token"
    file.write_text(server.secrets["alice reads"])
    on = ["--server", server.address]
    environment = {
        "FAULTLANE_SERVER": server.address,
        "FAULTLANE_TOKEN": server.secrets["alice reads"],
    }

    by_file = CliRunner().invoke(client_app, ["--token-file", str(file), "policies", *on])
    by_environment = CliRunner().invoke(client_app, ["policies"], env=environment)
    without = CliRunner().invoke(client_app, ["policies", *on])
    not_allowed = CliRunner().invoke(
        client_app, ["--token-file", str(file), "run", "first-look", *on]
    )
    no_file = CliRunner().invoke(client_app, ["--token-file", "/nowhere", "policies", *on])

    assert by_file.exit_code == by_environment.exit_code == 0
    assert "rfc" in by_file.output
    assert "rfc" in by_environment.output
    assert (without.exit_code, not_allowed.exit_code, no_file.exit_code) == (7, 7, 2)
    assert "want a token" in without.output
    assert "role submit" in not_allowed.output
    assert "/nowhere" in no_file.output


def test_the_command_speaks_tls_and_shows_a_certificate(
    servers: Servers, authority: Authority
) -> None:
    address = tls_server(servers, authority, asks=True)
    own = authority.pair("alice")
    shown = ["--ca", str(authority.cert), "--cert", str(own.cert), "--key", str(own.key)]

    outcome = CliRunner().invoke(client_app, [*shown, "policies", "--server", address])

    assert outcome.exit_code == 0, outcome.output
    assert "rfc" in outcome.output


def test_the_health_check_speaks_tls(servers: Servers, authority: Authority) -> None:
    address = tls_server(servers, authority, asks=True)
    own = authority.pair("probe")
    environment = {
        "FAULTLANE_HEALTH_CA": str(authority.cert),
        "FAULTLANE_HEALTH_CERT": str(own.cert),
        "FAULTLANE_HEALTH_KEY": str(own.key),
        "FAULTLANE_HEALTH_SERVER_NAME": "localhost",
    }
    call = ["health", "--address", address]

    healthy = CliRunner().invoke(server_app, call, env=environment)
    unheard = CliRunner().invoke(server_app, call)
    no_file = CliRunner().invoke(server_app, [*call, "--ca", "/nowhere"])

    assert (healthy.exit_code, healthy.output) == (0, "SERVING\n")
    for outcome in (unheard, no_file):
        assert outcome.exit_code == 1
        assert outcome.output.startswith("UNREACHABLE: ")


def test_a_server_that_cannot_use_its_files_says_so(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.pair("one"), authority.pair("other")
    nonsense = tmp_path / "tokens"
    nonsense.write_text("nonsense")
    for said, want in (
        (["--tokens", str(nonsense)], "line 1: role: want read, submit or admin"),
        (["--tokens", "/nowhere"], "cannot be read"),
        (["--tls-cert", str(one.cert), "--tls-key", str(other.key)], "want a certificate, its key"),
    ):
        done = subprocess.run([*COMMAND, *said], capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert want in done.stderr
        assert "Traceback" not in done.stderr


# Settings.


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = dict.fromkeys(Settings.__dataclass_fields__)
    return Settings(**{**values, "host": "127.0.0.1", "port": 1, "limits": {}, **changes})


def test_an_address_beyond_loopback_needs_tls_or_a_word() -> None:
    pair = {"tls_cert": Path("c"), "tls_key": Path("k")}

    settings(host="0.0.0.0", **pair)
    settings(host="0.0.0.0", insecure=True)
    for changes, said in (
        ({"host": "0.0.0.0"}, "loopback address"),
        ({"host": "0.0.0.0", "tokens": Path("t")}, "loopback address"),
        ({"tls_cert": Path("c")}, "want both or none"),
        ({"tls_client_ca": Path("c")}, "--tls-cert and --tls-key with it"),
    ):
        with pytest.raises(BadSettings, match=said):
            settings(**changes)


# Nothing leaks.


def test_no_secret_is_in_a_message_or_in_the_log(
    guarded: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = guarded()
    secrets = [*server.secrets.values(), "faultlane_a-wrong-token"]
    said = []
    for secret in secrets:
        for rpc in RPCS:
            error = call(server.peer(secret), rpc)
            if error:
                said.append(str(error.details()) + str(error.trailing_metadata()))

    texts = [*said, caplog.text, *(str(vars(record)) for record in caplog.records)]
    assert said
    assert [secret for secret in secrets for text in texts if secret in text] == []
