"""Equal runs have equal logs, so one log is enough; and nobody notices but the disk."""

import threading
from pathlib import Path
from typing import Any

import pytest

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.explanation_pb2 import FaultChoice
from faultlane.v1.simulation_pb2 import RunOptions, SimulationState
from faultlane_server.runs import Engine, Limits
from faultlane_server.store import Register, RegisterNotWritten
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Servers,
    an_engine,
    cancel,
    create,
    delete,
    first_starts,
    get,
    knows_owners,
    run,
    starts,
    starts_of_run,
    wait,
)

SUCCEEDED = SimulationState.SIMULATION_STATE_SUCCEEDED
CANCELLED = SimulationState.SIMULATION_STATE_CANCELLED
AGAIN = RunOptions(skip_cache=True)


class Runs:
    """Counts how often anything was simulated."""

    def __init__(self) -> None:
        self.begun = 0

    def engine(self, **of_engine: Any) -> Engine:
        return an_engine(on_begin=self._begin, **of_engine)

    def _begin(self) -> None:
        self.begun += 1


@pytest.fixture
def runs() -> Runs:
    return Runs()


def logs(directory: Path) -> int:
    return len(list(directory.glob("logs/*")))


def test_an_equal_simulation_has_ended_when_it_is_created(servers: Servers, runs: Runs) -> None:
    server = servers.server(runs.engine())
    peer = servers.peer(server.address)
    first = get(peer, run(peer).name)

    second = create(peer)

    assert second.name != first.name
    assert second.state == SUCCEEDED
    assert (second.summary, second.progress) == (first.summary, first.progress)
    assert starts(peer, second.name) == starts_of_run(3)
    assert second.create_time.ToNanoseconds() <= second.end_time.ToNanoseconds()
    assert (runs.begun, logs(server.directory)) == (1, 1)


def test_whoever_wants_a_log_of_his_own_has_one(servers: Servers, runs: Runs) -> None:
    server = servers.server(runs.engine())
    peer = servers.peer(server.address)

    names = [run(peer, options=AGAIN).name for _ in range(2)]

    assert [starts(peer, name) for name in names] == [starts_of_run(3)] * 2
    assert (runs.begun, logs(server.directory)) == (2, 2)


def test_an_equal_one_waits_for_the_one_that_runs_and_others_do_not(servers: Servers) -> None:
    gate, begun = Gate(), []

    def on_begin() -> None:
        begun.append(1)
        if len(begun) == 1:
            gate.pass_through()

    server = servers.server(an_engine(on_begin=on_begin), Limits(workers=3))
    peer = servers.peer(server.address)
    first = create(peer).name
    assert gate.reached.wait(PATIENCE_S)

    equal = create(peer).name
    other = run(peer, seed=2)

    assert get(peer, equal).state == SimulationState.SIMULATION_STATE_QUEUED
    assert other.state == SUCCEEDED
    gate.opened.set()
    assert wait(peer, equal).state == wait(peer, first).state == SUCCEEDED
    assert starts(peer, equal) == starts_of_run(3)
    assert len(begun) == logs(server.directory) == 2


class Leader:
    """A run that has made so many slices of rows and waits, and what reads along with it."""

    def __init__(self, servers: Servers, slices: int, **of_server: Any) -> None:
        self.gate = Gate()
        self.begun: list[int] = []
        self._slices = slices
        self.fails_next_time = False
        engine = an_engine(40, self._on_slice, on_begin=self._on_begin)
        server = servers.server(engine, Limits(workers=2, heartbeat_s=0.01), **of_server)
        self.directory = server.directory
        self.peer = servers.peer(server.address)
        self.name = create(self.peer).name

    def wait(self) -> None:
        assert self.gate.reached.wait(PATIENCE_S)

    def _on_begin(self) -> None:
        self.begun.append(1)
        if self.fails_next_time:
            raise MemoryError("cannot take 2 GiB")

    def _on_slice(self, number: int) -> None:
        if number < self._slices:
            threading.Event().wait(0.01)  # rows are flushed
        elif number == self._slices and len(self.begun) == 1:
            self.gate.pass_through()


def reading_along(leader: Leader) -> tuple[str, Any, list[int]]:
    """An equal simulation, its stream, and the rows that it has told of the leader's so far."""
    equal = create(leader.peer).name
    stream = leader.peer.simulations.StreamEvents(
        pb.StreamEventsRequest(name=equal), timeout=PATIENCE_S
    )
    return equal, stream, list(next(stream).faults.start_ns)


def test_equal_ones_read_along_with_the_one_that_runs(servers: Servers) -> None:
    """Whether they came before it began or later, they have its rows while it makes them."""
    leader = Leader(servers, slices=12)
    early = create(leader.peer).name
    leader.wait()
    late = create(leader.peer).name

    for name in (early, late):
        rows = first_starts(leader.peer, name, least=1000)
        assert rows == starts_of_run(40)[: len(rows)]
        assert get(leader.peer, name).state == SimulationState.SIMULATION_STATE_QUEUED
        assert get(leader.peer, name).progress == get(leader.peer, leader.name).progress
    leader.gate.opened.set()

    for name in (early, late, leader.name):
        assert starts(leader.peer, name) == starts_of_run(40)
        assert get(leader.peer, name).state == SUCCEEDED
    assert len(leader.begun) == logs(leader.directory) == 1


