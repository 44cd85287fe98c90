"""What was accepted outlives the server that accepted it, and nobody else touches it."""

import os
import threading
from pathlib import Path

import pytest

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions, Simulation, SimulationState
from faultlane_server.runs import DataDirError, Engine, Limits
from faultlane_server.scenario import Scenario
from faultlane_server.service.local import LocalServer
from tests.service.fake import (
    PATIENCE_S,
    FakeSimulator,
    Gate,
    Peer,
    Servers,
    an_engine,
    cancel,
    create,
    first_starts,
    get,
    run,
    starts,
    starts_of_run,
    wait,
)

SUCCEEDED = SimulationState.SIMULATION_STATE_SUCCEEDED
FAILED = SimulationState.SIMULATION_STATE_FAILED
CANCELLED = SimulationState.SIMULATION_STATE_CANCELLED


class House:
    """One data directory, and the servers that live in it one after another."""

    def __init__(self, servers: Servers, directory: Path) -> None:
        self.directory = directory
        self._servers = servers
        self._server: LocalServer | None = None

    def move_in(self, engine: Engine | None = None, limits: Limits | None = None) -> Peer:
        """End the server that is there, and start another one."""
        self.move_out()
        self._server = self._servers.server(engine, limits, directory=self.directory)
        return self._servers.peer(self._server.address)

    def move_out(self) -> None:
        if self._server:
            self._server.close()


@pytest.fixture
def house(servers: Servers, tmp_path: Path) -> House:
    return House(servers, tmp_path / "data")


def without_end(slices: int) -> tuple[Engine, threading.Event]:
    """An engine whose runs make rows for so many slices, and then none, without an end."""
    reached = threading.Event()

    class Stuck(FakeSimulator):
        def advance(self) -> bool:
            if self._slice == slices:
                reached.set()
                threading.Event().wait(0.001)
                return False
            return super().advance()

    engine = an_engine()
    return (
        engine._replace(simulator=lambda scenario: Stuck(scenario, 10**9, lambda _: None)),
        reached,
    )


def test_what_has_ended_is_there_again(house: House) -> None:
    peer = house.move_in()
    options = RunOptions(labels={"purpose": "test"}, run_timeout_ms=60_000)
    before = get(peer, run(peer, request_id="mine", options=options).name)
    rows = starts(peer, before.name)

    peer = house.move_in()

    assert get(peer, before.name) == before
    assert before.options == options
    assert before.summary.latencies[0].log2_counts == [1, 1, 1]
    assert before.summary.blame.chains[0].links[0].holder.group == "mapper"
    assert before.summary.retries.longest.rows[0].waits[0].cause == "device"
    assert starts(peer, before.name) == rows == starts_of_run(3)
    assert starts(peer, before.name, offset=2500) == rows[2500:]
    assert create(peer, request_id="mine", options=options).name == before.name


def test_a_failure_and_a_cancellation_are_remembered(house: House) -> None:
    engine, _ = without_end(2)
    peer = house.move_in(engine, Limits(1, rows_max=1500))
    failed = run(peer)
    peer = house.move_in(engine)
    name = create(peer, seed=2).name
    first_starts(peer, name, least=2000)
    cancelled = cancel(peer, name)

    peer = house.move_in()

    assert get(peer, failed.name).error.reason == "ROWS_LIMIT"
    assert len(starts(peer, failed.name)) == 1500
    assert get(peer, name) == cancelled
    assert starts(peer, name) == starts_of_run(2, seed=2)


def test_a_run_goes_on_where_its_log_ends_without_a_seam(house: House) -> None:
    engine, reached = without_end(5)
    peer = house.move_in(engine, Limits(1))
    name = create(peer).name
    assert reached.wait(PATIENCE_S)
    stream = peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name), timeout=PATIENCE_S)
    seen = [*next(stream).faults.start_ns]

    peer = house.move_in(an_engine(slices=20))

    assert wait(peer, name).state == SUCCEEDED
    assert 0 < len(seen) <= 5000
    assert seen + starts(peer, name, offset=len(seen)) == starts_of_run(20)


def test_queued_ones_run_in_the_order_in_which_they_came(house: House) -> None:
    engine, reached = without_end(1)
    peer = house.move_in(engine, Limits(1))
    names = [create(peer, seed=seed).name for seed in range(1, 5)]
    assert reached.wait(PATIENCE_S)

    peer = house.move_in(limits=Limits(1))

    ended = [wait(peer, name) for name in names]
    assert [simulation.state for simulation in ended] == [SUCCEEDED] * 4
    begins = [simulation.start_time.ToNanoseconds() for simulation in ended]
    assert begins == sorted(begins)


