"""Plays a small story in every order in which it can happen, and tells what came of it.

Why the moves of `stepwise` make all orders of the modelled steps is told there. States that
differ in nothing that decides what can follow are one state: that leaves out the times, and what
is only counted. So a story is a graph of states, and its orders are the ways from its first state
to the last ones. A circle in it is a story that need not end.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from faultlane_server.engine.queue import Kind
from faultlane_server.engine.run import Stop
from faultlane_server.scenario import Scenario
from tests.engine.stepwise import CLOCK, Move, Player

STATES_MAX = 1_000_000


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
        Is called with the record of the run in every state; in the last ones everything is
        counted over again anyway.
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
        self.known: dict[bytes, int] = {}
        self.follow: list[dict[Move, int]] = []
        self.ends: dict[int, Stop] = {}
        self.attempts_max = 0
        self._check = check or (lambda _: None)
        self._player = Player(scenario, counts_attempts)
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
        """Whether every order ends, even if some of those who could go on never do."""
        return len(self._in_order()) == len(self.follow)

    @property
    def all_end_in_time(self) -> bool:
        """Whether every order ends in which everybody goes on at some time who always can."""
        return not any(map(self._lasts, _circles(self.follow)))

    def _lasts(self, circle: set[int]) -> bool:
        """Whether a story may stay in these states for ever, with everybody going on who can."""
        always = set.intersection(*(set(self.follow[state]) for state in circle))
        made = {
            move
            for state in circle
            for move, after in self.follow[state].items()
            if after in circle
        }
        return always <= made

    def story_to(self, stop: Stop) -> list[Told]:
        """Return the plainest story that ends so."""
        return self._retell(self._plainest_way(0, {n for n, s in self.ends.items() if s == stop}))

    def circle(self) -> tuple[list[Told], list[Told]]:
        """Return the plainest story that need not end: how it comes there, and the circle."""
        circles = _circles(self.follow)
        first = self._plainest_way(0, set().union(*circles))
        state = first[-1][1]
        told = self._retell(first + self._plainest_way(state, {state}))
        return told[: len(first)], told[len(first) :]

    def _explore(self) -> None:
        player = self._player
        self.known[player.digest()] = 0
        self.follow.append({})
        frontier = deque([(0, player.take())])
        while frontier:
            state, taken = frontier.popleft()
            player.put_back(taken)
            moves = player.moves()
            if not moves:
                with self._telling(state):
                    self.ends[state] = player.end()
            for number, move in enumerate(moves):
                if number:
                    player.put_back(taken)
                with self._telling(state, move):
                    player.do(move)
                after = self.known.setdefault(player.digest(), len(self.known))
                self.follow[state][move] = after
                if after == len(self.follow):
                    assert after < STATES_MAX, "a story is small"
                    with self._telling(state, move):
                        self._check(player.world)
                    self.follow.append({})
                    self.attempts_max = max(self.attempts_max, player.attempts)
                    frontier.append((after, player.take()))

    @contextmanager
    def _telling(self, state: int, *moves: Move) -> Iterator[None]:
        """Tell the plainest story in which something breaks that must not."""
        try:
            yield
        except AssertionError as broken:
            way = self._plainest_way(0, {state}) if state else []
            story = [*map(str, self._retell(way)), *map(self._who, moves), str(broken)]
            raise Broken("\n".join(story)) from broken

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
        begin = first, Move(-1, 0)
        came: dict[tuple[int, Move], tuple[int, Move]] = {}
        waiting = [(0, 0, begin, begin)]
        while waiting:
            changes, length, at, before = heappop(waiting)
            if at in came:
                continue
            came[at] = before
            state, mover = at
            if length and state in goals:
                return _way_back(came, at, begin)
            for move, after in self.follow[state].items():
                change = int(move != mover)
                heappush(waiting, (changes + change, length + 1, (after, move), at))
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


def _circles(follow: Sequence[Mapping[Move, int]]) -> list[set[int]]:
    """Return the states of which each leads to each other one: Tarjan's algorithm."""
    found: list[set[int]] = []
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    path: list[int] = []
    is_on_path: set[int] = set()
    branches = [(0, iter(follow[0].values()))]
    while branches:
        state, rest = branches[-1]
        if state not in number:
            number[state] = lowest[state] = len(number)
            path.append(state)
            is_on_path.add(state)
        after = next(rest, None)
        if after is None:
            branches.pop()
            if branches:
                lowest[branches[-1][0]] = min(lowest[branches[-1][0]], lowest[state])
            if lowest[state] == number[state]:
                found.append(_cut_off(path, state))
                is_on_path -= found[-1]
        elif after not in number:
            branches.append((after, iter(follow[after].values())))
        elif after in is_on_path:
            lowest[state] = min(lowest[state], number[after])
    return [states for states in found if len(states) > 1 or _is_a_loop(follow, states)]


def _cut_off(path: list[int], first: int) -> set[int]:
    """Take the end of a path off, from some state on."""
    end = {path.pop()}
    while first not in end:
        end.add(path.pop())
    return end


def _is_a_loop(follow: Sequence[Mapping[Move, int]], states: set[int]) -> bool:
    (state,) = states
    return state in follow[state].values()


def _way_back(
    came: Mapping[tuple[int, Move], tuple[int, Move]],
    at: tuple[int, Move],
    first: tuple[int, Move],
) -> list[tuple[Move, int]]:
    way: list[tuple[Move, int]] = []
    while not way or at != first:
        way.append((at[1], at[0]))
        at = came[at]
    return way[::-1]


def _names(scenario: Scenario) -> list[str]:
    """Return the name of every thread: that of its group."""
    groups = [group for process in scenario.workload.processes for group in process.groups]
    return [group.name for group in groups for _ in range(group.threads)]
