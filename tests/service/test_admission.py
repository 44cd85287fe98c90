"""Who may have how much, who comes next, and what becomes of a run that needs too much."""

import threading
from itertools import islice
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import scenario_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions, SimulationState
from faultlane_server.engine import world
from faultlane_server.runs import Limits, OwnerLimits, RunLimits, estimate
from faultlane_server.runs.memory import machine_bytes
from faultlane_server.runs.queue import FairQueue
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    Steady,
    a_scenario,
    an_engine,
    cancel,
    create,
    detail,
    endless,
    get,
    knows_owners,
    reason,
    refused,
    run,
    starts,
    starts_of_run,
    wait,
)

SUCCEEDED = SimulationState.SIMULATION_STATE_SUCCEEDED
FAILED = SimulationState.SIMULATION_STATE_FAILED
QUEUED = SimulationState.SIMULATION_STATE_QUEUED


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> None:
    knows_owners(monkeypatch)


@pytest.mark.usefixtures("owners")
def test_owners_take_turns_however_much_one_of_them_wants(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    server = servers.server(engine, Limits(workers=1))
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    create(alice)
    assert gate.reached.wait(PATIENCE_S)
    hers = [create(alice, seed=seed).name for seed in range(2, 7)]
    his = [create(bob, seed=seed).name for seed in (10, 11)]

    gate.opened.set()

    ended = [wait(alice, name) for name in hers] + [wait(bob, name) for name in his]
    in_order = sorted(ended, key=lambda simulation: simulation.start_time.ToNanoseconds())
    seeds = [simulation.name for simulation in in_order]
    places = [seeds.index(name) for name in (*his, *hers)]
    assert places[:2] == [1, 3]  # at once after one of hers, and after the next one
    assert places[2:] == [0, 2, 4, 5, 6]


@pytest.mark.usefixtures("owners")
def test_one_owner_may_queue_no_more_than_one_may(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    limits = Limits(workers=1, owner=OwnerLimits(queued_max=2))
    server = servers.server(engine, limits)
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    create(alice)
    assert gate.reached.wait(PATIENCE_S)
    create(alice, seed=2)
    create(alice, seed=3)

    error = refused(lambda: create(alice, seed=4))

    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert 1 <= detail(error, details.RetryInfo).retry_delay.seconds <= 60
    assert create(bob, seed=5).state == QUEUED
    gate.opened.set()


@pytest.mark.usefixtures("owners")
def test_one_owner_may_run_no_more_than_one_may(servers: Servers) -> None:
    gate = Gate()
    engine = an_engine(on_slice=lambda _: gate.pass_through())
    server = servers.server(engine, Limits(workers=2, owner=OwnerLimits(running_max=1)))
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    create(alice)
    assert gate.reached.wait(PATIENCE_S)
    second = create(alice, seed=2).name
    gate.reached.clear()

    his = create(bob, seed=3).name

    assert gate.reached.wait(PATIENCE_S)
    assert get(bob, his).state == SimulationState.SIMULATION_STATE_RUNNING
    assert get(alice, second).state == QUEUED
    gate.opened.set()
    assert wait(alice, second).state == SUCCEEDED


@pytest.mark.usefixtures("owners")
def test_one_owner_may_read_no_more_at_once_than_one_may(servers: Servers) -> None:
    engine = an_engine(slices=0, on_slice=endless)
    limits = Limits(workers=1, heartbeat_s=0.01, owner=OwnerLimits(streams_max=2))
    server = servers.server(engine, limits)
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    name = create(alice).name
    open_ones: list[Any] = [
        alice.simulations.StreamEvents(pb.StreamEventsRequest(name=name)),
        alice.simulations.WatchSimulation(pb.WatchSimulationRequest(name=name)),
    ]
    for stream in open_ones:
        next(stream)

    error = refused(lambda: starts(alice, name))

    assert reason(error) == "TOO_MANY_STREAMS"
    assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
    his = create(bob, seed=2).name
    watch = bob.simulations.WatchSimulation(pb.WatchSimulationRequest(name=his))
    assert next(watch).simulation.name == his
    for stream in (*open_ones, watch):
        stream.cancel()


@pytest.mark.usefixtures("owners")
def test_nobody_sees_what_belongs_to_somebody_else(servers: Servers) -> None:
    server = servers.server()
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    name = run(alice, request_id="one").name
    calls = [
        lambda: get(bob, name),
        lambda: cancel(bob, name),
        lambda: wait(bob, name),
        lambda: starts(bob, name),
        lambda: bob.simulations.DeleteSimulation(pb.DeleteSimulationRequest(name=name)),
    ]

    assert {reason(refused(call)) for call in calls} == {"NO_SUCH_SIMULATION"}
    assert not bob.simulations.ListSimulations(pb.ListSimulationsRequest()).simulations
    assert create(bob, seed=2, request_id="one").name != name
    assert get(alice, name).state == SUCCEEDED


def test_a_queue_of_jobs_that_may_not_run_hands_out_none() -> None:
    queue = FairQueue()

    assert queue.pop(lambda _: True) is None
    assert list(queue) == []


def test_a_run_that_takes_too_long_fails_and_the_next_one_runs(servers: Servers) -> None:
    time = Steady()
    engine = an_engine(slices=99, on_slice=lambda _: time.go_on(1))
    limits = Limits(workers=1, run=RunLimits(seconds_max=50))
    peer = servers.start(engine, limits, clock=time.clock())

    asked = run(peer, options=RunOptions(run_timeout_ms=9_500))
    limited = run(peer, seed=2)
    more = run(peer, seed=3, options=RunOptions(run_timeout_ms=99_500))

    for simulation, seconds, slices in ((asked, "9.5", 10), (limited, "50", 51), (more, "50", 51)):
        assert (simulation.state, simulation.error.reason) == (FAILED, "RUN_TIMEOUT")
        assert f"{seconds} s" in simulation.error.message
        assert simulation.progress.fault_rows == slices * 1000
    assert starts(peer, asked.name) == starts_of_run(10)


def test_setting_the_clock_of_the_machine_ends_no_run(servers: Servers) -> None:
    time = Steady()

    def jump(_: int) -> None:
        time.wall_ns += 10**18

    limits = Limits(workers=1, run=RunLimits(seconds_max=50))
    peer = servers.start(an_engine(on_slice=jump), limits, clock=time.clock())

    assert run(peer).state == SUCCEEDED


@pytest.mark.parametrize(
    ("limits", "reason_of"),
    [
        (RunLimits(faults_max=2500), "FAULTS_LIMIT"),
        (RunLimits(events_max=5000), "EVENTS_LIMIT"),
    ],
)
def test_a_run_of_too_much_fails_with_the_rows_so_far(
    servers: Servers, limits: RunLimits, reason_of: str
) -> None:
    peer = servers.start(an_engine(slices=99), Limits(workers=1, run=limits))

    failed = run(peer)

    assert (failed.state, failed.error.reason) == (FAILED, reason_of)
    assert starts(peer, failed.name) == starts_of_run(3)


def test_a_run_without_memory_fails_and_the_one_beside_it_does_not(servers: Servers) -> None:
    gate = Gate()

    def on_slice(_: int) -> None:
        if gate.reached.is_set():
            raise MemoryError("cannot take 2 GiB")
        gate.pass_through()

    peer = servers.start(an_engine(slices=1, on_slice=on_slice), Limits(workers=2))
    beside = create(peer).name
    assert gate.reached.wait(PATIENCE_S)

    failed = run(peer, seed=2)

    assert (failed.state, failed.error.reason) == (FAILED, "MEMORY")
    gate.opened.set()
    assert wait(peer, beside).state == SUCCEEDED


def test_a_run_that_takes_too_much_memory_fails_and_the_one_beside_it_does_not(
    servers: Servers,
) -> None:
    """It is looked at twice a second, whatever was estimated before."""
    time = Steady()
    taken = {1: iter(range(0, 10**9, 2 * 10**7)), 2: iter([0] * 999)}
    engine = an_engine(
        slices=60,
        on_slice=lambda _: time.go_on(0.25),
        memory_of=lambda simulator: next(taken[simulator._seed]),
    )
    limits = Limits(workers=2, run=RunLimits(memory_bytes_max=100_000_000))
    peer = servers.start(engine, limits, clock=time.clock())
    beside = create(peer, seed=2).name

    failed = run(peer, seed=1)

    assert (failed.state, failed.error.reason) == (FAILED, "MEMORY_LIMIT")
    assert "120000000 bytes of memory, of 100000000" in failed.error.message
    rows = starts(peer, failed.name)
    assert 0 < len(rows) < 60_000
    assert rows == starts_of_run(60)[: len(rows)]
    assert wait(peer, beside).state == SUCCEEDED


def test_all_runs_at_once_fit_into_the_memory_of_the_machine() -> None:
    for workers in (1, 4, 1000):
        limit = Limits.of_machine(workers).run.memory_bytes_max
        assert 0 < limit * workers < machine_bytes()
        assert limit <= 2 << 30


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (RunLimits(threads_max=1), "threads"),
        (RunLimits(vmas_max=0), "VMAs"),
        (RunLimits(pages_max=511), "pages"),
        (RunLimits(memory_bytes_max=1 << 20), "bytes of memory"),
    ],
)
def test_a_scenario_that_is_too_large_is_refused_for_good(
    servers: Servers, limits: RunLimits, what: str
) -> None:
    peer = servers.start(limits=Limits(workers=1, run=limits))

    error = refused(lambda: create(peer))

    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
    (violation,) = detail(error, details.QuotaFailure).violations
    assert violation.subject == what


