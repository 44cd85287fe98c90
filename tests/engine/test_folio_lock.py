"""The folio lock agrees with a naive one: a line in front of a bit that may be stolen."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane_server.codes import NOBODY
from faultlane_server.engine.locks import folio_lock
from faultlane_server.engine.world import LOCKED, PRESENT, UPTODATE
from tests.engine.lock_stories import a_free_folio, idle_threads, line, some

THREADS = 6
THE_READ = THREADS  # its turn: a read that fills the folio begins or completes


class NaiveFolio:
    """A folio lock the obvious way; `unfairness` counts down as in the kernel."""

    page_lock_unfairness = 5

    def __init__(self):
        self.locked = False
        self.holder = None
        self.waiters: deque[tuple[int, bool]] = deque()
        self.unfairness = {}

    def try_lock(self, me):
        if self.locked:
            return False
        self.locked, self.holder = True, me
        return True

    def begin_to_wait(self, me):
        self.unfairness[me] = self.page_lock_unfairness

    def wait_for(self, me, exclusive):
        if exclusive:
            self.unfairness[me] -= 1
        self.waiters.append((me, exclusive))

    def unlock(self):
        self.locked, self.holder = False, None
        woken = []
        while self.waiters:
            waiter, exclusive = self.waiters.popleft()
            woken.append(waiter)
            if exclusive:
                self.wake_exclusive(waiter)
                if self.stops_at_exclusive():
                    break
        return woken

    def wake_exclusive(self, waiter):
        if self.unfairness[waiter] < 0:
            self.locked, self.holder = True, waiter

    def stops_at_exclusive(self):
        return True


class Pair:
    """A folio and a naive one. Who is woken from an exclusive wait tries again at its turn."""

    def __init__(self, naive):
        self.naive = naive
        self.folio = a_free_folio()
        self.folio.state = PRESENT | UPTODATE
        self.threads = idle_threads(THREADS)
        self.wants = dict.fromkeys(range(THREADS), "nothing")
        self.is_being_read = False
        self.handed_over = 0

    def play(self, script):
        for thread, exclusive in script:
            if thread == THE_READ:
                self.begin_or_complete_read()
            elif self.naive.holder == thread:
                self.unlock()
            elif self.wants[thread] == "the lock":
                self.lock_or_wait(thread, exclusive=True)
            elif self.wants[thread] == "nothing":
                self.threads[thread].rounds = 0
                self.naive.begin_to_wait(thread)
                self.lock_or_wait(thread, exclusive)
            self.compare()

    def begin_or_complete_read(self):
        if self.is_being_read:
            self.is_being_read = False
            self.unlock()
        elif not self.naive.locked:
            self.is_being_read = self.naive.locked = True
            self.folio.state |= LOCKED

    def lock_or_wait(self, me, exclusive):
        if not self.naive.locked and not exclusive:
            return
        taken = folio_lock.try_lock(self.folio, me)
        assert taken == self.naive.try_lock(me)
        self.wants[me] = "nothing"
        if not taken:
            folio_lock.wait_for(self.folio, self.threads, me, exclusive)
            self.naive.wait_for(me, exclusive)
            self.wants[me] = "sleep"

    def unlock(self):
        first = folio_lock.unlock(self.folio, self.threads)
        woken = self.naive.unlock()
        assert line(self.threads, first) == woken
        self.handed_over += self.naive.holder is not None
        for waiter in woken:
            still_wants = self.threads[waiter].exclusive == 1 and self.naive.holder != waiter
            self.wants[waiter] = "the lock" if still_wants else "nothing"

    def compare(self):
        folio, naive = self.folio, self.naive
        assert folio.state == PRESENT | UPTODATE | (LOCKED if naive.locked else 0)
        assert some(folio.holder) == naive.holder
        waiters = [(me, self.threads[me].exclusive == 1) for me in line(self.threads, folio.first)]
        assert waiters == list(naive.waiters)
        assert some(folio.last) == (naive.waiters[-1][0] if naive.waiters else None)


turns = st.tuples(st.integers(0, THE_READ), st.booleans())


@pytest.mark.uncompiled_too
@settings(deadline=None, max_examples=200)
@given(st.lists(turns, max_size=120))
def test_agrees_with_the_naive_folio_lock(script):
    Pair(NaiveFolio()).play(script)


def random_script(seed):
    """Return many turns, most of them exclusive, so that the rounds are used up."""
    chance = random.Random(seed)
    return [(chance.randint(0, THE_READ), chance.random() < 0.9) for _ in range(400)]


@pytest.mark.uncompiled_too
def test_agrees_with_the_naive_folio_lock_until_locks_are_handed_over():
    handed_over = 0
    for seed in range(20):
        pair = Pair(NaiveFolio())
        pair.play(random_script(seed))
        handed_over += pair.handed_over
    assert handed_over > 0


class FairOneRoundEarly(NaiveFolio):
    page_lock_unfairness = 4


class FairOneRoundLate(NaiveFolio):
    page_lock_unfairness = 6


class AllAreWoken(NaiveFolio):
    def stops_at_exclusive(self):
        return False


class NobodyIsHandedTheLock(NaiveFolio):
    def wake_exclusive(self, waiter):
        pass


class NewcomersWaitInFront(NaiveFolio):
    def wait_for(self, me, exclusive):
        super().wait_for(me, exclusive)
        self.waiters.rotate()


class OnlyTheExclusiveAreWoken(NaiveFolio):
    def unlock(self):
        others = [waiter for waiter in self.waiters if not waiter[1]]
        self.waiters = deque(waiter for waiter in self.waiters if waiter[1])
        woken = super().unlock()
        self.waiters.extendleft(reversed(others))
        return woken


def play_at_length(naive):
    for seed in range(100):
        Pair(naive()).play(random_script(seed))


@pytest.mark.parametrize("mutant", NaiveFolio.__subclasses__(), ids=lambda mutant: mutant.__name__)
def test_a_naive_folio_lock_with_one_wrong_rule_is_found_out(mutant):
    with pytest.raises(AssertionError):
        play_at_length(mutant)


@pytest.fixture
def folio():
    return a_free_folio()


@pytest.fixture
def threads():
    return idle_threads(THREADS)


def lines_up(folio, threads, thread, *, exclusive):
    folio_lock.wait_for(folio, threads, thread, exclusive)


@pytest.mark.uncompiled_too
def test_an_unlock_wakes_up_to_and_with_the_first_exclusive_waiter(folio, threads):
    folio_lock.try_lock(folio, 0)
    for thread, exclusive in [(1, False), (2, False), (3, True), (4, False), (5, True)]:
        lines_up(folio, threads, thread, exclusive=exclusive)

    assert line(threads, folio_lock.unlock(folio, threads)) == [1, 2, 3]

    assert folio.state & LOCKED == 0
    assert line(threads, folio.first) == [4, 5]


@pytest.mark.uncompiled_too
def test_a_waiter_that_was_beaten_five_times_is_handed_the_lock_in_its_sixth_round(folio, threads):
    folio_lock.try_lock(folio, 0)
    for _ in range(5):
        lines_up(folio, threads, 1, exclusive=True)
        assert line(threads, folio_lock.unlock(folio, threads)) == [1]
        assert folio_lock.try_lock(folio, 0), "barges in"
        assert not folio_lock.try_lock(folio, 1)
    lines_up(folio, threads, 1, exclusive=True)

    assert line(threads, folio_lock.unlock(folio, threads)) == [1]

    assert folio.holder == 1
    assert not folio_lock.try_lock(folio, 0)


@pytest.mark.uncompiled_too
def test_a_completed_read_wakes_those_who_wait_for_it(folio, threads):
    folio.state = PRESENT | LOCKED
    lines_up(folio, threads, 1, exclusive=False)
    lines_up(folio, threads, 2, exclusive=True)

    assert line(threads, folio_lock.unlock(folio, threads)) == [1, 2]
    assert folio.holder == NOBODY
    assert folio_lock.try_lock(folio, 2)


@pytest.mark.uncompiled_too
def test_what_cannot_be_is_refused(folio, threads):
    with pytest.raises(AssertionError, match="a locked folio is unlocked"):
        folio_lock.unlock(folio, threads)
    with pytest.raises(AssertionError, match="only a locked folio is waited for"):
        lines_up(folio, threads, 1, exclusive=True)
