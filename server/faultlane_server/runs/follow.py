"""Reads the logs of a simulation while it runs, at the reader's own pace.

A part is read when the reader asks for it, so a slow reader costs the memory of
one part and slows nobody. It is read in the event loop: rows that were written
lately are in memory, where handing them from a thread costs as much as reading them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from faultlane_server.runs.errors import OffsetOutOfRange
from faultlane_server.runs.job import Job
from faultlane_server.runs.recorder import LogKind
from faultlane_server.store import Columns, LogReader, rows_of


class Window(NamedTuple):
    """Which rows of a log somebody wants, and how many at a time."""

    offset: int
    rows_at_once: int  # at most: a part never reaches beyond a block of the log
    limit: int | None = None
    follows: bool = True  # else it ends at the present end of the log


class Part(NamedTuple):
    """Some rows of a log, and the offset of the row after them."""

    kind: LogKind
    columns: Columns
    next_offset: int


async def follow(
    job: Job,
    windows: Mapping[LogKind, Window],
    require_open: Callable[[], None],
    heartbeat_s: float,
) -> AsyncGenerator[Part | None]:
    """Yield what is in the windows until the simulation has ended; None is a heartbeat.

    `require_open` is called before each look at the logs, and ends the stream by raising.
    """
    with job.bell.listen() as ear, ExitStack() as stack:
        logs = [stack.enter_context(_Log(job, kind, windows[kind])) for kind in windows]
        while True:
            ear.forget()
            require_open()
            has_ended = job.simulation.ended  # asked first: what is written later rings again
            found = False
            for log in logs:
                part = await log.next_part(has_ended)
                if part:
                    found = True
                    yield part
            if found:
                continue
            if has_ended or all(log.is_done for log in logs):
                return
            if not await ear.rang_within(heartbeat_s):
                yield None


class _Log:
    """One reader's way through one log."""

    def __init__(self, job: Job, kind: LogKind, window: Window) -> None:
        self._job = job
        self._kind = kind
        self._window = window
        self._offset = window.offset
        self._reader: LogReader | None = None

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader:
            self._reader.close()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for, now that there is nothing to read."""
        return not self._window.follows or self._rows_left == 0

    async def next_part(self, has_ended: bool) -> Part | None:
        """Return the next rows, or None while there are none."""
        rows = await self._look()
        if has_ended and self._offset > rows:
            raise OffsetOutOfRange(self._offset, rows)
        wanted = min(self._window.rows_at_once, self._rows_left, max(rows - self._offset, 0))
        if not wanted or not self._reader:
            return None
        columns = self._reader.read(self._offset, wanted)
        self._offset += rows_of(columns)
        return Part(self._kind, columns, self._offset)

    @property
    def _rows_left(self) -> int:
        window = self._window
        return _NO_LIMIT if window.limit is None else window.offset + window.limit - self._offset

    async def _look(self) -> int:
        """Return how many rows there are."""
        if self._reader is None:  # to open a log is to look at all of its blocks
            self._reader = await asyncio.to_thread(self._job.open_log, self._kind)
        elif self._window.follows:
            self._reader.refresh()
        return self._reader.rows if self._reader else 0


_NO_LIMIT = 1 << 64
