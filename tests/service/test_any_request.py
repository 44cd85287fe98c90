"""Whatever somebody sends, the scenario is accepted or named as invalid: nothing else happens."""

import random
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultlane.v1 import scenario_pb2 as pb
from faultlane.v1 import simulation_service_pb2
from faultlane_server.runs import Limits, digest_of
from faultlane_server.scenario import Scenario, Violation
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.service.translate import scenario_from_wire
from tests.fuzz.mutate import change_something
from tests.service.fake import PATIENCE_S, Peer, Servers, a_scenario, an_engine, run
from tests.service.test_bad_scenarios import a_plain_scenario, message


def answer_to(scenario: pb.Scenario) -> Scenario | tuple[Violation, ...]:
    try:
        return scenario_from_wire(scenario)
    except InvalidRequest as refused:
        return refused.violations


@settings(max_examples=600, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 12))
def test_every_scenario_is_accepted_or_refused(seed: int, changes: int) -> None:
    chance = random.Random(seed)
    scenario = chance.choice([a_scenario(), message(a_plain_scenario())])
    for _ in range(changes):
        change_something(scenario, chance)

    answer = answer_to(scenario)

    if isinstance(answer, Scenario):
        assert digest_of(answer, 1) == digest_of(scenario_from_wire(scenario), 1)
    else:
        assert answer
        assert all(v.field.startswith("scenario") and v.want for v in answer)


def test_some_of_them_are_accepted() -> None:
    """Else the test above would test little."""
    accepted = 0
    for seed in range(200):
        scenario = a_scenario()
        change_something(scenario, random.Random(seed))
        accepted += isinstance(answer_to(scenario), Scenario)
    assert 40 < accepted < 160


def test_more_messages_than_can_be_read_in_time_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("faultlane_server.service.reader.MESSAGES_MAX", 20)
    scenario = a_scenario()
    assert isinstance(answer_to(scenario), Scenario)
    for _ in range(10):
        scenario.workload.processes[0].groups[0].program.add(barrier=pb.Barrier(name="all"))

    with pytest.raises(InvalidRequest) as caught:
        scenario_from_wire(scenario)

    assert [violation.field for violation in caught.value.violations] == ["scenario"]


@pytest.fixture(scope="module")
def busy(module_servers: Servers) -> tuple[Peer, str]:
    """A server, and the name of one of its simulations."""
    peer = module_servers.start(an_engine(slices=1), Limits(workers=2, heartbeat_s=0.05))
    return peer, run(peer).name


RPCS = list(simulation_service_pb2.DESCRIPTOR.services_by_name["SimulationService"].methods)
NEVER = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
@given(seed=st.integers(0, 2**32), changes=st.integers(0, 6))
def test_every_call_is_answered_or_refused(
    busy: tuple[Peer, str], rpc: MethodDescriptor, seed: int, changes: int
) -> None:
    peer, name = busy
    chance = random.Random(seed)
    request: Any = GetMessageClass(rpc.input_type)()
    if "name" in rpc.input_type.fields_by_name:
        request.name = chance.choice([name, name, "simulations/nobody"])
    if "scenario" in rpc.input_type.fields_by_name:
        request.scenario.CopyFrom(a_scenario(seed=chance.randrange(5)))
    for _ in range(changes):
        change_something(request, chance)

    try:
        answer = getattr(peer.simulations, rpc.name)(request, timeout=PATIENCE_S)
        if rpc.server_streaming:
            list(answer)
        code = grpc.StatusCode.OK
    except grpc.RpcError as error:
        code = error.code()
    assert code not in NEVER
