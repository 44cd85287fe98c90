"""Finding simulations, watching one, deleting it, and reading only some of its rows."""

import itertools

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2 as details
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions, Simulation, SimulationState
from faultlane_server.runs import Limits, RowFilter
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    an_engine,
    cancel,
    create,
    delete,
    detail,
    endless,
    get,
    reason,
    refused,
    rows_of_faults,
    rows_of_operations,
    run,
    starts,
    starts_of_run,
    wait,
)

SUCCEEDED = SimulationState.SIMULATION_STATE_SUCCEEDED
RUNNING = SimulationState.SIMULATION_STATE_RUNNING
QUEUED = SimulationState.SIMULATION_STATE_QUEUED
CANCELLED = SimulationState.SIMULATION_STATE_CANCELLED


def listed(peer: Peer, **fields: object) -> list[str]:
    """The names on all pages."""
    names, token = [], ""
    while True:
        request = pb.ListSimulationsRequest(page_token=token, **fields)  # type: ignore[arg-type]
        page = peer.simulations.ListSimulations(request, timeout=PATIENCE_S)
        names += [simulation.name for simulation in page.simulations]
        token = page.next_page_token
        if not token:
            return names


@pytest.fixture(scope="module")
def many(module_servers: Servers) -> tuple[Peer, list[str]]:
    """Nine simulations that have ended, the newest first, and every third one is labelled."""
    peer = module_servers.start()
    names = [
        run(
            peer,
            seed=seed,
            options=RunOptions(labels={"third": "yes", "seed": str(seed)} if seed % 3 == 0 else {}),
        ).name
        for seed in range(1, 10)
    ]
    return peer, names[::-1]


@pytest.mark.parametrize("page_size", [0, 1, 2, 3, 8, 9, 10, 1000])
def test_pages_of_any_size_make_the_whole_list(
    many: tuple[Peer, list[str]], page_size: int
) -> None:
    peer, names = many

    assert listed(peer, page_size=page_size) == names


def test_a_page_is_no_longer_than_asked_for(many: tuple[Peer, list[str]]) -> None:
    peer, _ = many

    page = peer.simulations.ListSimulations(pb.ListSimulationsRequest(page_size=9))

    assert len(page.simulations) == 9
    assert not page.next_page_token
    assert not any(simulation.HasField("scenario") for simulation in page.simulations)
    assert all(simulation.state == SUCCEEDED for simulation in page.simulations)
    assert all(simulation.digest for simulation in page.simulations)


def test_pages_of_long_labels_are_shorter_and_none_is_missing(servers: Servers) -> None:
    """So that a page is never longer than a client takes."""
    peer = servers.start()
    labels = {f"name{number}": "x" * 250 for number in range(64)}
    names = [create(peer, options=RunOptions(labels=labels)).name for _ in range(100)][::-1]

    first = peer.simulations.ListSimulations(pb.ListSimulationsRequest(page_size=1000))

    assert first.ByteSize() < 2 << 20
    assert first.next_page_token
    assert listed(peer, page_size=1000) == names


