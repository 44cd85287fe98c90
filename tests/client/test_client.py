"""Every rpc has a method, and every status an error that says what to do."""

import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

import faultlane
from faultlane import AsyncClient, AsyncRun, Client, Run, errors
from faultlane import v1 as pb
from faultlane.v1 import catalog_service_pb2, simulation_service_pb2
from tests.client import blocking
from tests.client.fake import (
    NAME,
    QUEUED,
    SUCCEEDED,
    FakeServer,
    Refusal,
    a_simulation,
    an_explanation,
)

SCENARIO = pb.Scenario(seed=7)
OPTIONS = pb.RunOptions(run_timeout_ms=5, labels={"a": "b"}, skip_cache=True)


@pytest.fixture
def client(either: Client) -> Client:
    """Every test here is one of both kinds of clients."""
    return either


UNARY: dict[str, Callable[[Client], Any]] = {
    "CreateSimulation": lambda client: client.create_simulation(SCENARIO),
    "GetSimulation": lambda client: client.get_simulation(NAME),
    "ListSimulations": lambda client: list(client.list_simulations()),
    "CancelSimulation": lambda client: client.cancel_simulation(NAME),
    "ExplainFault": lambda client: client.explain(NAME),
    "DeleteSimulation": lambda client: client.delete_simulation(NAME),
    "GetServerInfo": lambda client: client.get_server_info(),
    "ListArchitectures": lambda client: client.list_architectures(),
    "ListMachines": lambda client: client.list_machines(),
    "ListKernels": lambda client: client.list_kernels(),
    "ListPolicies": lambda client: client.list_policies(),
    "ListPresets": lambda client: client.list_presets(),
    "GetPreset": lambda client: client.get_preset("first-look"),
}
STREAMS: dict[str, Callable[[Client], Any]] = {
    "RunSimulation": lambda client: list(client.run_simulation(SCENARIO)),
    "WatchSimulation": lambda client: list(client.watch_simulation(NAME)),
    "StreamEvents": lambda client: list(client.stream_events(NAME)),
    "StreamOperations": lambda client: list(client.stream_operations(NAME)),
}
RPCS = UNARY | STREAMS

ARM64 = pb.Architecture(name="arm64")
ANSWERS = [
    ("CreateSimulation", pb.CreateSimulationResponse(simulation=a_simulation(QUEUED))),
    ("GetSimulation", pb.GetSimulationResponse(simulation=a_simulation())),
    ("ListSimulations", pb.ListSimulationsResponse(simulations=[a_simulation()])),
    ("CancelSimulation", pb.CancelSimulationResponse(simulation=a_simulation())),
    ("ExplainFault", an_explanation()),
    ("GetServerInfo", pb.GetServerInfoResponse(version="1")),
    (
        "ListArchitectures",
        pb.ListArchitecturesResponse(architectures=[pb.Architecture(name="x86")]),
    ),
    ("ListMachines", pb.ListMachinesResponse(machines=[pb.MachineProfile(name="neutral")])),
    ("ListKernels", pb.ListKernelsResponse(kernels=[pb.KernelGeneration(name="6.12")])),
    ("ListPolicies", pb.ListPoliciesResponse(policies=[pb.Policy(id="rfc")])),
    ("ListPresets", pb.ListPresetsResponse(presets=[pb.Preset(id="first-look")])),
    ("GetPreset", pb.GetPresetResponse(preset=pb.Preset(id="first-look"))),
]


def test_no_rpc_was_forgotten() -> None:
    services = [
        simulation_service_pb2.DESCRIPTOR.services_by_name["SimulationService"],
        catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
    ]
    assert set(RPCS) == {method.name for service in services for method in service.methods}


@pytest.mark.parametrize(("rpc", "answer"), ANSWERS, ids=[rpc for rpc, _ in ANSWERS])
def test_a_call_returns_what_its_answer_holds(
    client: Client, server: FakeServer, rpc: str, answer: Any
) -> None:
    server.says[rpc] = answer

    got = RPCS[rpc](client)

    if rpc in ("GetServerInfo", "ExplainFault"):
        assert got == answer
    else:
        [(field, value)] = answer.ListFields()
        assert got == (list(value) if field.is_repeated else value)


