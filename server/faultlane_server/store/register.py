"""The register of simulations: what each is, whose it is, and which log has its rows.

SQLite in WAL mode. A change is on disk when the call returns, and outlives a loss of
power too if the register is `durable`. Reads have a connection of their own, so they
never wait for a disk.

The contents of a simulation (its progress, its summary, its error) are text that the
caller makes and reads.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faultlane_server.store.database import SCHEMA, connection, database_errors

_COLUMNS = (
    "name",
    "owner",
    "request_id",
    "digest",
    "model_version",
    "state",
    "ended",
    "create_ns",
    "start_ns",
    "end_ns",
    "as_asked",
    "options",
    "content",
    "log",
)

# A log that has gone meanwhile is none.
_PLACES = {"log": "(SELECT id FROM logs WHERE id = ?)"}


@dataclass(frozen=True, slots=True)
class Record:
    """A simulation as the register keeps it. Times are nanoseconds since 1970."""

    name: str
    owner: str
    request_id: str | None
    digest: str
    model_version: int
    state: int
    ended: bool
    create_ns: int
    start_ns: int | None
    end_ns: int | None
    as_asked: bytes
    options: str
    content: str
    log: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    number: int = 0  # given by `add`


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log as the register keeps it."""

    id: int
    fault_rows: int
    operation_rows: int


@dataclass(frozen=True, slots=True)
class Query:
    """Which simulations somebody asks for; the newest come first."""

    owner: str | None  # None: anybody
    states: Sequence[int] = ()  # empty: all
    labels: Mapping[str, str] = field(default_factory=dict)  # all of them
    before: int | None = None  # only those with a smaller number
    count: int = 50


