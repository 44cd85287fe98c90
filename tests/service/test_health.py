"""A server says that it serves when it does, and stops saying so before it stops."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from faultlane.v1 import catalog_service_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Limits, ShuttingDown
from faultlane_server.service.local import LocalServer
from faultlane_server.store import LOG_FORMAT
from tests.service.fake import PATIENCE_S, Gate, Peer, Servers, a_scenario, an_engine, detail

NAMES = ["", "faultlane.v1.SimulationService", "faultlane.v1.CatalogService"]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def stub(peer: Peer) -> Any:
    return health_pb2_grpc.HealthStub(peer.channel)


def health(peer: Peer, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return int(stub(peer).Check(request, timeout=PATIENCE_S).status)


def test_it_is_not_serving_until_the_kernels_are_loaded(servers: Servers) -> None:
    gate = Gate()
    server = LocalServer(engine=an_engine(warm_up=gate.pass_through))
    peer = servers.peer(server.listen())
    assert gate.reached.wait(PATIENCE_S)

    assert [health(peer, name) for name in NAMES] == [NOT_SERVING] * 3
    with pytest.raises(grpc.RpcError) as caught:
        peer.simulations.CreateSimulation(pb.CreateSimulationRequest(scenario=a_scenario()))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert detail(caught.value, details.ErrorInfo).reason == "NOT_READY"
    assert detail(caught.value, details.RetryInfo).retry_delay.seconds >= 1
    assert peer.catalog.ListPolicies(catalog_service_pb2.ListPoliciesRequest()).policies

    gate.opened.set()
    server.wait_until_ready()
    assert [health(peer, name) for name in NAMES] == [SERVING] * 3
    peer.simulations.CreateSimulation(pb.CreateSimulationRequest(scenario=a_scenario()))
    server.close()


def test_it_stops_serving_before_it_stops(servers: Servers) -> None:
    """Whoever watches is told while the last slice still runs."""
    gate = Gate()
    server = servers.server(an_engine(on_slice=lambda _: gate.pass_through()))
    peer = servers.peer(server.address)
    watch = stub(peer).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == SERVING
    peer.simulations.CreateSimulation(pb.CreateSimulationRequest(scenario=a_scenario()))
    assert gate.reached.wait(PATIENCE_S)

    server.begin_to_close()

    assert next(watch).status == NOT_SERVING
    gate.opened.set()


def test_a_server_whose_kernels_do_not_load_says_why() -> None:
    def fail() -> None:
        raise MemoryError("no room for kernels")

    with pytest.raises(MemoryError, match="no room for kernels"):
        LocalServer(engine=an_engine(warm_up=fail)).start()


def test_a_server_can_be_ended_while_its_kernels_load() -> None:
    """They may compile for minutes, for which nobody waits who presses Ctrl-C."""
    gate = Gate()
    server = LocalServer(engine=an_engine(warm_up=gate.pass_through))
    server.listen()
    assert gate.reached.wait(PATIENCE_S)

    server.close()

    assert not gate.opened.is_set()
    with pytest.raises(ShuttingDown):
        server.wait_until_ready()
    gate.opened.set()


def test_two_servers_never_share_a_port(servers: Servers) -> None:
    first, second = servers.server(), servers.server()

    assert first.address != second.address


def test_reflection_tells_of_every_service(peer: Peer) -> None:
    services = ProtoReflectionDescriptorDatabase(peer.channel).get_services()

    assert {*NAMES[1:], "grpc.health.v1.Health"} <= set(services)


def test_the_server_tells_its_limits(servers: Servers) -> None:
    peer = servers.start(limits=Limits(workers=3, queued_max=5))

    info = peer.catalog.GetServerInfo(catalog_service_pb2.GetServerInfoRequest())

    assert (info.workers, info.model_version, info.log_format) == (3, 7, LOG_FORMAT)
    assert info.limits["queued_simulations"] == 5
    assert info.limits["threads"] == 65536
    assert info.version