def test_create_sends_what_it_was_given(client: Client, server: FakeServer) -> None:
    server.says["CreateSimulation"] = pb.CreateSimulationResponse(simulation=a_simulation())

    client.create_simulation(SCENARIO, request_id="mine", validate_only=True, options=OPTIONS)
    client.submit(SCENARIO, request_id="mine", options=OPTIONS)

    assert server.heard == [
        pb.CreateSimulationRequest(
            scenario=SCENARIO, request_id="mine", validate_only=only, options=OPTIONS
        )
        for only in (True, False)
    ]


def test_a_server_that_is_away_for_a_moment_is_asked_again_for_the_same_simulation(
    client: Client, server: FakeServer
) -> None:
    """The first call may have arrived: an id that both have makes it one simulation."""
    answers: Iterator[Any] = iter(
        [
            Refusal(grpc.StatusCode.CANCELLED, "the server shuts down"),
            Refusal(grpc.StatusCode.UNAVAILABLE, "back soon"),
            pb.CreateSimulationResponse(simulation=a_simulation()),
        ]
    )
    server.says["CreateSimulation"] = lambda _: next(answers)

    assert client.submit(SCENARIO).name == NAME

    ids = [request.request_id for request in server.heard]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0]


def test_run_sends_what_it_was_given(client: Client, server: FakeServer) -> None:
    server.says["RunSimulation"] = [_first_of("RunSimulation")]

    client.run(SCENARIO, request_id="mine", batch_rows=5, options=OPTIONS)

    assert server.heard == [
        pb.RunSimulationRequest(scenario=SCENARIO, request_id="mine", batch_rows=5, options=OPTIONS)
    ]


def test_an_estimate_is_asked_for_without_a_run(client: Client, server: FakeServer) -> None:
    needs = pb.CostEstimate(threads=3, touches=5)
    server.says["CreateSimulation"] = pb.CreateSimulationResponse(estimate=needs)

    assert client.estimate(SCENARIO) == needs

    assert server.heard == [pb.CreateSimulationRequest(scenario=SCENARIO, validate_only=True)]


def test_a_list_goes_on_to_its_last_page(client: Client, server: FakeServer) -> None:
    pages = {
        token: pb.ListSimulationsResponse(
            simulations=[a_simulation(name=name) for name in names], next_page_token=following
        )
        for token, names, following in (("", ["a", "b"], "p2"), ("p2", [], "p3"), ("p3", ["c"], ""))
    }
    server.says["ListSimulations"] = lambda request: pages[request.page_token]

    found = client.list_simulations(states=[SUCCEEDED], labels={"a": "b"}, page_size=2)

    assert [simulation.name for simulation in found] == ["a", "b", "c"]
    assert server.heard == [
        pb.ListSimulationsRequest(
            page_size=2, page_token=token, states=[SUCCEEDED], labels={"a": "b"}
        )
        for token in pages
    ]


def test_deleting_names_what_is_to_go(client: Client, server: FakeServer) -> None:
    server.says["DeleteSimulation"] = pb.DeleteSimulationResponse()

    client.delete_simulation(NAME)

    assert server.heard == [pb.DeleteSimulationRequest(name=NAME)]


@pytest.mark.parametrize("rpc", ["StreamEvents", "StreamOperations"])
def test_streams_send_what_they_were_given(client: Client, server: FakeServer, rpc: str) -> None:
    server.says[rpc] = lambda request: [_last_of(rpc)]
    method = client.stream_events if rpc == "StreamEvents" else client.stream_operations

    wanted: Any = pb.FaultFilter if rpc == "StreamEvents" else pb.OperationFilter
    some = wanted(threads=[3])
    list(method(NAME, offset=5, batch_rows=10, limit=20, no_follow=True, filter=some))

    [request] = server.heard
    assert request.filter == some
    assert (request.name, request.offset, request.batch_rows) == (NAME, 5, 10)
    assert (request.limit, request.no_follow) == (20, True)


def test_names_of_things_are_sent(client: Client, server: FakeServer) -> None:
    server.says["GetSimulation"] = pb.GetSimulationResponse()
    server.says["CancelSimulation"] = pb.CancelSimulationResponse()
    server.says["GetPreset"] = pb.GetPresetResponse()

    client.get_simulation(NAME)
    client.cancel_simulation(NAME)
    client.get_preset("first-look")

    assert server.heard == [
        pb.GetSimulationRequest(name=NAME),
        pb.CancelSimulationRequest(name=NAME),
        pb.GetPresetRequest(id="first-look"),
    ]


SLOWEST = pb.FaultChoice.FAULT_CHOICE_SLOWEST
MOST_RETRIED = pb.FaultChoice.FAULT_CHOICE_MOST_RETRIED


