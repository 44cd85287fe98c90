"""Reads the logs of a simulation while it runs, at the reader's own pace.

A part is read when the reader asks for it, so a slow reader costs the memory of
one part and slows nobody. It is read in the event loop: rows that were written
lately are in memory, where handing them from a thread costs as much as reading them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faultlane_server.codes import SimulationState
from faultlane_server.runs.bell import Ear
from faultlane_server.runs.errors import LogExpired, OffsetOutOfRange
from faultlane_server.runs.filter import RowFilter
from faultlane_server.runs.job import Job
from faultlane_server.runs.recorder import LOG_COLUMNS, LogKind
from faultlane_server.runs.simulation import Progress, Simulation
from faultlane_server.store import Columns, CorruptLog, LogReader, rows_of

WATCH_S = 0.1  # between two looks at a simulation whose state stays the same


class Window(NamedTuple):
    """Which rows of a log somebody wants, and how many at a time."""

    offset: int
    rows_at_once: int  # at most: a part never reaches beyond a block of the log
    limit: int | None = None  # of the rows that are wanted, without those left out
    follows: bool = True  # else it ends at the present end of the log
    filter: RowFilter | None = None


@dataclass(slots=True)
class Part:
    """Some rows of a log, or none, and the offset of the row after them and those left out."""

    kind: LogKind
    columns: Columns
    next_offset: int

    def hand_over(self) -> Columns:
        """Return the rows and forget them, so that they are gone while a slow reader is sent them.

        Whoever hands a part on has it until it is asked for the next one.
        """
        columns, self.columns = self.columns, {}
        return columns


async def follow(
    job: Job,
    windows: Mapping[LogKind, Window],
    require_open: Callable[[], None],
    heartbeat_s: float,
    turn: asyncio.Lock,
) -> AsyncGenerator[Part | None]:
    """Yield what is in the windows until the simulation has ended; None is a heartbeat.

    `require_open` is called before each look at the logs, and ends the stream by raising.
    Streams that share a `turn` read one part in each round of the event loop: whatever else
    there is to do waits for one part, and not for one of each stream.
    """
    loop = asyncio.get_running_loop()
    with job.bell.listen() as ear, ExitStack() as stack:
        logs = [stack.enter_context(_Log(job, kind, windows[kind], turn)) for kind in windows]
        spoken_s = loop.time()
        while True:
            ear.forget()
            require_open()
            has_ended = job.simulation.ended  # asked first: what is written later rings again
            found = False
            for log in logs:
                part = await log.next_part(has_ended)
                if part:
                    found = True
                    if rows_of(part.columns) or loop.time() - spoken_s >= heartbeat_s:
                        yield log.told(part)
                        spoken_s = loop.time()
                    else:  # a filter left all rows out: let others have their turn
                        await asyncio.sleep(0)
            if found:
                continue
            if has_ended or all(log.is_done for log in logs):
                for part in _left_out(logs):
                    yield part
                return
            if not await ear.rang_within(heartbeat_s):
                beats: list[Part | None] = [*_left_out(logs)]
                for beat in beats or [None]:
                    yield beat
                spoken_s = loop.time()


async def watch(
    job: Job, require_open: Callable[[], None], heartbeat_s: float
) -> AsyncGenerator[Simulation]:
    """Yield the simulation now, when it changes, and as it ended; again as a heartbeat."""
    with job.bell.listen() as ear:
        while True:
            ear.forget()
            require_open()
            simulation = job.simulation
            yield simulation
            if simulation.ended:
                return
            await _news(job, ear, simulation.state, heartbeat_s)


async def _news(job: Job, ear: Ear, state: SimulationState | None, heartbeat_s: float) -> None:
    """Wait until it is worth to tell of a simulation again."""
    loop = asyncio.get_running_loop()
    soonest_s = loop.time() + WATCH_S
    await ear.rang_within(heartbeat_s)
    while job.simulation.state is state and loop.time() < soonest_s:
        ear.forget()
        if job.simulation.state is state:
            await ear.rang_within(soonest_s - loop.time())


def _left_out(logs: "Sequence[_Log]") -> list[Part]:
    """Return parts that tell of rows that a filter left out since the last part."""
    return [log.what_was_left_out() for log in logs if not log.is_told]


class _Log:
    """One reader's way through one log."""

    def __init__(self, job: Job, kind: LogKind, window: Window, turn: asyncio.Lock) -> None:
        self.kind = kind
        self.offset = window.offset
        self._job = job
        self._window = window
        self._turn = turn
        self._offset_told = window.offset
        self._rows_sent = 0
        self._reader: LogReader | None = None
        self._paths: Mapping[LogKind, Path] = {}  # where the log of the reader is
        self._rows = 0  # that there were at the last look

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for, now that there is nothing to read."""
        return not self._window.follows or self._rows_left == 0

    @property
    def is_told(self) -> bool:
        """Whether the reader knows how far this is."""
        return self._offset_told == self.offset

    def told(self, part: Part) -> Part:
        """Remember that the reader gets a part."""
        self._offset_told = part.next_offset
        return part

    def what_was_left_out(self) -> Part:
        """Return a part that says nothing but how far this is."""
        columns = {name: np.empty(0, dtype) for name, dtype in LOG_COLUMNS[self.kind].items()}
        return self.told(Part(self.kind, columns, self.offset))

    async def next_part(self, has_ended: bool) -> Part | None:
        """Return the next rows, or None while there are none."""
        rows = await self._look(has_ended)
        if has_ended and self.offset > rows:
            raise OffsetOutOfRange(self.offset, rows)
        if not self._reader or not self._rows_left or self.offset >= rows:
            return None
        async with self._turn:
            part = Part(self.kind, self._read(self._reader, rows), self.offset)
            await asyncio.sleep(0)  # the next turn is in the next round
        return part

    def _read(self, reader: LogReader, rows: int) -> Columns:
        """Read on, and return the rows that are wanted."""
        window = self._window
        wanted = min(window.rows_at_once, rows - self.offset)
        if window.filter is None:
            columns = reader.read(self.offset, min(wanted, self._rows_left))
            self.offset += rows_of(columns)
        else:
            columns = reader.read(self.offset, wanted)
            kept = window.filter.rows(columns)
            ends_within = len(kept) >= self._rows_left
            kept = kept[: self._rows_left]
            self.offset += int(kept[-1]) + 1 if ends_within else rows_of(columns)
            columns = {name: column[kept] for name, column in columns.items()}
        self._rows_sent += rows_of(columns)
        return columns

    @property
    def _rows_left(self) -> int:
        limit = self._window.limit
        return _NO_LIMIT if limit is None else limit - self._rows_sent

    async def _look(self, has_ended: bool) -> int:
        """Return how many rows there are."""
        expected = self._rows_of(self._job.simulation.progress) if has_ended else 0
        if self._reader and not self._window.follows:
            return self._rows
        if has_ended and (expected == 0 or self._is_expired(expected)):
            return expected
        await self._open()
        rows = self._reader.rows if self._reader else 0
        if rows < expected:
            raise CorruptLog(f"the log of {self.kind.value} has lost its last rows")
        self._rows = min(rows, self._rows_of(self._job.simulation.progress))
        return self._rows

    async def _open(self) -> None:
        """Have a reader that knows what is there, if there is a log.

        It becomes another one when the run whose rows were read along did not come to its end.
        """
        paths = self._job.log_paths
        if self._reader and paths == self._paths:
            self._reader.refresh()
            return
        self._close()
        self._paths = paths
        # To open a log may take a disk some time.
        self._reader = await asyncio.to_thread(self._job.open_log, self.kind)

    def _close(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None

    def _is_expired(self, rows: int) -> bool:
        """Whether no row is left; somebody who has read all of them does not miss any."""
        if self._reader or not self._job.simulation.log_expired:
            return False
        if self.offset < rows:
            raise LogExpired(self.offset, rows)
        return True

    def _rows_of(self, progress: Progress) -> int:
        of_faults = self.kind is LogKind.FAULTS
        return progress.fault_rows if of_faults else progress.operation_rows


_NO_LIMIT = 1 << 62
