"""A run hands out each batch once, goes on after a cut, and knows how it ended."""

from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any

import grpc
import pytest

from faultlane import Client, FaultEvents, OperationEvents, Run, errors
from faultlane import v1 as pb
from tests.client import blocking
from tests.client.fake import (
    NAME,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    FakeServer,
    Refusal,
    a_simulation,
    as_list,
    some_faults,
    some_operations,
)

SCENARIO = pb.Scenario(seed=7)
CREATED = pb.RunSimulationResponse(simulation=a_simulation(QUEUED))
ENDED = pb.RunSimulationResponse(
    simulation=a_simulation(SUCCEEDED), next_fault_offset=3, next_operation_offset=2
)
BOTH = pb.RunSimulationResponse(
    faults=some_faults([1, 2]),
    operations=some_operations([8]),
    next_fault_offset=2,
    next_operation_offset=1,
)
MORE = pb.RunSimulationResponse(
    faults=some_faults([3]),
    operations=some_operations([9]),
    next_fault_offset=3,
    next_operation_offset=2,
)
FAULTS_FROM_2 = [
    pb.StreamEventsResponse(faults=some_faults([3]), next_offset=3),
    pb.StreamEventsResponse(next_offset=3, simulation=a_simulation(SUCCEEDED)),
]
OPERATIONS_FROM_1 = [
    pb.StreamOperationsResponse(operations=some_operations([9]), next_offset=2),
    pb.StreamOperationsResponse(next_offset=2, simulation=a_simulation(SUCCEEDED)),
]


@pytest.fixture
def client(either: Client) -> Client:
    """Every test here is one of both kinds of clients."""
    return either


def run_of(client: Client, simulation: pb.Simulation) -> Run:
    """A run of the kind of its client."""
    if isinstance(client, Client):
        return Run(client, simulation)
    return blocking.run_of(client, simulation)


@pytest.fixture
def run(client: Client, server: FakeServer) -> Iterator[Run]:
    server.says["RunSimulation"] = [CREATED, BOTH, MORE, ENDED]
    with client.run(SCENARIO) as run:
        yield run


def threads(batches: Iterable[FaultEvents] | Iterable[OperationEvents]) -> list[list[int]]:
    return [as_list(batch.thread) for batch in batches]


def test_a_run_is_known_before_its_first_event(run: Run) -> None:
    assert (run.name, run.simulation.state, run.ended) == (NAME, QUEUED, False)


def test_a_run_hands_out_both_logs_in_any_order(run: Run) -> None:
    assert threads(run.operations()) == [[8], [9]]
    assert threads(run.events()) == [[1, 2], [3]]
    assert run.ended


def test_two_readers_can_take_turns(run: Run) -> None:
    faults, operations = run.events(), run.operations()

    assert as_list(next(faults).thread) == [1, 2]
    assert as_list(next(operations).thread) == [8]
    assert as_list(next(faults).thread) == [3]
    assert threads(faults) == []
    assert threads(operations) == [[9]]


def test_a_second_loop_goes_on_where_the_first_stopped(run: Run) -> None:
    for _ in run.events():
        break

    assert threads(run.events()) == [[3]]
    assert threads(run.events()) == []


def test_empty_batches_are_not_handed_out(client: Client, server: FakeServer) -> None:
    heartbeat = pb.RunSimulationResponse()
    server.says["RunSimulation"] = [CREATED, heartbeat, BOTH, heartbeat, ENDED]

    assert threads(client.run(SCENARIO).events()) == [[1, 2]]


def test_events_in_the_first_message_are_not_lost(client: Client, server: FakeServer) -> None:
    first = pb.RunSimulationResponse()
    first.CopyFrom(BOTH)
    first.simulation.CopyFrom(CREATED.simulation)
    server.says["RunSimulation"] = [first, ENDED]

    assert threads(client.run(SCENARIO).events()) == [[1, 2]]