class Register:
    """All simulations. Safe to be used by many threads."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        with database_errors():
            self._writer = connection(path, durable)
            self._writer.executescript(SCHEMA)
            self._reader = connection(path, durable)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    # Simulations.

    def add(self, record: Record) -> None:
        """Take in a simulation."""
        names = ", ".join(_COLUMNS)
        places = ", ".join("?" * len(_COLUMNS))
        with self._writing() as change:
            added = change.execute(
                f"INSERT INTO simulations ({names}) VALUES ({places})",
                [getattr(record, column) for column in _COLUMNS],
            )
            change.executemany(
                "INSERT INTO labels VALUES (?, ?, ?)",
                [(added.lastrowid, name, value) for name, value in record.labels.items()],
            )

    def change(self, name: str, **columns: Any) -> None:
        """Give columns of a simulation new values."""
        assert columns.keys() <= set(_COLUMNS), "columns that there are"
        places = ", ".join(f"{column} = {_PLACES.get(column, '?')}" for column in columns)
        with self._writing() as change:
            change.execute(
                f"UPDATE simulations SET {places} WHERE name = ?", [*columns.values(), name]
            )

    def remove(self, name: str) -> None:
        """Forget a simulation, and free its request id."""
        with self._writing() as change:
            change.execute("DELETE FROM simulations WHERE name = ?", [name])

    def get(self, name: str) -> Record | None:
        return self._one("WHERE name = ?", name)

    def by_request(self, owner: str, request_id: str) -> Record | None:
        return self._one("WHERE owner = ? AND request_id = ?", owner, request_id)

    def open_ones(self) -> list[Record]:
        """Return the simulations that have not ended, in the order in which they came."""
        return self._many("WHERE NOT ended ORDER BY number")

    def find(self, query: Query) -> list[Record]:
        """Return simulations, the newest first."""
        conditions = ["(owner = ? OR ?)"]
        values: list[Any] = [query.owner, query.owner is None]
        if query.states:
            conditions.append(f"state IN ({', '.join('?' * len(query.states))})")
            values += query.states
        for name, value in query.labels.items():
            conditions.append(
                "number IN (SELECT simulation FROM labels WHERE name = ? AND value = ?)"
            )
            values += [name, value]
        if query.before is not None:
            conditions.append("number < ?")
            values.append(query.before)
        where = f"WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        return self._many(where, *values, query.count)

    def latest_ns(self) -> int:
        """Return the latest time at which anything happened; 0 if nothing did."""
        columns = "max(create_ns), max(coalesce(start_ns, 0)), max(coalesce(end_ns, 0))"
        (found,) = self._rows(f"SELECT {columns} FROM simulations")
        return max(each or 0 for each in found)

    def ended_beyond(self, count: int) -> list[str]:
        """Return the names of all ended simulations but the newest `count`."""
        found = self._rows(
            "SELECT name FROM simulations WHERE ended ORDER BY number DESC LIMIT -1 OFFSET ?", count
        )
        return [name for (name,) in found]

    # Logs.

    def begin(self, record: Record, now_ns: int) -> int:
        """Write down the state and the begin of a simulation, and return the id of its log.

        While it is written, its length is for the caller to know.
        """
        with self._writing() as change:
            log = record.log
            if log is None:
                log = change.execute(
                    "INSERT INTO logs (digest, used_ns) VALUES (?, ?)", [record.digest, now_ns]
                ).lastrowid
            change.execute("UPDATE logs SET bytes = 0, complete = 0 WHERE id = ?", [log])
            change.execute(
                "UPDATE simulations SET state = ?, start_ns = ?, log = ?"
                " WHERE name = ? AND NOT ended",
                [record.state, record.start_ns, log, record.name],
            )
        assert log is not None, "an insert gives an id"
        return log

    def end_log(
        self, log: int, *, byte_length: int, rows: tuple[int, int], complete: bool, now_ns: int
    ) -> None:
        """Say how long a log has become."""
        with self._writing() as change:
            change.execute(
                "UPDATE logs SET bytes = ?, fault_rows = ?, operation_rows = ?, complete = ?,"
                " used_ns = ? WHERE id = ?",
                [byte_length, *rows, complete, now_ns, log],
            )

    def touch_log(self, log: int, now_ns: int) -> None:
        """Say that one more simulation ended with a log."""
        with self._writing() as change:
            change.execute("UPDATE logs SET used_ns = max(used_ns, ?) WHERE id = ?", [now_ns, log])

    def complete_log(self, digest: str) -> LogRecord | None:
        """Return a log of the whole run of a digest, if there is one."""
        found = self._rows(
            "SELECT id, fault_rows, operation_rows FROM logs WHERE digest = ? AND complete"
            " ORDER BY id DESC LIMIT 1",
            digest,
        )
        return LogRecord(*found[0]) if found else None

    def with_log(self, log: int, state: int) -> Record | None:
        """Return a simulation of this state that has a log."""
        return self._one("WHERE log = ? AND state = ? ORDER BY number LIMIT 1", log, state)

    def forget_log(self, log: int) -> None:
        """Forget a log: the simulations that have it stay, without rows."""
        with self._writing() as change:
            change.execute("DELETE FROM logs WHERE id = ?", [log])

    def logs(self) -> frozenset[int]:
        return frozenset(log for (log,) in self._rows("SELECT id FROM logs"))

    def unused_logs(self) -> list[int]:
        """Return the logs that no simulation has."""
        return [
            log
            for (log,) in self._rows(
                "SELECT id FROM logs WHERE id NOT IN"
                " (SELECT log FROM simulations WHERE log IS NOT NULL)"
            )
        ]

    def spare_logs(self) -> list[tuple[int, int, int]]:
        """Return id, length and last use of the logs of ended simulations, the oldest use first."""
        return self._rows(
            "SELECT id, bytes, used_ns FROM logs WHERE id NOT IN"
            " (SELECT log FROM simulations WHERE NOT ended AND log IS NOT NULL)"
            " ORDER BY used_ns, id"
        )

    def log_bytes(self, owner: str | None = None) -> int:
        """Return how long all logs are, or those that an owner has a simulation with."""
        if owner is None:
            found = self._rows("SELECT sum(bytes) FROM logs")
        else:
            found = self._rows(
                "SELECT sum(bytes) FROM logs WHERE id IN"
                " (SELECT log FROM simulations WHERE owner = ?)",
                owner,
            )
        return found[0][0] or 0

    def bytes(self) -> int:
        """Return how much room the register itself takes, without what it has free."""
        (found,) = self._rows(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int(found[0])

    # How to ask.

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Change all of it or nothing."""
        with database_errors(), self._write_lock, self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with database_errors(), self._read_lock:
            return self._reader.execute(statement, values).fetchall()

    def _one(self, where: str, *values: Any) -> Record | None:
        found = self._many(where, *values)
        return found[0] if found else None

    def _many(self, where: str, *values: Any) -> list[Record]:
        names = ", ".join([*_COLUMNS, "number"])
        with database_errors(), self._read_lock:
            found = self._reader.execute(f"SELECT {names} FROM simulations {where}", values)
            return [self._record(row) for row in found.fetchall()]

    def _record(self, row: Sequence[Any]) -> Record:
        *values, number = row
        labels = self._reader.execute(
            "SELECT name, value FROM labels WHERE simulation = ? ORDER BY name", [number]
        )
        columns = dict(zip(_COLUMNS, values, strict=True))
        columns["ended"] = bool(columns["ended"])
        return Record(**columns, labels=dict(labels.fetchall()), number=number)
