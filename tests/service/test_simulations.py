"""What becomes of a simulation, as somebody sees it who asks over the wire."""

import threading
import time

import grpc
import pytest

from faultlane.v1 import simulation_pb2, simulation_service_pb2
from faultlane_server.runs import Limits
from tests.service.fake import (
    PATIENCE_S,
    SUMMARY,
    Gate,
    Peer,
    Servers,
    a_scenario,
    an_engine,
    endless,
)

State = simulation_pb2.SimulationState
Simulation = simulation_pb2.Simulation


def create(peer: Peer, request_id: str = "", **changes: object) -> Simulation:
    request = simulation_service_pb2.CreateSimulationRequest(
        scenario=a_scenario(**changes), request_id=request_id
    )
    return peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation


def get(peer: Peer, name: str) -> Simulation:
    request = simulation_service_pb2.GetSimulationRequest(name=name)
    return peer.simulations.GetSimulation(request, timeout=PATIENCE_S).simulation


def cancel(peer: Peer, name: str) -> Simulation:
    request = simulation_service_pb2.CancelSimulationRequest(name=name)
    return peer.simulations.CancelSimulation(request, timeout=PATIENCE_S).simulation


def wait(peer: Peer, name: str) -> Simulation:
    """Follow a simulation to its end."""
    request = simulation_service_pb2.StreamEventsRequest(name=name)
    *_, last = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)
    return last.simulation


def meet(others: threading.Barrier) -> None:
    others.wait(PATIENCE_S)


def test_a_simulation_goes_from_queued_through_running_to_succeeded(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(an_engine(on_slice=lambda _: gate.pass_through()), Limits(workers=1))

    running = create(peer)
    assert gate.reached.wait(PATIENCE_S)
    queued = create(peer, seed=2)

    assert get(peer, running.name).state == State.SIMULATION_STATE_RUNNING
    assert get(peer, running.name).HasField("start_time")
    assert get(peer, queued.name).state == State.SIMULATION_STATE_QUEUED
    assert not get(peer, queued.name).HasField("start_time")
    gate.opened.set()
    assert wait(peer, queued.name).state == State.SIMULATION_STATE_SUCCEEDED
    ended = get(peer, running.name)
    assert ended.state == State.SIMULATION_STATE_SUCCEEDED
    assert ended.create_time.ToNanoseconds() <= ended.start_time.ToNanoseconds()
    assert ended.start_time.ToNanoseconds() <= ended.end_time.ToNanoseconds()


def test_it_ends_with_its_progress_and_its_summary(peer: Peer) -> None:
    ended = wait(peer, create(peer).name)

    assert ended.scenario == a_scenario()
    assert ended.progress == simulation_pb2.Progress(
        now_ns=3000, horizon_ns=10**9, faults=3000, fault_rows=3000, operation_rows=30
    )
    assert ended.summary.stop == simulation_pb2.StopReason.STOP_REASON_DEADLOCK
    assert ended.summary.fingerprint == SUMMARY.fingerprint
    assert [metric.name for metric in ended.summary.metrics] == sorted(SUMMARY.metrics)
    assert ended.summary.latencies[0].log2_counts == [1, 1, 1]
    assert ended.summary.locks[0].lock == "mmap_lock"
    assert ended.summary.diagnosis.chain == ["1 for 2", "2 for 1"]
    assert not ended.HasField("error")


def test_two_simulations_run_at_once(servers: Servers) -> None:
    """Each slice waits until the other simulation is in a slice too."""
    together = threading.Barrier(2)
    engine = an_engine(on_slice=lambda _: meet(together))
    peer = servers.start(engine, Limits(workers=2))

    names = [create(peer, seed=seed).name for seed in (1, 2)]

    assert {wait(peer, name).state for name in names} == {State.SIMULATION_STATE_SUCCEEDED}


def test_simulations_wait_in_the_order_in_which_they_came(servers: Servers) -> None:
    peer = servers.start(limits=Limits(workers=1))
    names = [create(peer, seed=seed).name for seed in range(5)]

    ended = [wait(peer, name) for name in names]

    starts = [simulation.start_time.ToNanoseconds() for simulation in ended]
    assert starts == sorted(starts)


def test_only_to_validate_makes_no_simulation(peer: Peer) -> None:
    request = simulation_service_pb2.CreateSimulationRequest(
        scenario=a_scenario(), validate_only=True
    )

    looked_at = peer.simulations.CreateSimulation(request).simulation

    assert (looked_at.name, looked_at.state) == ("", State.SIMULATION_STATE_UNSPECIFIED)
    assert looked_at.scenario == a_scenario()
    assert looked_at.digest == create(peer).digest


def test_equal_scenarios_have_equal_digests_and_others_have_others(peer: Peer) -> None:
    one = create(peer)

    assert create(peer).digest == one.digest
    assert create(peer).name != one.name
    assert create(peer, seed=2).digest != one.digest
    assert len(one.digest) == 64


def test_what_is_left_out_has_the_digest_of_its_default(peer: Peer) -> None:
    assert create(peer, attempts_max=65536).digest == create(peer).digest


def test_a_request_id_makes_the_call_safe_to_repeat(peer: Peer) -> None:
    first = create(peer, request_id="mine")

    assert create(peer, request_id="mine").name == first.name
    assert create(peer, request_id="other").name != first.name


def test_cancelling_ends_a_running_simulation_within_100_ms(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=0, on_slice=endless))
    name = create(peer).name
    started = peer.simulations.StreamEvents(simulation_service_pb2.StreamEventsRequest(name=name))
    next(started)

    before_s = time.monotonic()
    cancelled = cancel(peer, name)
    took_s = time.monotonic() - before_s

    assert cancelled.state == State.SIMULATION_STATE_CANCELLED
    assert cancelled.HasField("end_time")
    assert cancelled.progress.fault_rows == cancelled.progress.faults > 0
    assert took_s < 0.1