CUTS: list[list[Any]] = [[], [Refusal(grpc.StatusCode.UNAVAILABLE, "gone")]]


@pytest.mark.parametrize("cut", CUTS)
def test_after_a_cut_a_run_is_read_on_from_where_it_stopped(
    client: Client, server: FakeServer, cut: list[Any]
) -> None:
    server.says["RunSimulation"] = [CREATED, BOTH, *cut]
    server.says["StreamEvents"] = FAULTS_FROM_2
    server.says["StreamOperations"] = OPERATIONS_FROM_1
    run = client.run(SCENARIO)

    assert threads(run.events()) == [[1, 2], [3]]
    assert threads(run.operations()) == [[8], [9]]
    assert [request.offset for request in server.heard[1:]] == [2, 1]


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_that_has_ended_before_it_begins_is_read_to_the_end_of_its_logs(
    client: Client, server: FakeServer, cut: list[Any]
) -> None:
    """The server had an equal one: its first message tells of the end already."""
    known = pb.RunSimulationResponse(simulation=a_simulation(SUCCEEDED))
    server.says["RunSimulation"] = [known, BOTH, *cut]
    server.says["StreamEvents"] = FAULTS_FROM_2
    server.says["StreamOperations"] = OPERATIONS_FROM_1
    run = client.run(SCENARIO)

    assert run.ended
    assert threads(run.events()) == [[1, 2], [3]]
    assert threads(run.operations()) == [[8], [9]]


@pytest.mark.parametrize("cut", CUTS)
def test_a_log_that_is_cut_again_and_again_is_read_without_a_gap(
    client: Client, server: FakeServer, cut: list[Any]
) -> None:
    """Each stream brings one row more, and some bring none."""

    def one_more(request: Any) -> list[Any]:
        offset = request.offset
        if len(server.heard) % 3 == 0:
            return cut
        if offset == 6:
            return [pb.StreamEventsResponse(next_offset=6, simulation=a_simulation(SUCCEEDED))]
        return [pb.StreamEventsResponse(faults=some_faults([offset]), next_offset=offset + 1), *cut]

    server.says["StreamEvents"] = one_more
    run = run_of(client, a_simulation(RUNNING))

    assert threads(run.events()) == [[0], [1], [2], [3], [4], [5]]
    assert run.simulation.state == SUCCEEDED


def test_a_server_that_stays_away_ends_reading_when_patience_does(
    client: Client, server: FakeServer
) -> None:
    server.says["StreamEvents"] = Refusal(grpc.StatusCode.UNAVAILABLE, "gone")
    run = run_of(client, a_simulation(RUNNING))
    run.patience_s = 0.2

    with pytest.raises(errors.Unavailable):
        threads(run.events())

    assert len(server.heard) > 1


def test_other_errors_end_reading_at_once(client: Client, server: FakeServer) -> None:
    server.says["StreamEvents"] = Refusal(grpc.StatusCode.NOT_FOUND, "forgotten")

    with pytest.raises(errors.NoSuchSimulation):
        threads(run_of(client, a_simulation(RUNNING)).events())

    assert len(server.heard) == 1


def test_submit_returns_at_once_and_reads_later(client: Client, server: FakeServer) -> None:
    server.says["CreateSimulation"] = pb.CreateSimulationResponse(simulation=a_simulation(QUEUED))
    server.says["StreamEvents"] = FAULTS_FROM_2
    server.says["StreamOperations"] = OPERATIONS_FROM_1

    run = client.submit(SCENARIO, request_id="mine")

    assert len(server.heard) == 1
    assert threads(run.events()) == [[3]]
    assert threads(run.operations()) == [[9]]
    assert threads(run.events()) == []
    assert [request.offset for request in server.heard[1:]] == [0, 0]
    assert run.simulation.state == SUCCEEDED


def watched(*states: Any) -> list[pb.WatchSimulationResponse]:
    return [pb.WatchSimulationResponse(simulation=a_simulation(state)) for state in states]