def test_what_comes_meanwhile_moves_nothing_from_page_to_page(servers: Servers) -> None:
    peer = servers.start()
    names = [create(peer, seed=seed).name for seed in range(1, 5)][::-1]
    first = peer.simulations.ListSimulations(pb.ListSimulationsRequest(page_size=2))
    create(peer, seed=9)

    second = peer.simulations.ListSimulations(
        pb.ListSimulationsRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [each.name for each in (*first.simulations, *second.simulations)] == names


def test_labels_find_simulations(many: tuple[Peer, list[str]]) -> None:
    peer, names = many

    assert listed(peer, labels={"third": "yes"}) == names[0::3]
    assert listed(peer, labels={"third": "yes", "seed": "6"}) == [names[3]]
    assert listed(peer, labels={"third": "no"}) == []
    assert listed(peer, labels={"third": "yes"}, page_size=1) == names[0::3]


def test_states_find_simulations(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    peer = servers.start(engine, Limits(workers=1))
    running = create(peer).name
    assert gate.reached.wait(PATIENCE_S)
    queued, cancelled = create(peer, seed=2).name, create(peer, seed=3).name
    cancel(peer, cancelled)

    assert listed(peer, states=[RUNNING]) == [running]
    assert listed(peer, states=[QUEUED]) == [queued]
    assert listed(peer, states=[CANCELLED, QUEUED]) == [cancelled, queued]
    assert listed(peer, states=[SUCCEEDED]) == []
    gate.opened.set()


def test_a_list_that_cannot_be_is_an_invalid_argument(peer: Peer) -> None:
    request = pb.ListSimulationsRequest(
        page_size=1001,
        page_token="the second page",
        states=[1, 99],  # type: ignore[list-item]
        labels={"": "x"},
    )

    error = refused(lambda: peer.simulations.ListSimulations(request))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    fields = [each.field for each in detail(error, details.BadRequest).field_violations]
    assert fields == ["page_size", "labels['']", "page_token", "states[1]"]


def test_who_watches_sees_every_state_and_then_the_end(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_begin=gate.pass_through)
    peer = servers.start(engine, Limits(workers=1))
    create(peer, seed=9)
    assert gate.reached.wait(PATIENCE_S)
    name = create(peer).name
    watch = peer.simulations.WatchSimulation(
        pb.WatchSimulationRequest(name=name), timeout=PATIENCE_S
    )
    first = next(watch).simulation
    gate.opened.set()

    *_, last = [response.simulation for response in watch]

    assert first.state == QUEUED
    assert not first.HasField("scenario")
    ended = get(peer, name)
    ended.ClearField("scenario")
    assert last == ended
    assert last.summary.fingerprint


def test_who_watches_what_has_ended_is_told_once(peer: Peer) -> None:
    name = run(peer).name

    (only,) = peer.simulations.WatchSimulation(pb.WatchSimulationRequest(name=name))

    assert only.simulation.state == SUCCEEDED


def test_a_watch_tells_of_progress_and_has_a_heart_that_beats(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless), Limits(1, heartbeat_s=0.01))
    name = create(peer).name
    watch = peer.simulations.WatchSimulation(pb.WatchSimulationRequest(name=name))
    rows = [response.simulation.progress.fault_rows for response in itertools.islice(watch, 5)]
    watch.cancel()

    assert rows == sorted(rows)
    assert rows[-1] > 0

    gate = Gate()
    idle = servers.start(an_engine(on_begin=gate.pass_through), Limits(1, heartbeat_s=0.01))
    watch = idle.simulations.WatchSimulation(pb.WatchSimulationRequest(name=create(idle).name))
    states = {response.simulation.state for response in itertools.islice(watch, 4)}
    assert states <= {QUEUED, RUNNING}
    gate.opened.set()


def test_what_is_deleted_is_gone_with_its_request_id(peer: Peer) -> None:
    name = run(peer, request_id="mine").name

    delete(peer, name)

    for call in (lambda: get(peer, name), lambda: starts(peer, name), lambda: delete(peer, name)):
        assert reason(refused(call)) == "NO_SUCH_SIMULATION"
    assert listed(peer) == []
    assert create(peer, seed=2, request_id="mine").name != name


def test_what_runs_is_not_deleted(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless))
    name = create(peer).name

    error = refused(lambda: delete(peer, name))

    assert (error.code(), reason(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENDED")
    cancel(peer, name)
    delete(peer, name)


def test_who_reads_what_is_deleted_reads_on(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=50))
    name = run(peer).name
    stream = peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name, batch_rows=1000))
    begun = next(stream)

    delete(peer, name)

    read = [start for response in (begun, *stream) for start in response.faults.start_ns]
    assert read == starts_of_run(50)


@pytest.fixture(scope="module")
def ended(module_servers: Servers) -> tuple[Peer, Simulation]:
    peer = module_servers.start(an_engine(slices=12))
    return peer, run(peer)