def test_cancelling_ends_a_simulation_that_takes_long_to_begin(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(an_engine(on_begin=gate.pass_through), Limits(workers=1))
    name = create(peer).name
    assert gate.reached.wait(PATIENCE_S)

    cancelled = cancel(peer, name)

    assert cancelled.state == State.SIMULATION_STATE_CANCELLED
    gate.opened.set()
    next_one = wait(peer, create(peer).name)
    assert next_one.state == State.SIMULATION_STATE_SUCCEEDED
    assert get(peer, name) == cancelled


def test_cancelling_ends_a_simulation_that_waits(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(an_engine(on_slice=lambda _: gate.pass_through()), Limits(workers=1))
    create(peer)
    assert gate.reached.wait(PATIENCE_S)
    queued = create(peer, seed=2)

    assert cancel(peer, queued.name).state == State.SIMULATION_STATE_CANCELLED
    assert wait(peer, queued.name).progress.fault_rows == 0
    gate.opened.set()


def test_cancelling_leaves_what_has_ended_as_it_is(peer: Peer) -> None:
    ended = wait(peer, create(peer).name)

    assert cancel(peer, ended.name) == ended


def test_a_broken_invariant_is_a_failed_run_and_the_next_one_runs(servers: Servers) -> None:
    def break_once(_: int) -> None:
        if not broken.is_set():
            broken.set()
            raise AssertionError("seed 1, step 2: two writers")

    broken = threading.Event()
    peer = servers.start(an_engine(on_slice=break_once), Limits(workers=1))

    failed = wait(peer, create(peer).name)

    assert failed.state == State.SIMULATION_STATE_FAILED
    assert failed.error.reason == "INVARIANT_BROKEN"
    assert "seed 1, step 2" in failed.error.message
    assert wait(peer, create(peer).name).state == State.SIMULATION_STATE_SUCCEEDED


def test_too_many_rows_are_a_failed_run_whose_log_ends_at_the_limit(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=99), Limits(workers=1, rows_max=2500))

    failed = wait(peer, create(peer).name)

    assert failed.state == State.SIMULATION_STATE_FAILED
    assert failed.error.reason == "ROWS_LIMIT"
    assert failed.progress.fault_rows == 2500


def test_a_log_that_cannot_be_written_is_a_failed_run(servers: Servers) -> None:
    server = servers.server()
    peer = servers.peer(server.address)
    (server.directory / "logs").rmdir()
    (server.directory / "logs").write_text("a file where a directory should be")

    failed = wait(peer, create(peer).name)

    assert failed.state == State.SIMULATION_STATE_FAILED
    assert failed.error.reason == "STORAGE"
    assert "Not a directory" in failed.error.message


def test_shutting_down_cuts_streams_as_unavailable(servers: Servers) -> None:
    server = servers.server(an_engine(slices=0, on_slice=endless))
    peer = servers.peer(server.address)
    request = simulation_service_pb2.StreamEventsRequest(name=create(peer).name)
    stream = peer.simulations.StreamEvents(request)
    next(stream)

    closing = threading.Thread(target=server.close)
    closing.start()

    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    closing.join(PATIENCE_S)
    assert not closing.is_alive()


def test_a_server_inside_a_process_does_not_write_to_its_output(
    servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    """The output belongs to the process: it may be JSON that somebody reads."""
    peer = servers.start()

    wait(peer, create(peer).name)

    assert capfd.readouterr().out == ""
