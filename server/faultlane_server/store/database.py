"""The tables of the register, and how to open them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    fault_rows INTEGER NOT NULL DEFAULT 0,
    operation_rows INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0,   -- the run of this digest, from its begin to its end
    used_ns INTEGER NOT NULL               -- when it was begun, ended or shared the last time
);
CREATE INDEX IF NOT EXISTS logs_by_digest ON logs (digest) WHERE complete;
CREATE TABLE IF NOT EXISTS simulations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- in the order in which they came
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    request_id TEXT,                            -- NULL: every call makes a simulation
    digest TEXT NOT NULL,
    model_version INTEGER NOT NULL,
    state INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    create_ns INTEGER NOT NULL,
    start_ns INTEGER,
    end_ns INTEGER,
    as_asked BLOB NOT NULL,
    options TEXT NOT NULL,
    content TEXT NOT NULL,
    log INTEGER REFERENCES logs (id) ON DELETE SET NULL,
    UNIQUE (owner, request_id)
);
CREATE INDEX IF NOT EXISTS simulations_by_log ON simulations (log);
CREATE INDEX IF NOT EXISTS simulations_open ON simulations (number) WHERE NOT ended;
CREATE TABLE IF NOT EXISTS labels (
    simulation INTEGER NOT NULL REFERENCES simulations (number) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (simulation, name)
) WITHOUT ROWID;
"""
BUSY_S = 10.0


class RegisterNotWritten(Exception):
    """The register could not be read or written: the disk is full, or fails."""


def connection(path: Path, durable: bool) -> sqlite3.Connection:
    """Open the register; changes to a `durable` one outlive a loss of power."""
    opened = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
    opened.execute("PRAGMA journal_mode = WAL")
    opened.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    opened.execute("PRAGMA foreign_keys = ON")
    return opened


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn whatever SQLite has against a call into the one error that we have for it."""
    try:
        yield
    except sqlite3.Error as error:
        raise RegisterNotWritten(f"the register of simulations: {error}") from error
