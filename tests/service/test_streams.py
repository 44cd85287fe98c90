"""A stream brings the rows of the log: all of them, once, in order, however it is cut."""

import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultlane import Client
from faultlane.v1 import events_pb2, simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.runs import Limits, LogKind, Part
from faultlane_server.service.wire import batch_bytes, response_bytes
from faultlane_server.store import Columns
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    columns_of,
    endless,
    rows_of_faults,
    rows_of_operations,
)

SLICES = 3
ROWS = SLICES * 1000


def create(peer: Peer, **changes: object) -> str:
    request = pb.CreateSimulationRequest(scenario=a_scenario(**changes))
    return peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation.name


def events(peer: Peer, name: str, **fields: int) -> list[pb.StreamEventsResponse]:
    request = pb.StreamEventsRequest(name=name, **fields)  # type: ignore[arg-type]
    return list(peer.simulations.StreamEvents(request, timeout=PATIENCE_S))


def joined(batches: Iterable[Message], dtypes: dict[str, str]) -> Columns:
    batches = list(batches)
    return {
        name: np.array([value for batch in batches for value in getattr(batch, name)], dtype)
        for name, dtype in dtypes.items()
    }


def bytes_of(columns: Columns) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in columns.items()}


def faults_of(responses: Iterable[pb.StreamEventsResponse]) -> dict[str, bytes]:
    return bytes_of(joined((response.faults for response in responses), FAULT_COLUMNS))


@pytest.fixture(scope="module")
def ended(module_servers: Servers) -> tuple[Peer, str]:
    """A simulation of 3000 faults and 30 operations that has ended."""
    peer = module_servers.start(an_engine(SLICES))
    name = create(peer)
    events(peer, name)
    return peer, name


def test_the_wire_changes_nothing(ended: tuple[Peer, str]) -> None:
    peer, name = ended

    faults = faults_of(events(peer, name))
    operations = joined(
        (
            response.operations
            for response in peer.simulations.StreamOperations(pb.StreamOperationsRequest(name=name))
        ),
        OPERATION_COLUMNS,
    )

    assert faults == bytes_of(rows_of_faults(0, SLICES))
    assert bytes_of(operations) == bytes_of(rows_of_operations(0, SLICES))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=3), batch_rows=st.integers(100, 5000))
def test_streams_resumed_at_an_offset_equal_a_whole_one_byte_for_byte(
    ended: tuple[Peer, str], cuts: list[int], batch_rows: int
) -> None:
    peer, name = ended
    bounds = [0, *sorted(cuts), ROWS]

    responses = [
        response
        for start, end in itertools.pairwise(bounds)
        if end > start
        for response in events(peer, name, offset=start, limit=end - start, batch_rows=batch_rows)
    ]

    assert faults_of(responses) == bytes_of(rows_of_faults(0, SLICES))


@pytest.mark.parametrize("batch_rows", [1, 1000, 1024, 4096])
def test_a_message_has_at_most_as_many_rows_as_asked_for(
    ended: tuple[Peer, str], batch_rows: int
) -> None:
    peer, name = ended

    *batches, last = events(peer, name, batch_rows=batch_rows)

    sizes = [len(response.faults.thread) for response in batches]
    assert max(sizes) <= batch_rows
    assert sum(sizes) == ROWS
    assert [response.next_offset for response in batches] == list(itertools.accumulate(sizes))
    assert not any(response.HasField("simulation") for response in batches)
    assert len(last.faults.thread) == 0
    assert last.next_offset == ROWS


def test_a_message_is_never_larger_than_two_megabytes(servers: Servers) -> None:
    """So that no client has to raise its limit of four."""
    peer = servers.start(an_engine(slices=50))

    responses = events(peer, create(peer), batch_rows=65536)

    assert sum(len(response.faults.thread) for response in responses) == 50_000
    assert max(response.ByteSize() for response in responses) <= 2 << 20


def test_the_last_message_and_no_other_carries_the_simulation(ended: tuple[Peer, str]) -> None:
    peer, name = ended

    *others, last = events(peer, name)

    assert last.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_SUCCEEDED
    assert not any(response.HasField("simulation") for response in others)


def test_a_stream_from_the_end_of_the_log_is_empty_but_for_its_last_message(
    ended: tuple[Peer, str],
) -> None:
    peer, name = ended

    (last,) = events(peer, name, offset=ROWS)

    assert (last.next_offset, last.simulation.name) == (ROWS, name)


def test_a_limit_ends_the_stream(ended: tuple[Peer, str]) -> None:
    peer, name = ended

    responses = events(peer, name, offset=10, limit=7)

    assert len(joined((r.faults for r in responses), FAULT_COLUMNS)["thread"]) == 7
    assert responses[-1].next_offset == 17
    assert responses[-1].HasField("simulation")


