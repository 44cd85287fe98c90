"""Plays a small story in every order in which it can happen, and tells what came of it.

In these stories nothing costs anything, so whatever is scheduled is due at once, and each order
of the steps is an order of ties: the queue lets a test choose who is next. Only a read, a sleep
and the patience of who spins have an end of their own, and that may be chosen as well: a CPU can
be stopped for any time, by a hypervisor for example, and a device can take as long as it likes.
So every order of the modelled steps is played that there is with any costs: what costs decide is
who is next, and nothing else that matters to a lock, but for the deadline after which a waiter
in the queue of a rwsem asks for a handoff. That it passes is a move of its own.

States that differ in nothing that decides what can follow are one state: that leaves out the
times, and what is only counted. So a story is a graph of states, and its orders are the ways
from its first state to the last ones. A circle in it is a story that need not end.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock
from faultlane_server.engine import Simulator, run
from faultlane_server.engine.conservation import assert_conserved
from faultlane_server.engine.diagnosis import WHAT_FOR
from faultlane_server.engine.memory.writeback import FLUSHER
from faultlane_server.engine.queue import NEVER_NS, Kind, id_of, kind_of
from faultlane_server.engine.run import Stop
from faultlane_server.engine.world import (
    Cause,
    Cpu,
    Folio,
    Mm,
    Open,
    Queue,
    Rwsem,
    Step,
    Tally,
    Thread,
    ThreadState,
    Vma,
    World,
)
from faultlane_server.machines import COSTS
from faultlane_server.scenario import Scenario

FREE = dict.fromkeys(COSTS, 0)
STATES_MAX = 1_000_000
PASSING_NS = 20_000_000  # longer than any waiter of a rwsem is patient

# What decides nothing: it is only counted, or told. Nor does any time, whose name ends in `_ns`.
TOLD = {
    World: {"fingerprint", "events", "faults_ended", "recorded", "warm", "closing"}
    | {"traced", "trace_rows", "idle_first"},
    Cpu: {"due", "idle_next", "idle_before"},
    Rwsem: {"owner"},  # whether there is one is told by `writer` and `reader_owned`
    Mm: {"word"},
    Open: {"mmap_miss"},  # up to a hundred misses
    Vma: {"word", "reader"},
    Folio: {"reads", "writes", "io_cpu"},
    Thread: {"awake_attempts", "reads", "reads_lost", "mmap_reads", "blocker", "waits_for"}
    | {"pending_cause", "touches", "operations", "durations", "timer", "vma_id", "reasons"},
}
OF_ENDLESS_RETRIES = {"attempts", "vma_retries"}
# How much of an array a small story uses, if that is not known: more than any story here does.
ROOM = {"opens": 8, "barriers": 4, "cursors": 64, "heap": 16}
PTES = 128  # page-table entries at either end


class Move(NamedTuple):
    """What happens next: the CPU of a thread goes on, a request ends, or a timer does."""

    kind: int
    ident: int


CLOCK = Move(len(Kind), 0)  # who waits in the queue of a rwsem has waited for long


class Told(NamedTuple):
    """A step of a story, in words."""

    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.who}: {self.what}"


class Broken(AssertionError):
    """What cannot be was so, after these steps."""


class EveryOrder:
    """A story in all orders: its states by number, the first one being 0.

    Parameters
    ----------
    check
        Is called with the record of the run in every state.
    counts_attempts
        Whether states are told apart by the attempts of their faults as well: not if there may
        be any number of them.
    """

    def __init__(
        self,
        scenario: Scenario,
        check: Callable[[np.record], None] | None = None,
        counts_attempts: bool = True,
    ) -> None:
        self.names = _names(scenario)
        self.follow: list[dict[Move, int]] = []
        self.ends: dict[int, Stop] = {}
        self.attempts_max = 0
        self._check = check or (lambda _: None)
        self._player = _Player(scenario, counts_attempts)
        self._explore()

    @property
    def stops(self) -> Counter[Stop]:
        """How many last states there are of each kind."""
        return Counter(self.ends.values())

    @property
    def orders(self) -> int:
        """Return how many orders there are, if all of them end."""
        ways = Counter({0: 1})
        order = self._in_order()
        assert len(order) == len(self.follow), "every order ends"
        for state in order:
            for after in self.follow[state].values():
                ways[after] += ways[state]
        return sum(ways[end] for end in self.ends)

    @property
    def all_end(self) -> bool:
        """Whether there is no circle."""
        return len(self._in_order()) == len(self.follow)

    def story_to(self, stop: Stop) -> list[Told]:
        """Return the plainest story that ends so."""
        return self._retell(self._plainest_way(0, {n for n, s in self.ends.items() if s == stop}))

    def circle(self) -> tuple[list[Told], list[Told]]:
        """Return the plainest story that need not end: how it comes there, and the circle."""
        lead = set(range(len(self.follow))) - set(self._in_order())
        while True:
            first = self._plainest_way(0, lead)
            state = first[-1][1] if first else 0
            back = self._plainest_way(state, {state})
            if back:
                told = self._retell(first + back)
                return told[: len(first)], told[len(first) :]
            lead.remove(state)

    def _explore(self) -> None:
        player = self._player
        known = {player.digest(): 0}
        self.follow.append({})
        frontier = deque([(0, player.take())])
        while frontier:
            state, taken = frontier.popleft()
            player.put_back(taken)
            moves = player.moves()
            if not moves:
                self.ends[state] = self._end(state)
            for number, move in enumerate(moves):
                if number:
                    player.put_back(taken)
                self._do(state, move)
                digest = player.digest()
                after = known.setdefault(digest, len(known))
                self.follow[state][move] = after
                if after == len(self.follow):
                    assert after < STATES_MAX, "a story is small"
                    self.follow.append({})
                    self.attempts_max = max(self.attempts_max, player.attempts)
                    frontier.append((after, player.take()))

    def _do(self, state: int, move: Move) -> None:
        try:
            self._player.do(move)
            self._check(self._player.world)
        except AssertionError as broken:
            way = self._plainest_way(0, {state}) if state else []
            story = "\n".join(map(str, self._retell(way)))
            raise Broken(f"{story}\nthen {self._who(move)} breaks: {broken}") from broken

    def _end(self, state: int) -> Stop:
        try:
            return self._player.end()
        except AssertionError as broken:
            story = "\n".join(map(str, self._retell(self._plainest_way(0, {state}))))
            raise Broken(f"{story}\nat the end: {broken}") from broken

    def _in_order(self) -> list[int]:
        """Return the states, each behind those it follows from: none that a circle leads to."""
        before = Counter(after for moves in self.follow for after in moves.values())
        order = [] if before[0] else [0]
        for state in order:
            for after in self.follow[state].values():
                before[after] -= 1
                if before[after] == 0:
                    order.append(after)
        return order

    def _plainest_way(self, first: int, goals: set[int]) -> list[tuple[Move, int]]:
        """Return the way of at least one move that seldom changes who moves, and is short."""
        nobody = Move(-1, 0)
        came: dict[tuple[int, Move], tuple[int, Move]] = {}
        waiting = [(0, 0, first, nobody)]
        while waiting:
            changes, length, state, mover = heappop(waiting)
            if length and state in goals:
                return _way_back(came, (state, mover), (first, nobody))
            for move, after in self.follow[state].items():
                if (after, move) not in came:
                    came[after, move] = state, mover
                    change = int(move != mover)
                    heappush(waiting, (changes + change, length + 1, after, move))
        return []

    def _retell(self, way: list[tuple[Move, int]]) -> list[Told]:
        self._player.begin_again()
        return [Told(self._who(move), self._player.tell(move)) for move, _ in way]

    def _who(self, move: Move) -> str:
        if move.kind == Kind.CPU:
            return self.names[self._player.thread_on(move.ident)]
        if move.kind == Kind.TIMER:
            return "the timer"
        return "the clock" if move == CLOCK else "the device"


def _way_back(
    came: Mapping[tuple[int, Move], tuple[int, Move]],
    at: tuple[int, Move],
    first: tuple[int, Move],
) -> list[tuple[Move, int]]:
    way = []
    while not way or at != first:
        way.append((at[1], at[0]))
        at = came[at]
    return way[::-1]


class _Player:
    """The run of a story: goes on by one move, and back to what was taken down."""

    def __init__(self, scenario: Scenario, counts_attempts: bool) -> None:
        simulator = Simulator(scenario)
        self.worlds = simulator._worlds
        self.world = simulator.world
        assert self.world.kswapd == NOBODY, "each thread has a CPU of its own"
        self._threads = _plain(self.world.threads)[: int(self.world.config.threads)]
        self._cpus = _plain(self.world.cpus)[: int(self.world.config.cpus)]
        self._due = self._cpus["due"]
        self._queue = self.worlds.view(np.ndarray)["queue"]
        self._heap = self._queue["heap"][0][: ROOM["heap"]]
        layout = list(_layout(self.world))
        self._mask = np.concatenate([_mask(part, counts_attempts) for part in layout])
        self._first_thread = _length([part for part in layout if part.at < _at("threads")])
        self._parts = _bytes_of(self.worlds, layout)
        self._heads = [
            _plain(self.world.mms)["mmap_lock"]["first"][: int(self.world.config.processes)],
            _plain(self.world.files)["invalidate_lock"]["first"][: int(self.world.config.files)],
        ]
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
        digest = blake2b(compared, digest_size=16)
        digest.update(repr((sorted(self._scheduled()), self._impatient())).encode())
        return digest.digest()

    def moves(self) -> list[Move]:
        """Return what can happen next: nothing when the run is over."""
        if self.world.running == 0 or self.world.stuck != NOBODY:
            return []
        moves = sorted(self._scheduled())
        if not all(self._impatient()):
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
        assert_conserved(self.worlds)
        return stop

    def thread_on(self, cpu: int) -> int:
        return int(self._cpus["thread"][cpu])

    def tell(self, move: Move) -> str:
        """Let something happen, and say what."""
        if move.kind != Kind.CPU:
            self.do(move)
            return "time passes" if move == CLOCK else f"{Kind(move.kind).name.lower()} ends"
        thread = self._threads[self.thread_on(move.ident)]
        step = Step(int(thread["step"])).name.lower()
        self.do(move)
        return f"{step}{_where(thread)}"


def _where(thread: np.void) -> str:
    """Tell what a thread holds, and what it waits for."""
    parts = []
    if thread["held"]:
        parts.append(f"holds {'a VMA lock' if thread['held'] == FaultLock.VMA else 'mmap_lock'}")
    if thread["state"] in (ThreadState.BLOCKED, ThreadState.SPINNING):
        verb = "sleeps" if thread["state"] == ThreadState.BLOCKED else "spins"
        parts.append(f"{verb} for {WHAT_FOR[Cause(int(thread['cause']))]}")
    return f" ({', '.join(parts)})" if parts else ""


def _names(scenario: Scenario) -> list[str]:
    """Return the name of every thread: that of its group."""
    groups = [group for process in scenario.workload.processes for group in process.groups]
    return [group.name for group in groups for _ in range(group.threads)]


def _plain(records: np.ndarray) -> np.ndarray:
    return records.view(np.ndarray)


class _Part(NamedTuple):
    """A part of the record: `count` records from some byte on, that are compared or not."""

    at: int
    dtype: np.dtype[Any]
    count: int
    is_compared: bool = True

    @property
    def length(self) -> int:
        return self.dtype.itemsize * self.count


def _at(name: str) -> int:
    return int(World.fields[name][1])


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
    for name in World.names or ():
        dtype, at = World.fields[name][:2]
        base, shape = dtype.subdtype or (dtype, ())
        if name in counts:
            yield _Part(at, base, counts[name])
        elif name == "queue":
            yield from _layout_of_queue(at, int(world.queue.leaves))
        elif name == "tally":
            counters, offset = Tally.fields["counters"][:2]
            yield _Part(at + offset, counters, 1, is_compared=False)
        elif name in ("fault_rows", "operation_rows"):
            yield _Part(at + dtype.fields["rows"][1], np.dtype(np.int64), 1, is_compared=False)
        elif name == "ptes":
            yield _Part(at, base, PTES)
            yield _Part(at + (shape[0] - PTES) * base.itemsize, base, PTES)
        elif dtype.names is None and not shape:
            is_compared = name not in TOLD[World] and not name.endswith("_ns")
            yield _Part(at, dtype, 1, is_compared)


def _layout_of_queue(first: int, leaves: int) -> Iterator[_Part]:
    """Go through the queue: its keys count pushes, so it is not compared as it lies."""
    counts = {"tree": 2 * leaves, "heap": ROOM["heap"]}
    for name in Queue.names or ():
        dtype, at = Queue.fields[name][:2]
        base = dtype.subdtype[0] if dtype.subdtype else dtype
        yield _Part(first + at, base, counts.get(name, 1), is_compared=False)


def _mask(part: _Part, counts_attempts: bool) -> np.ndarray:
    """Return ones for each byte of a part that decides what follows."""
    if not part.is_compared:
        return np.zeros(part.length, np.uint8)
    return np.tile(_mask_of(part.dtype, counts_attempts), part.count)


def _mask_of(dtype: np.dtype[Any], counts_attempts: bool) -> np.ndarray:
    if dtype.names is None:
        return np.full(dtype.itemsize, 0xFF, np.uint8)
    told = TOLD.get(dtype, set())
    if dtype == Thread and not counts_attempts:
        told = told | OF_ENDLESS_RETRIES
    mask = np.zeros(dtype.itemsize, np.uint8)
    for name in dtype.names:
        inner, offset = dtype.fields[name][:2]
        base, shape = inner.subdtype or (inner, ())
        if name not in told and not name.endswith("_ns"):
            count = int(np.prod(shape, dtype=int))
            once = _mask_of(base, counts_attempts)
            mask[offset : offset + inner.itemsize] = np.tile(once, count)
    return mask
