"""Simulations on disk: what is known of each, where its rows are, and how long they stay."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from faultlane_server.codes import SimulationState
from faultlane_server.runs.clock import Clock, moment_of, ns_of
from faultlane_server.runs.limits import DiskLimits
from faultlane_server.runs.plain import record_of, text_of
from faultlane_server.runs.recorder import LOG_COLUMNS, LogKind, log_path
from faultlane_server.runs.simulation import Progress, RunError, RunOptions, Simulation
from faultlane_server.store import (
    DataDir,
    LogError,
    LogReader,
    Query,
    Record,
    Register,
    RegisterNotWritten,
)
from faultlane_server.summary import Summary

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Content:
    """What of a simulation nobody searches for."""

    horizon_ns: int
    progress: Progress
    summary: Summary | None
    error: RunError | None


class Archive:
    """Everything that outlives the process."""

    def __init__(
        self,
        path: Path,
        limits: DiskLimits,
        clock: Clock,
        *,
        durable: bool,
        bytes_max_of: Callable[[str], int],
    ) -> None:
        self.limits = limits
        self._bytes_max_of = bytes_max_of  # how long the logs of an owner may be
        self.durable = durable  # whether it is to outlive a loss of power
        self._clock = clock
        self._data_dir = DataDir(path)
        try:
            self._register = Register(self._data_dir.register, durable=durable)
        except BaseException:
            self._data_dir.close()
            raise
        self._unsaved: dict[str, Simulation] = {}  # that the disk has not taken yet
        self._saving = threading.Lock()  # guards it
        self._writing: dict[int, tuple[str, int]] = {}  # owners and lengths of unfinished logs
        self._lock = threading.Lock()  # guards it
        self._sharing = threading.RLock()  # while a log is given to one more, or goes
        behind_s = clock.not_before(self._register.latest_ns())
        if behind_s > 0:
            logger.warning("the machine's clock is %.0f s behind the last simulation", behind_s)
        self._data_dir.remove_logs_but(self._register.logs())

    def close(self) -> None:
        self._register.close()
        self._data_dir.close()

    # Simulations.

    def add(self, simulation: Simulation, request_id: str) -> None:
        """Take in a simulation. It is on disk on return."""
        self._register.add(_record(simulation, request_id or None))

    def save(self, simulation: Simulation) -> None:
        """Keep a new state of a simulation.

        If the disk does not take it the simulation has that state all the same: it is
        tried again later, and after a crash the run is made again.
        """
        with self._saving:
            self._unsaved[simulation.name] = simulation
            try:
                self._save(simulation)
            except RegisterNotWritten as error:
                logger.error("%s: its state is not saved: %s", simulation.name, error)

    def get(self, name: str) -> Simulation | None:
        if unsaved := self._unsaved.get(name):  # asked first: afterwards it is in the register
            return unsaved
        found = self._register.get(name)
        return _simulation(found) if found else None

    def by_request(self, owner: str, request_id: str) -> Simulation | None:
        found = self._register.by_request(owner, request_id)
        return _simulation(found) if found else None

    def find(self, query: Query) -> list[tuple[int, Simulation]]:
        """Return simulations with their numbers, the newest first."""
        return [
            (found.number, self._unsaved.get(found.name) or _simulation(found))
            for found in self._register.find(query)
        ]

    def open_ones(self) -> list[Simulation]:
        """Return the simulations that have not ended, in the order in which they came."""
        return [_simulation(found) for found in self._register.open_ones()]

    def remove(self, name: str) -> None:
        """Forget a simulation, and its rows unless they are those of another one too."""
        with self._sharing:
            with self._saving:
                self._unsaved.pop(name, None)
                self._register.remove(name)
            self._remove_unused_logs()

    # Logs.

    def log_paths(self, log: int) -> Mapping[LogKind, Path]:
        return {kind: log_path(self._data_dir.log_dir(log), kind) for kind in LogKind}

    def log_dir(self, log: int) -> Path:
        return self._data_dir.log_dir(log)

    def begin_log(self, simulation: Simulation) -> int:
        """Keep that a run has begun, and return the id of its log, which may be there already."""
        record = _record(simulation, None)
        log = self._register.begin(record, self._clock.now_ns())
        with self._lock:
            self._writing[log] = simulation.owner, 0
        return log

    def end_log(self, log: int, byte_length: int, rows: tuple[int, int], *, complete: bool) -> None:
        """Say that nothing more is written; equal runs share the log of a complete one."""
        try:
            self._register.end_log(
                log,
                byte_length=byte_length,
                rows=rows,
                complete=complete,
                now_ns=self._clock.now_ns(),
            )
        except RegisterNotWritten as error:
            logger.error("log %d: its length is not saved: %s", log, error)
        with self._lock:
            self._writing.pop(log, None)

    @contextmanager
    def twin_of(self, digest: str) -> Iterator[Simulation | None]:
        """Give a simulation that has succeeded with this digest, and whose rows are all there.

        Its log does not go before the block has ended.
        """
        with self._sharing:
            yield self._twin_of(digest)

    def _twin_of(self, digest: str) -> Simulation | None:
        log = self._register.complete_log(digest)
        if log is None or not self._is_whole(log.id, (log.fault_rows, log.operation_rows)):
            return None
        found = self._register.with_log(log.id, SimulationState.SUCCEEDED)
        if found is None:
            return None
        self._register.touch_log(log.id, self._clock.now_ns())
        return _simulation(found)

    # Room.

    def why_no_room(self, owner: str) -> str | None:
        """Return what there is too much of, if an owner may write no more; old logs go before."""
        if self._lack(owner):
            self.sweep()
        return self._lack(owner)

    def has_written(self, log: int, byte_length: int) -> None:
        """Say how long a log has become that is being written."""
        with self._lock:
            owner, _ = self._writing[log]
            self._writing[log] = owner, byte_length

    def sweep(self) -> None:
        """Save what was not saved, and let go what is too old or too much."""
        self._save_what_was_not()
        with self._sharing:
            for name in self._register.ended_beyond(self.limits.retain_simulations):
                self._register.remove(name)
            self._remove_unused_logs()
            spare = self._register.spare_logs()
            oldest_ns = self._clock.now_ns() - int(self.limits.retain_s * 1e9)
            excess = sum(length for _, length, _ in spare) - self.limits.retain_bytes
            for log, length, used_ns in spare:
                if used_ns < oldest_ns or excess > 0:
                    self._expire(log)
                    excess -= length

    def _save_what_was_not(self) -> None:
        with self._saving:
            for simulation in list(self._unsaved.values()):
                self._save(simulation)

    def _lack(self, owner: str) -> str | None:
        limits = self.limits
        with self._lock:
            writing = list(self._writing.values())
        used = self._register.bytes() + self._register.log_bytes()
        used += sum(length for _, length in writing)
        if used >= limits.bytes_max:
            return f"simulations and logs take the {limits.bytes_max} bytes that they may"
        of_owner = sum(length for whose, length in writing if whose == owner)
        used = self._register.log_bytes(owner) + of_owner
        if used >= (most := self._bytes_max_of(owner)):
            return f"your logs take {used} bytes, of {most} that they may"
        try:
            free = self._data_dir.free_bytes()
        except OSError as error:
            return f"the disk does not tell how much room it has left: {error.strerror}"
        if free < limits.free_bytes_min:
            return f"the disk has {free} bytes left, and {limits.free_bytes_min} are kept free"
        return None

    def _expire(self, log: int) -> None:
        self._register.forget_log(log)
        self._data_dir.remove_log(log)
        logger.info("log expired", extra={"log": log})

    def _remove_unused_logs(self) -> None:
        for log in self._register.unused_logs():
            self._expire(log)

    def _is_whole(self, log: int, rows: tuple[int, int]) -> bool:
        try:
            for kind, expected in zip(LogKind, rows, strict=True):
                with LogReader(self.log_paths(log)[kind]) as reader:
                    if reader.rows != expected or reader.header.columns != LOG_COLUMNS[kind]:
                        return False
        except LogError:
            return False
        return True

    def _save(self, simulation: Simulation) -> None:
        record = _record(simulation, None)
        columns = ("state", "ended", "start_ns", "end_ns", "content", "log")
        self._register.change(
            simulation.name, **{column: getattr(record, column) for column in columns}
        )
        del self._unsaved[simulation.name]


def _record(simulation: Simulation, request_id: str | None) -> Record:
    assert simulation.state is not None, "what was only looked at is not kept"
    assert simulation.create_time is not None, "a simulation was created at some time"
    start, end = simulation.start_time, simulation.end_time
    return Record(
        name=simulation.name,
        owner=simulation.owner,
        request_id=request_id,
        digest=simulation.digest,
        model_version=simulation.model_version,
        state=int(simulation.state),
        ended=simulation.ended,
        create_ns=ns_of(simulation.create_time),
        start_ns=None if start is None else ns_of(start),
        end_ns=None if end is None else ns_of(end),
        as_asked=simulation.scenario_as_asked,
        options=text_of(replace(simulation.options, labels={})),
        content=text_of(
            _Content(
                simulation.horizon_ns, simulation.progress, simulation.summary, simulation.error
            )
        ),
        log=simulation.log,
        labels=simulation.options.labels,
    )


def _simulation(record: Record) -> Simulation:
    content = record_of(_Content, record.content)
    options = record_of(RunOptions, record.options)
    return Simulation(
        name=record.name,
        owner=record.owner,
        scenario_as_asked=record.as_asked,
        digest=record.digest,
        model_version=record.model_version,
        options=replace(options, labels=record.labels),
        state=SimulationState(record.state),
        create_time=moment_of(record.create_ns),
        start_time=None if record.start_ns is None else moment_of(record.start_ns),
        end_time=None if record.end_ns is None else moment_of(record.end_ns),
        log=record.log,
        horizon_ns=content.horizon_ns,
        progress=content.progress,
        summary=content.summary,
        error=content.error,
    )