def test_explain_asks_for_a_row_or_for_a_fault_that_stands_out(
    client: Client, server: FakeServer
) -> None:
    server.says["ExplainFault"] = an_explanation()
    run = faultlane.Run(client, a_simulation())

    client.explain(run)
    client.explain(NAME, "most retried")
    client.explain(run, 0)
    client.explain_fault(NAME, fault=5)

    assert server.heard == [
        pb.ExplainFaultRequest(name=NAME, choice=SLOWEST),
        pb.ExplainFaultRequest(name=NAME, choice=MOST_RETRIED),
        pb.ExplainFaultRequest(name=NAME, fault=0),
        pb.ExplainFaultRequest(name=NAME, fault=5),
    ]


@pytest.mark.parametrize("row", [-1, 2**64])
def test_a_row_that_no_log_can_have_is_not_sent(
    client: Client, server: FakeServer, row: int
) -> None:
    with pytest.raises(errors.InvalidRequest, match="fault: want 0 to 18446744073709551615, got"):
        client.explain(NAME, row)

    assert server.heard == []


def test_what_cannot_be_explained_says_why(client: Client, server: FakeServer) -> None:
    info = ErrorInfo(reason="NOT_ENDED", domain="faultlane")
    server.says["ExplainFault"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "not yet", info)
    with pytest.raises(errors.CannotExplain, match="not yet") as caught:
        client.explain(NAME)
    assert caught.value.reason == "NOT_ENDED"

    server.says["ExplainFault"] = Refusal(grpc.StatusCode.OUT_OF_RANGE, "want a fault of 0 to 4")
    with pytest.raises(errors.NoSuchFault, match="0 to 4"):
        client.explain(NAME, 5)


@pytest.mark.parametrize("rpc", STREAMS)
def test_a_stream_hands_out_every_message(client: Client, server: FakeServer, rpc: str) -> None:
    server.says[rpc] = [_first_of(rpc), _last_of(rpc)]

    assert STREAMS[rpc](client) == [_first_of(rpc), _last_of(rpc)]


@pytest.mark.parametrize("rpc", STREAMS)
def test_a_stream_without_its_last_message_was_cut(
    client: Client, server: FakeServer, rpc: str
) -> None:
    server.says[rpc] = [_first_of(rpc)]

    with pytest.raises(errors.StreamCut):
        STREAMS[rpc](client)


@pytest.mark.parametrize("rpc", STREAMS)
def test_who_stops_reading_ends_the_call(client: Client, server: FakeServer, rpc: str) -> None:
    ended = Event()

    def without_end(request: Any) -> Any:
        try:
            while True:
                yield _first_of(rpc)
        finally:
            ended.set()

    server.says[rpc] = without_end
    streams = {
        "RunSimulation": lambda: client.run_simulation(SCENARIO),
        "WatchSimulation": lambda: client.watch_simulation(NAME),
        "StreamEvents": lambda: client.stream_events(NAME),
        "StreamOperations": lambda: client.stream_operations(NAME),
    }
    messages = streams[rpc]()
    next(messages)

    messages.close()

    assert ended.wait(timeout=10)