NUMBERS = st.integers(0, 2**64 - 1)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    offset=st.integers(0, 12_000),
    batch_rows=st.integers(500, 9000),
    limit=st.integers(0, 4000),
    duration_ns_min=NUMBERS,
    start_ns=st.tuples(NUMBERS, NUMBERS).map(sorted),
    attempts_min=st.integers(0, 2**31),
)
def test_a_filter_leaves_out_what_a_mask_would(
    ended: tuple[Peer, Simulation],
    offset: int,
    batch_rows: int,
    limit: int,
    duration_ns_min: int,
    start_ns: list[int],
    attempts_min: int,
) -> None:
    """And the offset after a limit is that of the row after the last one that was sent."""
    peer, simulation = ended
    columns = rows_of_faults(0, 12)
    holds = columns["duration_ns"] >= np.uint64(duration_ns_min)
    holds &= columns["start_ns"] >= np.uint64(start_ns[0])
    if start_ns[1]:
        holds &= columns["start_ns"] <= np.uint64(start_ns[1])
    holds &= columns["attempts"] >= np.uint64(attempts_min)
    wanted = np.flatnonzero(holds)
    wanted = wanted[wanted >= offset]
    cut = len(wanted) > limit > 0 or (limit > 0 and len(wanted) == limit)
    wanted = wanted[: limit or len(wanted)]

    responses = list(
        peer.simulations.StreamEvents(
            pb.StreamEventsRequest(
                name=simulation.name,
                offset=offset,
                batch_rows=batch_rows,
                limit=limit,
                filter=pb.FaultFilter(
                    duration_ns_min=duration_ns_min,
                    start_ns_min=start_ns[0],
                    start_ns_max=start_ns[1],
                    attempts_min=attempts_min,
                ),
            )
        )
    )

    read = [start for response in responses for start in response.faults.start_ns]
    assert read == columns["start_ns"][wanted].tolist()
    assert responses[-1].next_offset == (int(wanted[-1]) + 1 if cut else 12_000)
    offsets = [response.next_offset for response in responses]
    assert offsets == sorted(offsets)


def test_threads_processes_and_kinds_are_sets(ended: tuple[Peer, Simulation]) -> None:
    peer, simulation = ended
    columns = rows_of_operations(0, 12)
    threads = [int(columns["thread"][row]) for row in (3, 70, 119)]
    processes = [int(columns["process"][row]) for row in (70, 119, 5)]
    request = pb.StreamOperationsRequest(
        name=simulation.name, filter=pb.OperationFilter(threads=threads, processes=processes)
    )

    responses = list(peer.simulations.StreamOperations(request))

    read = [start for response in responses for start in response.operations.start_ns]
    assert read == [int(columns["start_ns"][row]) for row in (70, 119)]
    assert responses[-1].next_offset == 120


def test_kinds_are_a_set() -> None:
    columns = rows_of_operations(0, 1)
    columns["kind"] = np.arange(10, dtype="<u4")

    assert RowFilter(kinds=(3, 7)).rows(columns).tolist() == [3, 7]


def test_a_filter_that_makes_no_sense_is_an_invalid_argument(peer: Peer) -> None:
    request = pb.StreamEventsRequest(
        name="simulations/one",
        filter=pb.FaultFilter(
            start_ns_min=5,
            start_ns_max=4,
            threads=range(1025),
            kinds=[1, 0, -1],  # type: ignore[list-item]
        ),
    )

    error = refused(lambda: list(peer.simulations.StreamEvents(request)))

    fields = {each.field for each in detail(error, details.BadRequest).field_violations}
    assert fields == {
        "filter.threads",
        "filter.start_ns_max",
        "filter.kinds[1]",
        "filter.kinds[2]",
    }


def test_a_stream_whose_filter_leaves_all_out_has_a_heart_that_beats(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless), Limits(1, heartbeat_s=0.01))
    request = pb.StreamEventsRequest(
        name=create(peer).name, filter=pb.FaultFilter(duration_ns_min=2**64 - 1)
    )
    stream = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)

    beats = list(itertools.islice(stream, 20))

    assert not any(response.faults.thread for response in beats)
    offsets = [response.next_offset for response in beats]
    assert offsets == sorted(offsets)
    assert offsets[-1] > 0
    stream.cancel()


def test_waiting_is_over_when_a_simulation_has_ended(peer: Peer) -> None:
    assert wait(peer, create(peer).name).HasField("end_time")