def test_to_validate_tells_what_a_run_will_need(peer: Peer) -> None:
    """Two threads that touch nine times each, and 256 pages of a file and of a VMA over it."""
    request = pb.CreateSimulationRequest(scenario=a_scenario(), validate_only=True)

    needs = peer.simulations.CreateSimulation(request).estimate

    assert (needs.threads, needs.vmas, needs.pages, needs.touches) == (2, 1, 512, 18)
    assert needs.memory_bytes > 512 * estimate.PAGE_BYTES
    assert needs.fault_log_bytes_max > 18 * 100
    created = pb.CreateSimulationRequest(scenario=a_scenario())
    assert not peer.simulations.CreateSimulation(created).HasField("estimate")


def test_huge_pages_are_counted_as_such_and_twice_if_they_have_no_file(peer: Peer) -> None:
    scenario = a_scenario()
    scenario.machine.huge_pages.count = 8
    scenario.machine.huge_pages.page_bytes = 2 << 20
    (process,) = scenario.workload.processes
    process.vmas.add(name="huge", length_bytes=8 << 20).hugetlb.SetInParent()
    kind = scenario_pb2.FileKind.FILE_KIND_HUGETLB
    scenario.workload.files.add(name="hugetlbfs", size_bytes=4 << 20, kind=kind)
    request = pb.CreateSimulationRequest(scenario=scenario, validate_only=True)

    needs = peer.simulations.CreateSimulation(request).estimate

    assert needs.pages == 512 + 2 * 4 + 2