def test_wait_watches_until_the_run_has_ended(client: Client, server: FakeServer) -> None:
    server.says["WatchSimulation"] = watched(QUEUED, RUNNING, SUCCEEDED)
    told: list[Any] = []
    run = run_of(client, a_simulation(QUEUED, scenario=SCENARIO))

    ended = run.wait(on_progress=lambda simulation: told.append(simulation.state))

    assert (ended.state, ended.scenario) == (SUCCEEDED, SCENARIO)
    assert told == [QUEUED, RUNNING, SUCCEEDED]


@pytest.mark.parametrize("cut", CUTS)
def test_wait_goes_on_after_a_cut(client: Client, server: FakeServer, cut: list[Any]) -> None:
    watches = iter([[*watched(QUEUED), *cut], cut, watched(RUNNING, SUCCEEDED)])
    server.says["WatchSimulation"] = lambda _: next(watches)

    assert run_of(client, a_simulation(QUEUED)).wait().state == SUCCEEDED


def test_wait_gives_up_in_time_and_leaves_the_run_alone(client: Client, server: FakeServer) -> None:
    silence = Event()

    def silent(_: Any) -> Iterator[Any]:
        yield from watched(RUNNING)
        silence.wait(timeout=10)

    server.says["WatchSimulation"] = silent

    with pytest.raises(errors.TimedOut, match="has not ended within"):
        run_of(client, a_simulation(QUEUED)).wait(timeout_s=0.1)

    silence.set()
    assert server.heard == [pb.WatchSimulationRequest(name=NAME)]


def test_a_run_whose_end_was_streamed_is_not_asked_for(run: Run, server: FakeServer) -> None:
    list(run.events())

    assert run.wait().state == SUCCEEDED
    assert len(server.heard) == 1


def test_a_summary_is_that_of_the_ended_run(client: Client) -> None:
    summary = pb.Summary(end_ns=5)

    assert run_of(client, a_simulation(SUCCEEDED, summary=summary)).summary == summary


def test_a_failed_run_has_a_reason_instead_of_a_summary(client: Client) -> None:
    failed = a_simulation(
        pb.SimulationState.SIMULATION_STATE_FAILED,
        error=pb.RunError(reason="ROWS_LIMIT", message="too many rows"),
    )

    with pytest.raises(errors.RunFailed, match="ROWS_LIMIT: too many rows") as caught:
        run_of(client, failed).summary  # noqa: B018

    assert caught.value.reason == "ROWS_LIMIT"


def test_a_cancelled_run_has_no_summary(client: Client, server: FakeServer) -> None:
    cancelled = a_simulation(pb.SimulationState.SIMULATION_STATE_CANCELLED)
    server.says["CancelSimulation"] = pb.CancelSimulationResponse(simulation=cancelled)
    run = run_of(client, a_simulation(RUNNING))

    run.cancel()

    with pytest.raises(errors.RunCancelled):
        run.summary  # noqa: B018


def test_a_run_that_is_left_by_an_exception_is_cancelled(
    client: Client, server: FakeServer
) -> None:
    server.says["CancelSimulation"] = pb.CancelSimulationResponse(simulation=a_simulation())

    with pytest.raises(KeyboardInterrupt), run_of(client, a_simulation(RUNNING)):
        raise KeyboardInterrupt

    assert server.heard == [pb.CancelSimulationRequest(name=NAME)]


def test_the_error_on_its_way_is_not_hidden_by_one_of_cancelling(
    client: Client, server: FakeServer
) -> None:
    server.says["CancelSimulation"] = Refusal(grpc.StatusCode.UNAVAILABLE, "gone")

    with pytest.raises(ZeroDivisionError), run_of(client, a_simulation(RUNNING)):
        raise ZeroDivisionError


def test_a_run_that_is_left_in_peace_goes_on(client: Client, server: FakeServer) -> None:
    with run_of(client, a_simulation(RUNNING)):
        pass

    assert server.heard == []
