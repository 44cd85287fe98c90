"""A disk that is full, read-only or damaged: an error that says so, and nothing else is lost."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import SimulationState
from faultlane_server.runs import DataDirError, Limits
from faultlane_server.service.local import LocalServer
from faultlane_server.store import LogWriter, Register, RegisterNotWritten
from tests.service.fake import (
    PATIENCE_S,
    Gate,
    Servers,
    an_engine,
    cancel,
    create,
    detail,
    get,
    reason,
    refused,
    run,
    starts,
    starts_of_run,
    wait,
)

SUCCEEDED = SimulationState.SIMULATION_STATE_SUCCEEDED
CANCELLED = SimulationState.SIMULATION_STATE_CANCELLED


class FullDisk:
    """Lets the register of a server grow no further while it is full, as SQLite does it itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._registers: list[Register] = []
        begin = Register.__init__

        def remember(register: Register, path: Path, *, durable: bool = True) -> None:
            begin(register, path, durable=durable)
            self._registers.append(register)

        monkeypatch.setattr(Register, "__init__", remember)

    @contextmanager
    def full(self) -> Iterator[None]:
        self._pages_max(1)  # SQLite takes what there is already
        try:
            yield
        finally:
            self._pages_max(1 << 30)

    def _pages_max(self, pages: int) -> None:
        for register in self._registers:
            register._writer.execute(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


def test_what_a_full_disk_cannot_keep_is_not_accepted(disk: FullDisk, servers: Servers) -> None:
    peer = servers.start()
    before = run(peer).name
    with disk.full():
        error = refused(lambda: [create(peer, seed=seed) for seed in range(2, 500)])
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "STORAGE")
        assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
        assert starts(peer, before) == starts_of_run(3)

    assert run(peer, seed=999).state == SUCCEEDED


def test_an_end_that_the_disk_did_not_take_is_told_and_kept_later(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    server = servers.server(
        an_engine(on_slice=lambda _: gate.pass_through()),
        Limits(workers=1, sweep_s=0.01),
        directory=tmp_path,
    )
    peer = servers.peer(server.address)
    name = create(peer).name
    assert gate.reached.wait(PATIENCE_S)
    saved = Saves(monkeypatch)

    gate.opened.set()
    ended = wait(peer, name)

    assert ended.state == SUCCEEDED
    assert get(peer, name).state == SUCCEEDED
    assert saved.failed
    saved.can_be.set()
    saved.wait()
    server.close()
    assert get(servers.start(directory=tmp_path), name).end_time == ended.end_time


class Saves:
    """Lets no state be saved until it can be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.can_be = threading.Event()
        self.failed = 0
        self._done = threading.Event()
        change = Register.change

        def changed(register: Register, name: str, **columns: object) -> None:
            if not self.can_be.is_set():
                self.failed += 1
                raise RegisterNotWritten("database or disk is full")
            change(register, name, **columns)
            self._done.set()

        monkeypatch.setattr(Register, "change", changed)

    def wait(self) -> None:
        assert self._done.wait(PATIENCE_S)


def failing_from(rows: int, instead: Callable[[], int]) -> Callable[[LogWriter], None]:
    """Put another file in the place of a log that has so many rows."""

    def flush(writer: LogWriter) -> None:
        if writer.rows >= rows and writer.header.kind == "faults":
            os.dup2(instead(), writer._files.log.fileno())
        FLUSH(writer)

    return flush


FLUSH = LogWriter.flush

DISKS = {
    "full": (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
    "read-only": (lambda: os.open("/dev/zero", os.O_RDONLY), "Bad file descriptor"),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_fails_during_a_run_fails_that_run_alone(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    instead, message = DISKS[kind]
    server = servers.server(an_engine(slices=40), Limits(workers=1))
    peer = servers.peer(server.address)
    before = run(peer).name
    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "flush", failing_from(8192, instead))
        failed = run(peer, seed=2)

    assert failed.error.reason == "STORAGE"
    assert message in failed.error.message
    assert failed.progress.fault_rows >= 8192
    read = starts(peer, failed.name)
    assert read == starts_of_run(40, seed=2)[: len(read)]
    assert starts(peer, before) == starts_of_run(40)
    assert run(peer, seed=3).state == SUCCEEDED


@pytest.mark.parametrize("path", ["/proc/faultlane", "/dev/null", "/dev/null/data"])
def test_a_directory_that_cannot_be_written_is_refused_and_says_why(path: str) -> None:
    with pytest.raises(DataDirError, match=f"cannot use {path}"):
        LocalServer(engine=an_engine(), directory=Path(path)).start()


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "flipped", "index cut"])
def test_damage_to_a_log_is_data_loss_behind_what_can_still_be_read(
    servers: Servers, tmp_path: Path, damage: str
) -> None:
    server = servers.server(an_engine(slices=20), directory=tmp_path)
    peer = servers.peer(server.address)
    name = run(peer).name
    other = run(peer, seed=2).name
    log = tmp_path / "logs" / "1" / "faults.log"
    damage_log(log, damage)
    stream = peer.simulations.StreamEvents(pb.StreamEventsRequest(name=name))
    read: list[int] = []

    error = refused(lambda: read.extend(s for part in stream for s in part.faults.start_ns))

    assert (error.code(), reason(error)) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_LOG")
    assert read == starts_of_run(20)[: len(read)]
    assert starts(peer, other) == starts_of_run(20, seed=2)
    server.close()
    peer = servers.start(an_engine(slices=20), directory=tmp_path)
    assert reason(refused(lambda: starts(peer, name))) == "CORRUPT_LOG"
    assert starts(peer, other) == starts_of_run(20, seed=2)


def damage_log(log: Path, damage: str) -> None:
    length = log.stat().st_size
    if damage == "cut":
        os.truncate(log, length - 100)
    elif damage == "emptied":
        os.truncate(log, 0)
    elif damage == "removed":
        log.unlink()
    elif damage == "index cut":
        index = log.with_suffix(".index")
        os.truncate(index, index.stat().st_size - 24)
    else:
        content = bytearray(log.read_bytes())
        content[-100] ^= 1
        log.write_bytes(content)


def test_a_damaged_register_is_refused_and_left_as_it_is(servers: Servers, tmp_path: Path) -> None:
    server = servers.server(directory=tmp_path)
    run(servers.peer(server.address))
    server.close()
    register = tmp_path / "register.db"
    register.write_bytes(b"not a database" * 1000)

    with pytest.raises(Exception, match="register of simulations"):
        LocalServer(engine=an_engine(), directory=tmp_path).start()

    assert register.read_bytes() == b"not a database" * 1000
    assert list(tmp_path.glob("logs/*/faults.log"))


def test_a_cancelled_run_stays_cancelled(servers: Servers, tmp_path: Path) -> None:
    """Its end was told, so no later server makes it run again."""
    gate = Gate()
    engine = an_engine(slices=0, on_slice=lambda _: gate.reached.set())
    server = servers.server(engine, Limits(workers=1), directory=tmp_path)
    peer = servers.peer(server.address)
    name = create(peer).name
    assert gate.reached.wait(PATIENCE_S)
    assert cancel(peer, name).state == CANCELLED
    server.close()

    assert get(servers.start(directory=tmp_path), name).state == CANCELLED