def test_a_stream_brings_rows_while_the_simulation_runs(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless))
    name = create(peer)
    stream = peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name), timeout=PATIENCE_S)

    offsets = [response.next_offset for response in itertools.islice(stream, 5)]

    assert offsets == sorted(set(offsets))
    assert offsets[0] > 0
    stream.cancel()


def test_readers_of_a_running_simulation_go_at_their_own_pace(servers: Servers) -> None:
    """One has read nothing beyond its first message while another reads to the end."""
    peer = servers.start(an_engine(slices=200))
    name = create(peer)
    slow = peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name), timeout=PATIENCE_S)
    first = next(slow)

    quick = faults_of(events(peer, name))

    assert quick == bytes_of(rows_of_faults(0, 200))
    assert faults_of([first, *slow]) == quick


def test_the_server_is_two_messages_ahead_of_our_client_at_most(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader has read one message while another reads all of them, twice."""
    made: Counter[int] = Counter()

    def counted(part: Part | None, response: Message) -> bytes:
        made[id(response)] += 1
        return response_bytes(part, response)

    monkeypatch.setattr("faultlane_server.service.simulations.response_bytes", counted)
    server = servers.server(an_engine(slices=200))
    name = create(servers.peer(server.address))
    with Client.connect(server.address) as client:
        slow = client.stream_events(name)
        next(slow)

        assert [len(list(client.stream_events(name))) > 20 for _ in range(2)] == [True, True]

        assert min(made.values()) <= 3


def test_a_slow_reader_that_goes_away_is_no_error(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.server(an_engine(slices=200))
    name = create(servers.peer(server.address))
    with Client.connect(server.address) as client:
        slow = client.stream_events(name)
        next(slow)
        list(client.stream_events(name))  # meanwhile the server cannot get rid of a message

        slow.close()

        list(client.stream_events(name))
        assert not caplog.records


def test_without_following_a_stream_ends_at_the_present_end(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(an_engine(on_slice=lambda _: gate.pass_through()))
    name = create(peer)
    assert gate.reached.wait(PATIENCE_S)

    (last,) = events(peer, name, no_follow=True)

    assert last.next_offset == 0
    assert last.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_RUNNING
    gate.opened.set()


def test_an_idle_stream_has_a_heart_that_beats(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    peer = servers.start(engine, Limits(workers=1, heartbeat_s=0.01))
    request = pb.StreamEventsRequest(name=create(peer), offset=5)
    stream = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)

    beats = list(itertools.islice(stream, 3))

    assert beats == [pb.StreamEventsResponse(next_offset=5)] * 3
    gate.opened.set()


def test_a_run_streams_both_logs_between_two_simulations(peer: Peer) -> None:
    request = pb.RunSimulationRequest(scenario=a_scenario(), batch_rows=700)

    first, *between, last = peer.simulations.RunSimulation(request, timeout=PATIENCE_S)

    assert first.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_QUEUED
    assert not any(response.HasField("simulation") for response in between)
    assert last.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_SUCCEEDED
    assert last.simulation.name == first.simulation.name
    faults = joined((response.faults for response in between), FAULT_COLUMNS)
    assert bytes_of(faults) == bytes_of(rows_of_faults(0, SLICES))
    operations = joined((response.operations for response in between), OPERATION_COLUMNS)
    assert bytes_of(operations) == bytes_of(rows_of_operations(0, SLICES))
    assert (last.next_fault_offset, last.next_operation_offset) == (3000, 30)
    assert max(len(response.faults.thread) for response in between) == 700


def test_a_run_that_is_cut_goes_on_and_can_be_read_from_where_it_was_cut(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(slices=400, on_slice=lambda n: gate.pass_through() if n == 200 else None)
    peer = servers.start(engine)
    stream = peer.simulations.RunSimulation(pb.RunSimulationRequest(scenario=a_scenario()))
    name = next(stream).simulation.name
    received = next(stream)
    stream.cancel()
    gate.opened.set()

    rest = events(peer, name, offset=received.next_fault_offset)

    faults = joined([received.faults, *(r.faults for r in rest)], FAULT_COLUMNS)
    assert bytes_of(faults) == bytes_of(rows_of_faults(0, 400))


@pytest.mark.parametrize(
    ("kind", "batch", "dtypes"),
    [
        (LogKind.FAULTS, events_pb2.FaultBatch, FAULT_COLUMNS),
        (LogKind.OPERATIONS, events_pb2.OperationBatch, OPERATION_COLUMNS),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 3000])
def test_a_batch_is_what_the_stubs_would_have_written(
    kind: LogKind, batch: type[Message], dtypes: dict[str, str], count: int
) -> None:
    columns = columns_of(dtypes, 0, count, seed=5)
    by_stubs = batch(**{name: column.tolist() for name, column in columns.items()})

    assert batch_bytes(columns, kind) == by_stubs.SerializeToString()