REFUSALS = [
    (grpc.StatusCode.NOT_FOUND, errors.NoSuchSimulation),
    (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
    (grpc.StatusCode.OUT_OF_RANGE, errors.OffsetOutOfRange),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.QueueFull),
    (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
    (grpc.StatusCode.CANCELLED, errors.Unavailable),  # by the server, as it shuts down
    (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TimedOut),
    (grpc.StatusCode.INTERNAL, errors.ServerBug),
    (grpc.StatusCode.UNKNOWN, errors.ServerBug),
    (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
    (grpc.StatusCode.UNIMPLEMENTED, errors.FaultlaneError),
]


@pytest.mark.parametrize("rpc", ["GetSimulation", "StreamEvents"])
@pytest.mark.parametrize(("code", "error"), REFUSALS)
def test_a_status_becomes_an_error(
    client: Client, server: FakeServer, rpc: str, code: grpc.StatusCode, error: type[Exception]
) -> None:
    server.says[rpc] = Refusal(code, "because of that")

    with pytest.raises(error, match="because of that") as caught:
        RPCS[rpc](client)

    assert caught.type is error


@pytest.mark.parametrize("rpc", RPCS)
def test_no_call_lets_an_error_of_grpc_through(
    client: Client, server: FakeServer, rpc: str
) -> None:
    server.says[rpc] = Refusal(grpc.StatusCode.DATA_LOSS, "lost")

    with pytest.raises(errors.FaultlaneError, match="DATA_LOSS: lost"):
        RPCS[rpc](client)


@pytest.mark.parametrize("rpc", ["CreateSimulation", "RunSimulation"])
def test_violations_all_arrive_with_paths_that_begin_in_the_scenario(
    client: Client, server: FakeServer, rpc: str
) -> None:
    fields = [
        {"field": "scenario.machine.cpus", "description": "want 1 to 512, got 0"},
        {"field": "batch_rows", "description": "want 0 to 65536, got 65537"},
        {"description": "and 3 more"},
    ]
    server.says[rpc] = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "2 violations", BadRequest(field_violations=fields)
    )

    with pytest.raises(errors.InvalidScenario) as caught:
        RPCS[rpc](client)

    assert [str(violation) for violation in caught.value.violations] == [
        "machine.cpus: want 1 to 512, got 0",
        "batch_rows: want 0 to 65536, got 65537",
        "and 3 more",
    ]


def test_a_preset_that_is_not_there_is_no_simulation(client: Client, server: FakeServer) -> None:
    server.says["GetPreset"] = Refusal(grpc.StatusCode.NOT_FOUND, "no such preset")

    with pytest.raises(errors.NoSuchPreset):
        client.get_preset("last-look")


def test_a_full_queue_says_when_to_come_back(client: Client, server: FakeServer) -> None:
    delay = Duration()
    delay.FromTimedelta(timedelta(seconds=1.5))
    server.says["CreateSimulation"] = Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", RetryInfo(retry_delay=delay)
    )

    with pytest.raises(errors.QueueFull) as caught:
        client.submit(SCENARIO)

    assert caught.value.retry_after_s == 1.5


@pytest.mark.parametrize(
    "why", ["QUEUE_FULL", "DISK_FULL", "TOO_MANY_STREAMS", "TOO_MANY_EXPLAINED"]
)
def test_no_room_of_any_kind_is_worth_trying_again(
    client: Client, server: FakeServer, why: str
) -> None:
    info = ErrorInfo(reason=why, domain="faultlane")
    server.says["CreateSimulation"] = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", info)

    with pytest.raises(errors.QueueFull):
        client.submit(SCENARIO)


def test_a_scenario_that_is_too_large_is_not_worth_trying_again(
    client: Client, server: FakeServer
) -> None:
    info = ErrorInfo(reason="TOO_LARGE", domain="faultlane")
    server.says["CreateSimulation"] = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "huge", info)

    with pytest.raises(errors.TooLarge, match="huge"):
        client.submit(SCENARIO)


def test_an_expired_log_says_from_where_on_it_can_be_read(
    client: Client, server: FakeServer
) -> None:
    info = ErrorInfo(reason="LOG_EXPIRED", domain="faultlane", metadata={"earliest_offset": "3000"})
    server.says["StreamEvents"] = Refusal(grpc.StatusCode.OUT_OF_RANGE, "gone", info)

    server.says["ExplainFault"] = server.says["StreamEvents"]

    for call in (lambda: list(client.stream_events(NAME)), lambda: client.explain(NAME)):
        with pytest.raises(errors.LogExpired) as caught:
            call()
        assert caught.value.earliest_offset == 3000


def test_what_runs_cannot_be_deleted(client: Client, server: FakeServer) -> None:
    info = ErrorInfo(reason="NOT_ENDED", domain="faultlane")
    server.says["DeleteSimulation"] = Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "cancel it first", info
    )

    with pytest.raises(errors.NotEnded, match="cancel it first"):
        client.delete_simulation(NAME)


def test_a_bug_of_the_server_has_the_name_that_its_log_gives_it(
    client: Client, server: FakeServer
) -> None:
    info = ErrorInfo(reason="BUG", domain="faultlane", metadata={"incident": "c0ffee"})
    server.says["GetServerInfo"] = Refusal(grpc.StatusCode.INTERNAL, "our bug", info)

    with pytest.raises(errors.ServerBug, match="our bug") as caught:
        client.get_server_info()

    assert caught.value.incident == "c0ffee"


