"""Every error has the status that its proto promises, with details that a program can read."""

from collections.abc import Callable, Iterable

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import catalog_service_pb2, scenario_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import Limits
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    detail,
    status_of,
)

UINT64_MAX = 2**64 - 1
UINT32_MAX = 2**32 - 1


def create(peer: Peer, request_id: str = "", **changes: object) -> str:
    request = pb.CreateSimulationRequest(scenario=a_scenario(**changes), request_id=request_id)
    return peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation.name


def refused(method: Callable[..., object], request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=PATIENCE_S)
    return caught.value


def cut_off(method: Callable[..., Iterable[object]], request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        list(method(request, timeout=PATIENCE_S))
    return caught.value


def outcome(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """The status and the reason."""
    info = detail(error, details.ErrorInfo)
    assert info.domain == "faultlane"
    assert status_of(error).code == error.code().value[0]
    return error.code(), info.reason


def violations(error: grpc.RpcError) -> dict[str, str]:
    assert outcome(error) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    found = detail(error, details.BadRequest).field_violations
    return {entry.field: entry.description for entry in found}


def test_all_violations_of_a_request_are_told_at_once(peer: Peer) -> None:
    scenario = a_scenario(warmup_ns=2 * 10**9)
    scenario.machine.cpus = 9999
    (group,) = scenario.workload.processes[0].groups
    group.program.add(touch=scenario_pb2.Touch(vma="map", count=1))
    group.program.add()
    group.program.add(touch=scenario_pb2.Touch(vma="mop", uniform={}, access=77))  # type: ignore[arg-type]
    scenario.workload.files[0].initial.add()
    request = pb.RunSimulationRequest(
        scenario=scenario, request_id="x" * 129, batch_rows=UINT32_MAX
    )

    found = violations(cut_off(peer.simulations.RunSimulation, request))

    program = "scenario.workload.processes[0].groups[0].program"
    assert found.keys() == {
        "request_id",
        "batch_rows",
        "scenario.machine.cpus",
        "scenario.warmup_ns",
        "scenario.workload.files[0].initial[0].state",
        f"{program}[1].touch.pattern",
        f"{program}[2].kind",
        f"{program}[3].touch.access",
        f"{program}[3].touch.vma",
    }
    assert found["scenario.machine.cpus"] == "want 1 to 512, got 9999"
    assert found[f"{program}[3].touch.access"] == "want one of READ, EXEC, WRITE, got 77"


@pytest.mark.parametrize(
    ("scenario", "fields"),
    [
        (None, {"scenario"}),
        (
            scenario_pb2.Scenario(),
            {
                "scenario.workload",
                "scenario.machine",
                "scenario.kernel",
                "scenario.horizon_ns",
            },
        ),
        (a_scenario(horizon_ns=UINT64_MAX, seed=UINT64_MAX), {"scenario.horizon_ns"}),
        (a_scenario(attempts_max=UINT32_MAX), {"scenario.attempts_max"}),
        (a_scenario(recording={"kind": 99}), {"scenario.recording.kind"}),
        (a_scenario(kernel={"policy_id": "nonsense"}), {"scenario.kernel.policy_id"}),
        (
            a_scenario(machine={"costs_ns": {"nonsense": 1}}),
            {"scenario.machine.costs_ns"},
        ),
    ],
)
def test_a_field_that_makes_no_sense_is_named(
    peer: Peer, scenario: scenario_pb2.Scenario | None, fields: set[str]
) -> None:
    request = pb.CreateSimulationRequest(scenario=scenario)

    assert violations(refused(peer.simulations.CreateSimulation, request)).keys() == fields


def test_of_more_violations_than_fit_the_rest_is_counted(peer: Peer) -> None:
    """A trailer above 8 kB is lost, so try often enough to notice a limit that is only drawn."""
    scenario = a_scenario()
    for _ in range(1000):
        scenario.machine.devices.add(name="ä" * 200)
    request = pb.CreateSimulationRequest(scenario=scenario)

    for _ in range(20):
        found = violations(refused(peer.simulations.CreateSimulation, request))
        assert len(found) > 5
        assert found[""].startswith("and ")
        assert found[""].endswith(" more")


@pytest.mark.parametrize("name", ["", "nonsense", "simulations/", "simulations/A B", "sweeps/1"])
def test_a_name_that_cannot_be_one_is_an_invalid_argument(peer: Peer, name: str) -> None:
    service = peer.simulations
    errors = [
        refused(service.GetSimulation, pb.GetSimulationRequest(name=name)),
        refused(service.CancelSimulation, pb.CancelSimulationRequest(name=name)),
        cut_off(service.StreamEvents, pb.StreamEventsRequest(name=name)),
        cut_off(service.StreamOperations, pb.StreamOperationsRequest(name=name)),
    ]

    for error in errors:
        assert violations(error) == {"name": f"want simulations/{{id}}, got {name!r}"}


def test_a_simulation_that_nobody_made_is_not_found(peer: Peer) -> None:
    name = "simulations/nobody"
    service = peer.simulations
    errors = [
        refused(service.GetSimulation, pb.GetSimulationRequest(name=name)),
        refused(service.CancelSimulation, pb.CancelSimulationRequest(name=name)),
        cut_off(service.StreamEvents, pb.StreamEventsRequest(name=name)),
        cut_off(service.StreamOperations, pb.StreamOperationsRequest(name=name)),
    ]

    for error in errors:
        assert outcome(error) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_SIMULATION")
        found = detail(error, details.ResourceInfo)
        assert (found.resource_type, found.resource_name) == ("faultlane.v1.Simulation", name)


def test_a_preset_that_nobody_wrote_is_not_found(peer: Peer) -> None:
    error = refused(peer.catalog.GetPreset, catalog_service_pb2.GetPresetRequest(id="nonsense"))

    assert outcome(error) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_PRESET")
    assert detail(error, details.ResourceInfo).resource_name == "nonsense"


def test_a_request_id_of_another_scenario_is_taken(peer: Peer) -> None:
    name = create(peer, request_id="mine")
    request = pb.CreateSimulationRequest(scenario=a_scenario(seed=2), request_id="mine")

    error = refused(peer.simulations.CreateSimulation, request)

    assert outcome(error) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_TAKEN")
    assert detail(error, details.ResourceInfo).resource_name == name


def test_a_full_queue_says_when_to_come_back(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    peer = servers.start(engine, Limits(workers=1, queued_max=2))
    create(peer)
    assert gate.reached.wait(PATIENCE_S)
    create(peer)
    create(peer)

    error = refused(
        peer.simulations.CreateSimulation, pb.CreateSimulationRequest(scenario=a_scenario())
    )

    assert outcome(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
    gate.opened.set()


@pytest.mark.parametrize("offset", [3001, UINT64_MAX])
def test_an_offset_beyond_the_end_is_out_of_range(peer: Peer, offset: int) -> None:
    """Also for who began to follow before the end was known."""
    request = pb.StreamEventsRequest(name=create(peer), offset=offset, limit=UINT64_MAX)

    for _ in range(2):
        error = cut_off(peer.simulations.StreamEvents, request)
        assert outcome(error) == (grpc.StatusCode.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE")


def test_a_request_that_is_no_message_is_an_invalid_argument(peer: Peer) -> None:
    call: Callable[..., object] = peer.channel.unary_unary(
        "/faultlane.v1.SimulationService/CreateSimulation"
    )

    assert violations(refused(call, b"\xff\xff\xff")).keys() == {""}


def test_a_damaged_log_is_data_loss_and_no_wrong_rows(servers: Servers) -> None:
    server = servers.server()
    peer = servers.peer(server.address)
    request = pb.StreamEventsRequest(name=create(peer))
    list(peer.simulations.StreamEvents(request))
    (path,) = server.directory.glob("logs/*/faults.log")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    error = cut_off(peer.simulations.StreamEvents, request)

    assert outcome(error) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_LOG")


def test_our_own_bug_is_internal_with_an_incident_that_is_in_the_log(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer = servers.start()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("what only the log may tell")

    monkeypatch.setattr("faultlane_server.service.simulations.name_of", broken)

    error = refused(
        peer.simulations.GetSimulation, pb.GetSimulationRequest(name="simulations/nobody")
    )

    assert outcome(error) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    incident = detail(error, details.ErrorInfo).metadata["incident"]
    assert incident in str(error.details())
    assert "ZeroDivisionError" not in str(error.details())
    assert incident in caplog.text
    assert "what only the log may tell" in caplog.text