def test_they_are_taken_in_before_the_kernels_are_loaded(house: House, servers: Servers) -> None:
    engine, reached = without_end(1)
    peer = house.move_in(engine, Limits(1))
    name = create(peer).name
    assert reached.wait(PATIENCE_S)
    house.move_out()
    gate = Gate()
    server = LocalServer(engine=an_engine(warm_up=gate.pass_through), directory=house.directory)
    peer = servers.peer(server.listen())

    assert get(peer, name).state == SimulationState.SIMULATION_STATE_QUEUED

    gate.opened.set()
    assert wait(peer, name).state == SUCCEEDED
    server.close()


def test_another_model_does_not_go_on_with_a_run(house: House) -> None:
    engine, reached = without_end(2)
    peer = house.move_in(engine, Limits(1))
    names = [create(peer, seed=seed).name for seed in (1, 2)]
    assert reached.wait(PATIENCE_S)

    peer = house.move_in(an_engine(model_version=8))

    for name in names:
        failed = wait(peer, name)
        assert (failed.state, failed.error.reason) == (FAILED, "MODEL_CHANGED")
    assert run(peer).state == SUCCEEDED


def test_a_run_that_is_another_one_the_second_time_is_a_bug_and_not_a_seam(house: House) -> None:
    engine, reached = without_end(5)
    peer = house.move_in(engine, Limits(1))
    name = create(peer).name
    assert reached.wait(PATIENCE_S)
    next(peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name), timeout=PATIENCE_S))

    class Other(FakeSimulator):
        def __init__(self, scenario: Scenario) -> None:
            super().__init__(scenario, 20, lambda _: None)
            self._seed = 99

    peer = house.move_in(an_engine()._replace(simulator=Other))

    failed = wait(peer, name)
    assert (failed.state, failed.error.reason) == (FAILED, "INVARIANT_BROKEN")
    assert "row 0" in failed.error.message


@pytest.mark.parametrize("damage", ["torn", "flipped", "no index", "no header"])
def test_a_log_that_a_crash_left_damaged_is_made_whole(house: House, damage: str) -> None:
    engine, reached = without_end(20)
    peer = house.move_in(engine, Limits(1))
    name = create(peer).name
    assert reached.wait(PATIENCE_S)
    house.move_out()
    (log,) = house.directory.glob("logs/*/faults.log")
    content = bytearray(log.read_bytes())
    if damage == "torn":
        os.truncate(log, len(content) - 1000)
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        log.write_bytes(content)
    elif damage == "no index":
        log.with_suffix(".index").unlink()
    else:
        os.truncate(log, 20)

    peer = house.move_in(an_engine(slices=30))

    assert wait(peer, name).state == SUCCEEDED
    assert starts(peer, name) == starts_of_run(30)


def test_what_a_crash_left_over_is_removed(house: House) -> None:
    house.move_in()
    house.move_out()
    left = house.directory / "logs" / "77"
    left.mkdir()
    (left / "faults.log").write_bytes(b"torn")

    house.move_in()

    assert not left.exists()


def test_a_directory_in_use_is_refused_and_says_by_whom(house: House) -> None:
    peer = house.move_in()
    name = create(peer).name

    with pytest.raises(DataDirError, match=f"another server, process {os.getpid()}"):
        LocalServer(engine=an_engine(), directory=house.directory).start()

    assert wait(peer, name).state == SUCCEEDED
    house.move_in()


@pytest.mark.parametrize("version", ["faultlane data, format 2\n", "", "something else\n"])
def test_a_directory_of_another_format_is_refused_and_left_as_it_is(
    house: House, version: str
) -> None:
    peer = house.move_in()
    run(peer)
    house.move_out()
    (house.directory / "VERSION").write_text(version)
    before = contents(house.directory)

    with pytest.raises(DataDirError, match="of another version"):
        house.move_in()

    assert contents(house.directory) == before


def test_a_directory_of_somebody_else_is_refused_and_left_as_it_is(house: House) -> None:
    house.directory.mkdir()
    (house.directory / "thesis.tex").write_text("all of it")

    with pytest.raises(DataDirError, match=r"not empty: it holds 'thesis.tex'"):
        house.move_in()

    assert [path.name for path in house.directory.iterdir()] == ["thesis.tex"]


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_a_simulation_from_before_can_be_cancelled(house: House) -> None:
    engine, reached = without_end(1)
    peer = house.move_in(engine, Limits(1))
    running, queued = create(peer).name, create(peer, seed=2).name
    assert reached.wait(PATIENCE_S)
    peer = house.move_in(engine, Limits(1))

    ended: list[Simulation] = [cancel(peer, name) for name in (queued, running)]

    assert [simulation.state for simulation in ended] == [CANCELLED] * 2
    peer = house.move_in()
    assert [get(peer, name).state for name in (queued, running)] == [CANCELLED] * 2