@pytest.mark.parametrize("rpc", UNARY)
def test_a_call_with_one_answer_has_a_deadline(server: FakeServer, rpc: str) -> None:
    deadlines = _Deadlines()
    with Client(grpc.intercept_channel(grpc.insecure_channel(server.address), deadlines)) as client:
        server.says[rpc] = Refusal(grpc.StatusCode.ABORTED, "enough")
        with pytest.raises(errors.FaultlaneError):
            RPCS[rpc](client)

    assert deadlines.seen_s == [600.0 if rpc == "ExplainFault" else 10.0]


def test_an_address_without_a_server_is_unavailable(server: FakeServer) -> None:
    server.stop()

    with Client.connect(server.address) as client, pytest.raises(errors.Unavailable):
        client.get_server_info()


def test_an_answer_that_does_not_come_times_out(client: Client, server: FakeServer) -> None:
    told = Event()

    def silent(request: Any) -> Any:
        told.wait(timeout=10)
        return pb.GetServerInfoResponse()

    server.says["GetServerInfo"] = silent
    with pytest.raises(errors.TimedOut):
        client.get_server_info(timeout_s=0.05)

    told.set()


def test_a_stream_of_a_client_that_is_closed_is_not_taken_up_again(server: FakeServer) -> None:
    def without_end(_: object) -> Iterator[pb.StreamEventsResponse]:
        while True:
            yield pb.StreamEventsResponse()

    server.says["StreamEvents"] = without_end
    client = Client.connect(server.address)
    messages = client.stream_events(NAME)
    next(messages)

    client.close()

    with pytest.raises(errors.FaultlaneError, match="closed") as caught:
        list(messages)
    assert caught.type is errors.FaultlaneError


def test_closing_a_client_closes_what_belongs_to_it(server: FakeServer) -> None:
    closed = []

    with Client.connect(server.address, on_close=lambda: closed.append(True)):
        assert not closed

    assert closed


def test_both_kinds_of_clients_have_the_same_methods() -> None:
    for ours, theirs in ((Client, AsyncClient), (Run, AsyncRun)):
        assert public(ours) == public(theirs)
        for name in public(ours) - {"connect", "begun_by", "summary"}:
            of_ours = (
                inspect.signature(getattr(ours, name)) if callable(getattr(ours, name)) else None
            )
            if of_ours:
                of_theirs = inspect.signature(getattr(theirs, name))
                assert [*of_ours.parameters.values()] == [*of_theirs.parameters.values()], name


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("rpc", UNARY)
def test_an_awaited_call_has_a_deadline_too(
    server: FakeServer, loop: blocking.Loop, rpc: str
) -> None:
    server.says[rpc] = Refusal(grpc.StatusCode.ABORTED, "enough")
    deadlines = _AsyncDeadlines()

    def connected() -> Any:
        channel = grpc.aio.insecure_channel(server.address, interceptors=[deadlines])
        return blocking.Blocking(loop, AsyncClient(channel))

    with loop.call(connected) as client, pytest.raises(errors.FaultlaneError):
        RPCS[rpc](client)

    assert deadlines.seen_s == [600.0 if rpc == "ExplainFault" else 10.0]


def test_local_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faultlane_server.service.local", None)

    with pytest.raises(errors.MissingExtra, match=r"pip install 'faultlane\[server\]'"):
        faultlane.local()


class _Deadlines(grpc.UnaryUnaryClientInterceptor):
    """Writes down how long each call may take."""

    def __init__(self) -> None:
        self.seen_s: list[float | None] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen_s.append(details.timeout)
        return continuation(details, request)


class _AsyncDeadlines(grpc.aio.UnaryUnaryClientInterceptor):
    """The same for the other kind of client."""

    def __init__(self) -> None:
        self.seen_s: list[float | None] = []

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen_s.append(details.timeout)
        return await continuation(details, request)


def _first_of(rpc: str) -> Any:
    if rpc in ("RunSimulation", "WatchSimulation"):
        return _response_of(rpc)(simulation=a_simulation(QUEUED))
    return _response_of(rpc)(next_offset=1)


def _last_of(rpc: str) -> Any:
    return _response_of(rpc)(simulation=a_simulation(SUCCEEDED))


def _response_of(rpc: str) -> Any:
    return getattr(pb, f"{rpc}Response")


def test_a_local_server_that_is_interrupted_while_it_starts_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    class Interrupted:
        def __init__(self, workers: int | None) -> None: ...

        def start(self) -> str:
            raise KeyboardInterrupt

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("faultlane_server.service.local.LocalServer", Interrupted)

    with pytest.raises(KeyboardInterrupt):
        faultlane.local()

    assert closed == [True]