def test_touches_of_loops_are_counted_and_those_without_end_are_not_set(peer: Peer) -> None:
    def touches_of(count: int) -> int | None:
        scenario = a_scenario()
        (group,) = scenario.workload.processes[0].groups
        touch = group.program.pop()
        loop = scenario_pb2.Loop(count=count, steps=[touch])
        group.program.add(measure=scenario_pb2.Measure(name="round")).measure.steps.add(loop=loop)
        request = pb.CreateSimulationRequest(scenario=scenario, validate_only=True)
        needs = peer.simulations.CreateSimulation(request).estimate
        return needs.touches if needs.HasField("touches") else None

    assert touches_of(7) == 2 * 7 * 9
    assert touches_of(2**63 - 1) == 2**64 - 1
    assert touches_of(0) is None


def test_the_estimate_of_memory_is_that_of_the_record_of_a_run() -> None:
    columns = world.World.fields
    assert columns is not None
    page = columns["folios"][0].base.itemsize + columns["ptes"][0].base.itemsize
    thread, vma = columns["threads"][0].base.itemsize, columns["vmas"][0].base.itemsize

    assert page == estimate.PAGE_BYTES
    assert thread <= estimate.THREAD_BYTES <= 1.3 * thread
    assert vma <= estimate.VMA_BYTES <= 1.3 * vma


def test_a_run_that_is_told_to_ends_with_its_stream(servers: Servers) -> None:
    server = servers.server(an_engine(slices=0, on_slice=endless))
    peer = servers.peer(server.address)
    request = pb.RunSimulationRequest(
        scenario=a_scenario(), options=RunOptions(cancel_on_disconnect=True)
    )
    with grpc.insecure_channel(server.address) as channel:
        first, *_ = islice(Peer(channel).simulations.RunSimulation(request), 2)

    ended = wait(peer, first.simulation.name)

    assert ended.state == SimulationState.SIMULATION_STATE_CANCELLED


def test_options_that_make_no_sense_are_named(peer: Peer) -> None:
    options = RunOptions(
        run_timeout_ms=10**13,
        cancel_on_disconnect=True,
        labels={"": "empty", "long": "x" * 256, **{f"n{n}": "" for n in range(63)}},
    )

    error = refused(lambda: create(peer, options=options))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    fields = {each.field for each in detail(error, details.BadRequest).field_violations}
    assert fields == {
        "options.run_timeout_ms",
        "options.cancel_on_disconnect",
        "options.labels",
        "options.labels['']",
        "options.labels['long']",
    }


def test_a_request_id_with_other_options_is_taken(peer: Peer) -> None:
    create(peer, request_id="mine", options=RunOptions(labels={"a": "1"}))

    error = refused(lambda: create(peer, request_id="mine", options=RunOptions(labels={"a": "2"})))

    assert reason(error) == "REQUEST_ID_TAKEN"


def test_a_draining_server_takes_nothing_and_ends_no_run(servers: Servers) -> None:
    """It is not serving any more, while the last slice still runs."""
    gate = Gate()
    server = servers.server(an_engine(on_slice=lambda _: gate.pass_through()))
    peer = servers.peer(server.address)
    name = create(peer).name
    assert gate.reached.wait(PATIENCE_S)
    watch = peer.simulations.WatchSimulation(pb.WatchSimulationRequest(name=name))
    assert next(watch).simulation.state == SimulationState.SIMULATION_STATE_RUNNING

    server.begin_to_close()

    error = refused(lambda: list(watch))
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert refused(lambda: create(peer, seed=2)).code() == grpc.StatusCode.UNAVAILABLE
    closing = threading.Thread(target=server.close)
    closing.start()
    gate.opened.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