def test_a_disk_that_is_full_when_they_would_end_harms_no_worker(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(servers, slices=3)
    leader.wait()
    equal = create(leader.peer).name
    touch, refusals = Register.touch_log, iter([RegisterNotWritten("the disk is full")])

    def touch_log(register: Register, log: int, now_ns: int) -> None:
        for refusal in refusals:
            raise refusal
        touch(register, log, now_ns)

    monkeypatch.setattr(Register, "touch_log", touch_log)

    leader.gate.opened.set()

    assert wait(leader.peer, equal).state == SUCCEEDED
    assert wait(leader.peer, leader.name).state == SUCCEEDED
    assert run(leader.peer, seed=5).state == SUCCEEDED


def test_who_reads_along_goes_on_without_a_seam_when_the_one_that_runs_is_cancelled(
    servers: Servers,
) -> None:
    leader = Leader(servers, slices=12)
    leader.wait()
    _, stream, rows = reading_along(leader)
    threading.Thread(target=lambda: cancel(leader.peer, leader.name)).start()
    leader.gate.opened.set()

    rows += [start for part in stream for start in part.faults.start_ns]

    assert rows == starts_of_run(40)
    cut = get(leader.peer, leader.name)
    assert cut.state == CANCELLED
    assert starts(leader.peer, leader.name) == rows[: cut.progress.fault_rows]
    assert len(leader.begun) == logs(leader.directory) == 2


def test_rows_that_were_shown_stay_when_the_run_of_its_own_fails(servers: Servers) -> None:
    """Whoever has read them is not told that there are fewer."""
    leader = Leader(servers, slices=12)
    leader.wait()
    equal, stream, rows = reading_along(leader)
    leader.fails_next_time = True
    threading.Thread(target=lambda: cancel(leader.peer, leader.name)).start()
    leader.gate.opened.set()

    rows += [start for part in stream for start in part.faults.start_ns]

    failed = get(leader.peer, equal)
    assert failed.error.reason == "MEMORY"
    assert failed.progress.fault_rows == len(rows) > 0
    assert rows == starts_of_run(40)[: len(rows)] == starts(leader.peer, equal)


def test_who_reads_along_and_is_cancelled_keeps_the_rows_so_far(servers: Servers) -> None:
    """Also when the other run goes on, and when that is deleted."""
    leader = Leader(servers, slices=12)
    leader.wait()
    equal, stream, rows = reading_along(leader)

    ended = cancel(leader.peer, equal)

    rows += [start for part in stream for start in part.faults.start_ns]
    leader.gate.opened.set()
    assert wait(leader.peer, leader.name).state == SUCCEEDED
    assert ended.progress.fault_rows == len(rows) < 40_000
    assert rows == starts_of_run(40)[: len(rows)]
    delete(leader.peer, leader.name)
    assert starts(leader.peer, equal) == rows
    request = pb.ExplainFaultRequest(name=equal, choice=FaultChoice.FAULT_CHOICE_SLOWEST)
    assert leader.peer.simulations.ExplainFault(request).fault < len(rows)


def test_an_equal_one_runs_if_the_one_it_waited_for_is_cancelled(servers: Servers) -> None:
    begun = threading.Event()

    def on_slice(_: int) -> None:
        if not begun.is_set():
            begun.set()
            gate.pass_through()

    gate = Gate()
    peer = servers.start(an_engine(on_slice=on_slice), Limits(workers=2))
    first = create(peer).name
    assert begun.wait(PATIENCE_S)
    second = create(peer).name
    threading.Thread(target=lambda: cancel(peer, first)).start()

    gate.opened.set()

    assert wait(peer, second).state == SUCCEEDED
    assert starts(peer, second) == starts_of_run(3)


def test_a_failed_run_is_not_shared(servers: Servers, runs: Runs) -> None:
    peer = servers.start(runs.engine(slices=9), Limits(1, rows_max=1500))

    assert [run(peer).error.reason for _ in range(2)] == ["ROWS_LIMIT"] * 2
    assert runs.begun == 2


def test_a_log_goes_with_the_last_simulation_that_has_it(servers: Servers) -> None:
    server = servers.server()
    peer = servers.peer(server.address)
    first, second = run(peer).name, create(peer).name

    delete(peer, first)
    assert starts(peer, second) == starts_of_run(3)

    delete(peer, second)
    assert logs(server.directory) == 0


def test_owners_share_a_log_and_delete_their_own_simulation(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_owners(monkeypatch)
    server = servers.server()
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    hers, his = run(alice).name, create(bob).name

    delete(alice, hers)

    assert starts(bob, his) == starts_of_run(3)
    assert logs(server.directory) == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "no index"])
def test_a_damaged_log_is_not_shared(servers: Servers, runs: Runs, damage: str) -> None:
    server = servers.server(runs.engine())
    peer = servers.peer(server.address)
    run(peer)
    (log,) = server.directory.glob("logs/*/faults.log")
    if damage == "missing":
        log.unlink()
    elif damage == "cut":
        log.with_suffix(".index").write_bytes(b"")
    else:
        log.with_suffix(".index").unlink()

    assert starts(peer, run(peer).name) == starts_of_run(3)
    assert runs.begun == 2
