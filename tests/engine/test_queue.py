"""The queue of events agrees with a sorted list, and its keys can be read back."""

from bisect import insort

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane_server.engine.queue import (
    ID_BITS,
    NEVER_NS,
    Kind,
    id_of,
    kind_of,
    pop,
    prepare,
    push,
    soonest_ns,
)
from faultlane_server.engine.world import CPUS_MAX, QUEUE_MAX, Queue

pytestmark = pytest.mark.uncompiled_too

ID_MAX = (1 << ID_BITS) - 1
CPUS = 11

times_ns = st.integers(0, 20)
of_cpus = st.tuples(times_ns, st.just(Kind.CPU), st.integers(0, CPUS - 1))
of_others = st.tuples(times_ns, st.sampled_from([Kind.READ, Kind.TIMER]), st.integers(0, ID_MAX))
pushes = of_cpus | of_others


class NaiveQueue:
    """A list that is kept in order; what was pushed first stands first among equals.

    An event of a CPU replaces the one that it had.
    """

    def __init__(self):
        self.line = []
        self.pushes = 0

    def push(self, time_ns, kind, ident):
        if kind == Kind.CPU:
            self.line = [entry for entry in self.line if entry[2:] != (kind, ident)]
        insort(self.line, (time_ns, self.pushes, kind, ident))
        self.pushes += 1

    def pop(self):
        time_ns, _, kind, ident = self.line.pop(0)
        return time_ns, kind, ident


def an_empty_queue(cpus=CPUS):
    queue = np.zeros(1, Queue).view(np.recarray)[0]
    prepare(queue, cpus)
    return queue


def popped(queue):
    time_ns, key = pop(queue)
    return time_ns, kind_of(key), id_of(key)


@settings(deadline=None)
@given(st.lists(st.one_of(pushes, st.none()), max_size=150))
def test_agrees_with_a_sorted_list(turns):
    """A turn pushes an entry, or pops one if there is any."""
    queue, naive = an_empty_queue(), NaiveQueue()
    for turn in turns:
        if turn is not None:
            push(queue, *turn)
            naive.push(*turn)
        elif naive.line:
            assert popped(queue) == naive.pop()
        assert soonest_ns(queue) == (naive.line[0][0] if naive.line else NEVER_NS)
    while naive.line:
        assert popped(queue) == naive.pop()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=300))
def test_what_comes_out_is_in_order(times_ns):
    queue = an_empty_queue()
    for ident, time_ns in enumerate(times_ns):
        push(queue, time_ns, Kind.TIMER, ident)

    out = [popped(queue) for _ in times_ns]

    assert [(time_ns, ident) for time_ns, _, ident in out] == sorted(
        (time_ns, ident) for ident, time_ns in enumerate(times_ns)
    )


def test_entries_of_one_time_come_out_in_the_order_of_their_pushes():
    queue = an_empty_queue()
    for ident in (7, 3, 9, 1, 8, 2):
        push(queue, 100, Kind.READ, ident)
    push(queue, 99, Kind.CPU, 5)

    assert [popped(queue)[2] for _ in range(7)] == [5, 7, 3, 9, 1, 8, 2]


def test_push_returns_the_key_that_pop_will_return():
    queue = an_empty_queue()
    keys = [push(queue, 10 - n, Kind.CPU, n) for n in range(4)]

    assert [pop(queue)[1] for _ in keys] == keys[::-1]


def test_what_comes_by_an_interrupt_waits_until_those_are_let_in_and_a_cpu_does_not():
    queue = an_empty_queue()
    push(queue, 10, Kind.TIMER, 1)
    push(queue, 20, Kind.CPU, 2)
    push(queue, 70, Kind.READ, 3)
    queue.opens_ns = 50

    assert soonest_ns(queue) == 20
    assert popped(queue) == (20, Kind.CPU, 2)
    assert popped(queue) == (50, Kind.TIMER, 1)
    assert popped(queue) == (70, Kind.READ, 3)


@pytest.mark.parametrize("cpus", [1, 2, 3, 64, 100, CPUS_MAX])
def test_every_cpu_has_a_place(cpus):
    queue = an_empty_queue(cpus)
    for cpu in range(cpus):
        push(queue, 1000 - cpu, Kind.CPU, cpu)

    assert [popped(queue)[2] for _ in range(cpus)] == list(reversed(range(cpus)))
    assert soonest_ns(queue) == NEVER_NS


def test_a_full_queue_is_a_broken_invariant_and_no_overrun():
    queue = an_empty_queue()
    queue.entries = QUEUE_MAX

    with pytest.raises(AssertionError, match="queue of events is full"):
        push(queue, 1, Kind.TIMER, 0)


@settings(deadline=None)
@given(st.lists(pushes, min_size=1, max_size=40), st.data())
def test_what_is_chosen_happens_when_the_soonest_would_and_the_others_keep_their_order(
    entries, data
):
    queue, naive = an_empty_queue(), NaiveQueue()
    keys = {}
    for entry in entries:
        keys[naive.pushes] = push(queue, *entry)
        naive.push(*entry)
    while naive.line:
        soonest_at = naive.line[0][0]
        if data.draw(st.booleans()):
            chosen = data.draw(st.sampled_from(naive.line))
            queue.chosen = keys[chosen[1]]
        else:
            chosen = naive.line[0]
        naive.line.remove(chosen)
        assert popped(queue) == (soonest_at, *chosen[2:])
        if naive.pushes < 60 and data.draw(st.booleans()):
            again = (chosen[0] + 1, *chosen[2:])
            keys[naive.pushes] = push(queue, *again)
            naive.push(*again)
    assert soonest_ns(queue) == NEVER_NS


def test_what_was_taken_out_cannot_be_chosen():
    queue = an_empty_queue()
    key = push(queue, 100, Kind.READ, 1)
    push(queue, 101, Kind.READ, 2)
    pop(queue)
    queue.chosen = key

    with pytest.raises(AssertionError, match="what is chosen is scheduled"):
        pop(queue)
