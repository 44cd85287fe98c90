"""The run of a small story that goes on by one move of several, and back to any state before.

In these stories nothing costs anything, so whatever is scheduled is due at once, and the order of
the steps is an order of ties, of which the queue lets a test choose one. Only a read, a sleep and
the patience of who spins have an end of their own, and that may be chosen as well: a CPU can be
stopped for any time, by a hypervisor for example, and a device can take as long as it likes.

What a step decides it decides when it begins, and what it costs is only when the next one begins.
So with any costs a story is one of these orders. But for one thing: who has waited in the queue
of a rwsem for longer than some milliseconds asks for a handoff. So that time passes is a move
of its own.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock
from faultlane_server.engine import Simulator, run
from faultlane_server.engine.conservation import assert_conserved
from faultlane_server.engine.memory.writeback import FLUSHER
from faultlane_server.engine.queue import NEVER_NS, Kind, id_of, kind_of, soonest_ns
from faultlane_server.engine.run import Stop
from faultlane_server.engine.world import (
    Blame,
    Cause,
    Cpu,
    File,
    Folio,
    Mm,
    Open,
    Queue,
    Rwsem,
    Step,
    Thread,
    ThreadState,
    Vma,
    World,
)
from faultlane_server.scenario import Scenario
from tests.engine.recount import assert_recounted

PASSING_NS = 20_000_000  # longer than any waiter of a rwsem is patient

# What decides nothing: it is only counted, or told. Nor does any time, whose name ends in `_ns`.
TOLD = {
    World: {"fingerprint", "events", "faults_ended", "recorded", "warm", "closing", "run_order"}
    | {"traced", "trace_rows", "idle_first"},
    # Each thread has a CPU: who has left it is nobody's matter, whenever that is noticed.
    Cpu: {"due", "idle_next", "idle_before", "load", "ready", "late"}
    | {"is_protected", "need_resched", "slice_is_over"},
    # Whether there is an owner is told by `writer` and `reader_owned`.
    Rwsem: {"owner", "holders_first", "holders_last", "slot_read", "slot_write"},
    Mm: {"word"},
    Open: {"mmap_miss"},  # up to a hundred misses
    Vma: {"word", "reader", "holders_first", "holders_last"},
    File: {"falloc_thread"},
    Folio: {"reads", "writes", "io_cpu"},
    Thread: {
        "is_delayed",
        "awake_attempts",
        "reads",
        "reads_lost",
        "mmap_reads",
        "blocker",
        "waits_for",
    }
    | {"pending_cause", "touches", "operations", "durations", "timer", "vma_id", "reasons"}
    | {"is_listed", "slot", "blamed_first", "wait_kind", "shares_seen", "held_next", "held_before"},
}
OF_ENDLESS_RETRIES = {"attempts", "vma_retries"}
# How much of an array a small story uses, if that is not known: more than any story here does.
ROOM = {"opens": 8, "barriers": 4, "cursors": 64, "heap": 16, "slots": 16}
PTES = 128  # page-table entries at either end


class Move(NamedTuple):
    """What happens next: the CPU of a thread goes on, a request ends, or a timer does."""

    kind: int
    ident: int


HELD = {FaultLock.VMA: "a VMA lock", FaultLock.MMAP: "mmap_lock"}

CLOCK = Move(len(Kind), 0)  # who waits in the queue of a rwsem has waited for long


class Player:
    """The run of a story: goes on by one move, and back to what was taken down."""

    def __init__(self, scenario: Scenario, counts_attempts: bool) -> None:
        simulator = Simulator(scenario)
        self.worlds = simulator._worlds
        self.world = simulator.world
        assert not self.world.config.limits_memory, "there is memory enough"
        self._threads = _plain(self.world.threads)[: int(self.world.config.threads)]
        self._cpus = _plain(self.world.cpus)[: int(self.world.config.cpus)]
        self._due = self._cpus["due"]
        self._queue = self.worlds.view(np.ndarray)["queue"]
        self._heap = self._queue["heap"][0][: ROOM["heap"]]
        layout = list(_layout(self.world))
        self._mask = np.concatenate([_mask(part, counts_attempts) for part in layout])
        self._first_thread = _length(
            [part for part in layout if part.at < World.fields["threads"][1]]
        )
        self._parts = _bytes_of(self.worlds, layout)
        processes = int(self.world.config.processes)
        mmap_locks = _plain(self.world.mms)["mmap_lock"][:processes]
        self._writers = mmap_locks["writer"]
        self._heads = [
            mmap_locks["first"],
            _plain(self.world.files)["invalidate_lock"]["first"][: int(self.world.config.files)],
        ]
        self._holders = _plain(self.world.folios)["holder"][: int(self.world.config.folios)]
        self._first = self.take()

    @property
    def attempts(self) -> int:
        """The most that a fault has made by now."""
        return int(self._threads["attempts"].max())

    def take(self) -> np.ndarray:
        """Take down the parts of the record that a small story uses."""
        return np.concatenate(self._parts)

    def put_back(self, taken: np.ndarray) -> None:
        at = 0
        for part in self._parts:
            part[:] = taken[at : at + len(part)]
            at += len(part)

    def begin_again(self) -> None:
        self.put_back(self._first)

    def digest(self) -> bytes:
        """Return what stands for a state; the queue is told apart by what is in it alone."""
        compared = self.take()
        compared &= self._mask
        for number in np.flatnonzero(self._threads["state"] == ThreadState.DONE).tolist():
            first = self._first_thread + number * Thread.itemsize
            compared[first : first + Thread.itemsize] = 0
        digest = blake2b(compared.tobytes(), digest_size=16)
        digest.update(repr((sorted(self._scheduled()), self._impatient())).encode())
        return digest.digest()

    def moves(self) -> list[Move]:
        """Return what can happen next: nothing when the run is over."""
        if self.world.running == 0 or self.world.stuck != NOBODY:
            return []
        moves = sorted(self._scheduled())
        if moves and not all(self._impatient()):
            moves.append(CLOCK)
        return moves

    def _scheduled(self) -> dict[Move, int]:
        """Return what is in the queue, each with its key: nothing that was taken back."""
        keys = {Move(Kind.CPU, cpu): key for cpu, key in enumerate(self._due.tolist()) if key >= 0}
        first = int(self._queue["top_is_free"][0])
        for key in self._heap["key"][first : int(self._queue["entries"][0]) + first].tolist():
            move = Move(kind_of(key), id_of(key))
            if move.kind != Kind.TIMER or self._is_awaited(move.ident, key):
                keys[move] = key
        return keys

    def _is_awaited(self, ident: int, key: int) -> bool:
        return ident == FLUSHER or bool(self._threads["timer"][ident] == key)

    def _impatient(self) -> list[bool]:
        """Whether their deadline is past, of all who stand in the queue of a rwsem."""
        now_ns = self.world.now_ns
        return [bool(now_ns > self._threads["deadline_ns"][n]) for n in self._queued()]

    def _queued(self) -> Iterator[int]:
        for waiter in np.concatenate(self._heads).tolist():
            while waiter != NOBODY:
                yield waiter
                waiter = int(self._threads["behind"][waiter])

    def do(self, move: Move) -> None:
        """Let something happen."""
        if move == CLOCK:
            self._let_time_pass()
            return
        self._queue["chosen"] = self._scheduled()[move]
        if move.kind == Kind.CPU:  # its burst ends when the event happens, and not in between
            self._cpus["until_ns"][move.ident] = soonest_ns(self.world.queue)
        with np.errstate(over="ignore"):
            run.step(self.worlds, 1)

    def _let_time_pass(self) -> None:
        """Put everything off, as if all CPUs were stopped: who runs is charged for it."""
        self.world.now_ns += PASSING_NS
        for entries in (self._queue["tree"][0], self._heap):
            times_ns = entries["time_ns"]
            times_ns[times_ns != NEVER_NS] += PASSING_NS
        self._cpus["until_ns"] += PASSING_NS
        for number in np.flatnonzero(self._threads["state"] == ThreadState.RUNNING):
            thread = self._threads[number]
            thread["wait_ns"][thread["pending_cause"]] += PASSING_NS

    def end(self) -> Stop:
        """Look into a run to which nothing can happen any more."""
        with np.errstate(over="ignore"):
            stop = Stop(run.step(self.worlds, 64))
            run.close(self.worlds)
        assert_recounted(self.world)
        assert_conserved(self.worlds)
        return stop

    def thread_on(self, cpu: int) -> int:
        return int(self._cpus["thread"][cpu])

    def tell(self, move: Move) -> str:
        """Let something happen, and say what."""
        if move.kind != Kind.CPU:
            self.do(move)
            return "time passes" if move == CLOCK else f"{Kind(move.kind).name.lower()} ends"
        number = self.thread_on(move.ident)
        thread = self._threads[number]
        step = Step(int(thread["step"])).name.lower()
        before = self._held_by(number)
        self.do(move)
        now = self._held_by(number)
        parts = [f"lets go of {lock}" for lock in before if lock not in now]
        parts += [f"has {lock}" for lock in now]
        if thread["state"] in (ThreadState.BLOCKED, ThreadState.SPINNING):
            verb = "sleeps" if thread["state"] == ThreadState.BLOCKED else "spins"
            parts.append(f"{verb} for {Cause(int(thread['cause'])).name.lower()}")
        return f"{step} ({', '.join(parts)})" if parts else step

    def _held_by(self, thread: int) -> list[str]:
        locks = [HELD[FaultLock(lock)] for lock in (self._threads["held"][thread],) if lock]
        if thread in self._writers:
            locks.append("mmap_lock for write")
        if thread in self._holders:
            locks.append("a folio")
        return locks


def _plain(records: np.ndarray) -> np.ndarray:
    return records.view(np.ndarray)


class _Part(NamedTuple):
    """A part of the record: so many records from some byte on, that are compared or not."""

    at: int
    dtype: np.dtype[Any]
    records: int
    is_compared: bool = True

    @property
    def length(self) -> int:
        return self.dtype.itemsize * self.records


def _length(parts: Sequence[_Part]) -> int:
    return sum(part.length for part in parts)


def _bytes_of(worlds: np.recarray, layout: Sequence[_Part]) -> list[np.ndarray]:
    """Return the bytes of the parts, of as many as lie side by side at once."""
    all_bytes = worlds.view(np.ndarray).view(np.uint8)
    spans: list[list[int]] = []
    for part in layout:
        if spans and spans[-1][1] == part.at:
            spans[-1][1] += part.length
        else:
            spans.append([part.at, part.at + part.length])
    return [all_bytes[first:end] for first, end in spans]


def _layout(world: np.record) -> Iterator[_Part]:
    """Go through the parts that a small story uses, as they lie."""
    config = world.config
    mms = _plain(world.mms)[: int(config.processes)]
    counts = ROOM | {
        "cpus": int(config.cpus),
        "devices": int(np.count_nonzero(world.devices["channels"])),
        "mms": len(mms),
        "files": int(config.files),
        "threads": int(config.threads),
        "memcgs": int(config.memcgs),
        "vmas": int(world.vma_slots) + 8,
        "vma_order": int((mms["order_first"] + mms["order_room"]).max()),
        "regions": int(world.regions_used),
        "folios": int(config.folios),
    }
    for name, dtype, at in _fields(World):
        if name in counts:
            yield _Part(at, dtype.base, counts[name])
        elif name == "queue":
            yield from _layout_of_queue(at, int(world.queue.leaves))
        elif name == "blame":
            yield from _layout_of_blame(at, int(config.threads))
        elif name == "tally":
            yield _only("counters", dtype, at)
        elif name in ("fault_rows", "operation_rows"):
            yield _only("rows", dtype, at)
        elif name == "ptes":
            yield _Part(at, dtype.base, PTES)
            yield _Part(at + dtype.itemsize - PTES * dtype.base.itemsize, dtype.base, PTES)
        elif dtype.names is None and not dtype.shape:
            is_compared = name not in TOLD[World] and not name.endswith("_ns")
            yield _Part(at, dtype, 1, is_compared)


def _layout_of_queue(first: int, leaves: int) -> Iterator[_Part]:
    """Go through the queue: its keys count pushes, so it is not compared as it lies."""
    counts = {"tree": 2 * leaves, "heap": ROOM["heap"]}
    for name, dtype, at in _fields(Queue):
        yield _Part(first + at, dtype.base, counts.get(name, 1), is_compared=False)


def _layout_of_blame(first: int, threads: int) -> Iterator[_Part]:
    """Go through who is to blame at present, which decides nothing; sums are left as they are."""
    counts = {"slots": ROOM["slots"], "seen": threads}
    for name, dtype, at in _fields(Blame):
        if name in counts or not dtype.shape:
            yield _Part(first + at, dtype.base, counts.get(name, 1), is_compared=False)


def _only(wanted: str, record: np.dtype[Any], first: int) -> _Part:
    """Return the only field of a record that a run looks at again, which is but a count."""
    ((dtype, at),) = ((dtype, at) for name, dtype, at in _fields(record) if name == wanted)
    return _Part(first + at, dtype, 1, is_compared=False)


def _fields(record: np.dtype[Any]) -> Iterator[tuple[str, np.dtype[Any], int]]:
    for name, (dtype, at, *_) in (record.fields or {}).items():
        yield name, dtype, at


def _mask(part: _Part, counts_attempts: bool) -> np.ndarray:
    """Return ones for each byte of a part that decides what follows."""
    if not part.is_compared:
        return np.zeros(part.length, np.uint8)
    return np.tile(_mask_of(part.dtype, counts_attempts), part.records)


def _mask_of(dtype: np.dtype[Any], counts_attempts: bool) -> np.ndarray:
    if dtype.names is None:
        return np.full(dtype.itemsize, 0xFF, np.uint8)
    told = TOLD.get(dtype, set())
    if dtype == Thread and not counts_attempts:
        told = told | OF_ENDLESS_RETRIES
    mask = np.zeros(dtype.itemsize, np.uint8)
    for name, inner, at in _fields(dtype):
        if name not in told and not name.endswith("_ns"):
            once = _mask_of(inner.base, counts_attempts)
            mask[at : at + inner.itemsize] = np.tile(once, inner.itemsize // len(once))
    return mask
