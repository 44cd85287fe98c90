"""The rwsem agrees with a naive one on everything that can be seen of it.

The naive one is the kernel model's text with lists: a queue of waiters and a list of
spinners. Random scripts drive both. That the comparison has teeth is tested with naive
locks that are wrong in one rule each.
"""

import random
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane_server.engine.locks import rwsem
from faultlane_server.engine.locks.rwsem import Wake
from tests.engine.lock_stories import RwsemStory, a_free_rwsem, idle_threads, line, some, woken

THREADS = 7
NO_THREAD = THREADS  # its turn: wake-ups that are owed happen
TIMEOUT_NS = 6
A, B, C, W1, W2, W3 = range(6)


@dataclass
class Waiter:
    """An entry of the naive queue."""

    thread: int
    writes: bool
    deadline_ns: int
    handoff_set: bool = False


class NaiveRwsem:
    """A rwsem the obvious way. What mutants get wrong stands in methods of its own."""

    def __init__(self):
        self.writer = None
        self.readers = 0
        self.handoff = False
        self.owner = None
        self.reader_owned = False
        self.nonspinnable = False
        self.queue = []
        self.spinners = []
        self.spins_on_readers = False
        self.woken = []

    # Rules.

    def is_late(self, waiter, now_ns):
        return now_ns > waiter.deadline_ns

    def reader_keeps_out(self, snapshot):
        """A reader does not join readers while somebody is queued."""
        return self.reader_owned and snapshot > 1 and self.writer is None

    def is_free_for_spinners(self):
        return self.readers == 0 and self.writer is None and not self.handoff

    def granted_together(self):
        return [waiter for waiter in self.queue if not waiter.writes]

    def owner_of_granted(self, head):
        return head.thread

    def after_a_killed_head(self, now_ns):
        self.wake(Wake.ANY, now_ns)

    def last_reader_left(self):
        self.nonspinnable = False

    def wakes_head_writer(self, kind):
        return kind == Wake.ANY

    def who_gets_handoff(self, waiter):
        return self.queue[0]

    def must_yield(self, waiter):
        return self.handoff and self.queue[0].handoff_set and waiter is not self.queue[0]

    def read_steal_wakes(self, snapshot):
        return snapshot == 1 and bool(self.queue)

    # What threads do.

    def try_read(self, me):
        if self.writer is not None or self.queue or self.handoff:
            return False
        self.own_by_reader(me)
        self.readers += 1
        return True

    def read(self, me, now_ns):
        self.woken = []
        if self.try_read(me):
            return True
        snapshot = self.readers + 1
        if not self.reader_keeps_out(snapshot) and self.writer is None and not self.handoff:
            self.readers += 1
            self.own_by_reader(me)
            if self.read_steal_wakes(snapshot):
                self.wake(Wake.READ_OWNED, now_ns)
            return True
        self.queue.append(Waiter(me, False, now_ns + TIMEOUT_NS))
        self.wake_on_condition(now_ns)
        if me in self.woken:
            self.woken.remove(me)
            return True
        return False

    def release_read(self):
        self.readers -= 1
        if self.readers == 0 and self.writer is None and self.queue:
            self.last_reader_left()
            return True
        return False

    def try_write(self, me):
        if self.writer is not None or self.readers or self.queue or self.handoff:
            return False
        self.own_by_writer(me)
        return True

    def steal_write(self, me):
        if not self.is_free_for_spinners():
            return False
        self.own_by_writer(me)
        return True

    def queue_write(self, me, now_ns):
        self.woken = []
        self.queue.append(Waiter(me, True, now_ns + TIMEOUT_NS))
        if len(self.queue) > 1:
            self.wake_on_condition(now_ns)
        return self.retry_write(me, now_ns)

    def retry_write(self, me, now_ns):
        waiter = self.find(me)
        if self.must_yield(waiter):
            return False
        if self.readers > 0 or self.writer is not None:
            if not self.handoff and self.is_late(waiter, now_ns):
                self.handoff = True
                self.who_gets_handoff(waiter).handoff_set = True
            return False
        self.queue.remove(waiter)
        self.handoff = False
        self.own_by_writer(me)
        return True

    def release_write(self):
        self.writer = self.owner = None
        self.reader_owned = self.nonspinnable = False
        return bool(self.queue)

    def downgrade(self, me):
        self.writer = None
        self.readers += 1
        self.own_by_reader(me)
        return bool(self.queue)

    def leave_queue(self, me, now_ns):
        self.woken = []
        was_head = self.queue[0].thread == me
        self.queue.remove(self.find(me))
        if not self.queue:
            self.handoff = False
        elif was_head:
            self.after_a_killed_head(now_ns)

    def may_spin(self, owner_runs):
        if self.nonspinnable:
            return False
        return self.owner is None or self.reader_owned or owner_runs

    def leave_spinners(self, me):
        if self.spinners[0] == me:
            self.spins_on_readers = False
        self.spinners.remove(me)

    def wake_on_condition(self, now_ns):
        if self.writer is not None:
            return
        if self.readers > 0:
            self.wake(Wake.READERS, now_ns)
        else:
            self.nonspinnable = False
            self.wake(Wake.ANY, now_ns)

    def wake(self, kind, now_ns):
        self.woken = []
        if not self.queue:
            return
        head = self.queue[0]
        if head.writes:
            if self.wakes_head_writer(kind):
                self.woken = [head.thread]
            return
        if kind != Wake.READ_OWNED:
            if self.writer is not None:
                if self.is_late(head, now_ns):
                    self.handoff = head.handoff_set = True
                return
            self.own_by_reader(self.owner_of_granted(head))
        granted = self.granted_together()
        self.queue = [waiter for waiter in self.queue if waiter not in granted]
        self.readers += len(granted)
        self.handoff = False
        self.woken = [waiter.thread for waiter in granted]

    def own_by_reader(self, me):
        self.owner = me
        self.reader_owned = True

    def own_by_writer(self, me):
        self.writer = self.owner = me
        self.reader_owned = self.nonspinnable = False

    def find(self, me):
        return next(waiter for waiter in self.queue if waiter.thread == me)

    def seen(self):
        return {
            "writer": self.writer,
            "readers": self.readers,
            "handoff": self.handoff,
            "owner": self.owner,
            "reader_owned": self.reader_owned,
            "nonspinnable": self.nonspinnable,
            "queue": [(w.thread, w.writes, w.deadline_ns, w.handoff_set) for w in self.queue],
            "queue_last": self.queue[-1].thread if self.queue else None,
            "spinners": self.spinners,
            "spinners_last": self.spinners[-1] if self.spinners else None,
            "spins_on_readers": self.spins_on_readers,
        }


def seen(lock, threads):
    """Return the same of the rwsem under test."""
    return {
        "writer": some(lock.writer),
        "readers": lock.readers,
        "handoff": lock.handoff == 1,
        "owner": some(lock.owner),
        "reader_owned": lock.reader_owned == 1,
        "nonspinnable": lock.nonspinnable == 1,
        "queue": [
            (
                thread,
                threads[thread].wants_write == 1,
                threads[thread].deadline_ns,
                threads[thread].handoff_set == 1,
            )
            for thread in line(threads, lock.first)
        ],
        "queue_last": some(lock.last),
        "spinners": line(threads, lock.spin_first),
        "spinners_last": some(lock.spin_last),
        "spins_on_readers": lock.spins_on_readers == 1,
    }


class Pair:
    """A rwsem and a naive one, the same threads at both; every step is compared."""

    def __init__(self, naive):
        self.naive = naive
        self.lock = a_free_rwsem()
        self.threads = idle_threads(THREADS)
        self.doing = dict.fromkeys(range(THREADS), "idle")
        self.owed = 0  # wake-ups that releases asked for
        self.now_ns = 0

    def play(self, script):
        """Let a thread take each turn; `choice` picks among what it can do, `coin` how."""
        for thread, choice, coin, pause_ns in script:
            self.now_ns += pause_ns
            if thread == NO_THREAD:
                self.pay_wake()
            else:
                can = getattr(self, f"can_when_{self.doing[thread]}")(thread, coin)
                can[choice % len(can)]()
            assert seen(self.lock, self.threads) == self.naive.seen()

    def can_when_idle(self, me, coin):
        return [
            partial(self.read, me),
            partial(self.queue_write, me),
            partial(self.spin, me, coin),
            partial(self.read, me),
            partial(self.take, me, "reads", "try_read"),
            partial(self.take, me, "writes", "try_write"),
        ]

    def can_when_reads(self, me, coin):
        return [partial(self.release, me, "release_read", coin)]

    def can_when_writes(self, me, coin):
        release = partial(self.release, me, "release_write", coin)
        return [release, release, partial(self.downgrade, me)]

    def can_when_waits_to_read(self, me, coin):
        return [lambda: None, lambda: None, partial(self.kill, me)]

    def can_when_waits_to_write(self, me, coin):
        retry = partial(self.retry_write, me)
        return [retry, retry, partial(self.kill, me)]

    def can_when_spins(self, me, coin):
        return [partial(self.steal_write, me), partial(self.stop_spinning, me, coin)]

    def compare_woken(self):
        assert woken(self.lock, self.threads) == self.naive.woken
        for thread in self.naive.woken:
            if self.doing[thread] == "waits_to_read":
                self.doing[thread] = "reads"

    def read(self, me):
        taken = rwsem.read(self.lock, self.threads, me, self.now_ns, TIMEOUT_NS)
        assert taken == self.naive.read(me, self.now_ns)
        self.doing[me] = "reads" if taken else "waits_to_read"
        self.compare_woken()

    def take(self, me, doing, function):
        taken = getattr(rwsem, function)(self.lock, me)
        assert taken == getattr(self.naive, function)(me)
        if taken:
            self.doing[me] = doing

    def queue_write(self, me):
        taken = rwsem.queue_write(self.lock, self.threads, me, self.now_ns, TIMEOUT_NS)
        assert taken == self.naive.queue_write(me, self.now_ns)
        self.doing[me] = "writes" if taken else "waits_to_write"
        self.compare_woken()

    def retry_write(self, me):
        taken = rwsem.retry_write(self.lock, self.threads, me, self.now_ns)
        assert taken == self.naive.retry_write(me, self.now_ns)
        if taken:
            self.doing[me] = "writes"

    def spin(self, me, owner_runs):
        may = rwsem.may_spin(self.lock, owner_runs)
        assert may == self.naive.may_spin(owner_runs)
        if may:
            rwsem.join_spinners(self.lock, self.threads, me)
            self.naive.spinners.append(me)
            self.doing[me] = "spins"

    def steal_write(self, me):
        """Only the first spinner looks at the lock; the others are not asked."""
        if self.naive.spinners[0] != me:
            return
        self.take(me, "writes", "steal_write")
        if self.doing[me] == "writes":
            self.leave_spinners(me)
        else:
            self.lock.spins_on_readers = int(self.naive.readers > 0)
            self.naive.spins_on_readers = self.naive.readers > 0

    def stop_spinning(self, me, has_expired):
        if has_expired and self.naive.reader_owned:
            self.lock.nonspinnable = 1
            self.naive.nonspinnable = True
        self.leave_spinners(me)
        self.queue_write(me)

    def leave_spinners(self, me):
        rwsem.leave_spinners(self.lock, self.threads, me)
        self.naive.leave_spinners(me)

    def release(self, me, function, at_once):
        must_wake = getattr(rwsem, function)(self.lock)
        assert must_wake == getattr(self.naive, function)()
        self.doing[me] = "idle"
        self.owed += must_wake
        if at_once:
            self.pay_wake()

    def downgrade(self, me):
        must_wake = rwsem.downgrade(self.lock, me)
        assert must_wake == self.naive.downgrade(me)
        self.doing[me] = "reads"
        if must_wake:
            self.wake(Wake.READ_OWNED)

    def pay_wake(self):
        if self.owed > 0:
            self.owed -= 1
            self.wake(Wake.ANY)

    def wake(self, kind):
        rwsem.wake(self.lock, self.threads, self.now_ns, kind)
        self.naive.wake(kind, self.now_ns)
        self.compare_woken()

    def kill(self, me):
        rwsem.leave_queue(self.lock, self.threads, me, self.now_ns)
        self.naive.leave_queue(me, self.now_ns)
        self.doing[me] = "idle"
        self.compare_woken()


turns = st.tuples(
    st.integers(0, NO_THREAD), st.integers(0, 5), st.booleans(), st.sampled_from([0, 0, 1, 3])
)


@pytest.mark.uncompiled_too
@settings(deadline=None, max_examples=300)
@given(st.lists(turns, max_size=100))
def test_agrees_with_the_naive_rwsem(script):
    Pair(NaiveRwsem()).play(script)


def random_script(seed, length=200):
    chance = random.Random(seed)
    return [
        (
            chance.randint(0, NO_THREAD),
            chance.randint(0, 5),
            chance.random() < 0.5,
            chance.choice([0, 0, 1, 3]),
        )
        for _ in range(length)
    ]


def play_at_length(naive):
    for seed in range(100):
        Pair(naive()).play(random_script(seed))


def test_agrees_with_the_naive_rwsem_at_length():
    play_at_length(NaiveRwsem)


class LateAtTheDeadline(NaiveRwsem):
    def is_late(self, waiter, now_ns):
        return now_ns >= waiter.deadline_ns


class NobodyIsLate(NaiveRwsem):
    def is_late(self, waiter, now_ns):
        return False


class ReadersJoinReaders(NaiveRwsem):
    def reader_keeps_out(self, snapshot):
        return False


class ReadersNeverSteal(NaiveRwsem):
    def reader_keeps_out(self, snapshot):
        return True


class SpinnersIgnoreHandoff(NaiveRwsem):
    def is_free_for_spinners(self):
        return self.readers == 0 and self.writer is None


class SpinnersRespectTheQueue(NaiveRwsem):
    def is_free_for_spinners(self):
        return super().is_free_for_spinners() and not self.queue


class OnlyReadersInFrontAreGranted(NaiveRwsem):
    def granted_together(self):
        in_front = []
        for waiter in self.queue:
            if waiter.writes:
                break
            in_front.append(waiter)
        return in_front


class GrantedReadersKeepTheOwner(NaiveRwsem):
    def owner_of_granted(self, head):
        return self.owner


class AKilledHeadWakesNobody(NaiveRwsem):
    def after_a_killed_head(self, now_ns):
        pass


class SpinnersStayBarred(NaiveRwsem):
    def last_reader_left(self):
        pass


class ADowngradeWakesWriters(NaiveRwsem):
    def wakes_head_writer(self, kind):
        return kind != Wake.READERS


class QueueingReadersWakeWriters(NaiveRwsem):
    def wakes_head_writer(self, kind):
        return kind != Wake.READ_OWNED


class HandoffToWhoeverIsLate(NaiveRwsem):
    def who_gets_handoff(self, waiter):
        return waiter


class HandoffBindsNobodyInTheQueue(NaiveRwsem):
    def must_yield(self, waiter):
        return False


class HandoffBindsEvenWithoutAnHeir(NaiveRwsem):
    def must_yield(self, waiter):
        return self.handoff and waiter is not self.queue[0]


class AStealingReaderKeepsTheLockToItself(NaiveRwsem):
    def read_steal_wakes(self, snapshot):
        return False


MUTANTS = NaiveRwsem.__subclasses__()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_naive_rwsem_with_one_wrong_rule_is_found_out(mutant):
    with pytest.raises(AssertionError):
        play_at_length(mutant)


@pytest.fixture
def lock():
    return RwsemStory()


@pytest.mark.uncompiled_too
def test_handoff_outlives_a_killed_head_but_binds_no_queued_writer(lock):
    lock.down_read(A)
    lock.queue_write(W1)
    lock.queue_write(W2)
    lock.queue_write(W3)
    lock.wait_longer_than_the_timeout()
    lock.retry(W1)
    assert lock.state == (1, "WAIT HO", [W1, W2, W3])

    assert lock.kill(W1) == [W2]
    assert lock.state == (1, "WAIT HO", [W2, W3])
    assert not lock.handoff_set(W2)
    lock.up_read()
    assert not lock.steal(B)
    assert lock.retry(W3), "past the head"
    assert lock.state == (0, "W WAIT", [W2])


@pytest.mark.uncompiled_too
def test_a_late_writer_asks_for_a_handoff_to_the_head(lock):
    lock.try_write(A)
    lock.queue_write(W1)
    lock.queue_write(W2)
    lock.wait_longer_than_the_timeout()

    assert not lock.retry(W2)

    assert lock.handoff_set(W1)
    assert not lock.handoff_set(W2)


@pytest.mark.uncompiled_too
def test_a_waiter_is_late_only_after_its_deadline(lock):
    lock.down_read(A)
    lock.queue_write(W1)
    lock.now_ns = int(lock.threads[W1].deadline_ns)
    lock.retry(W1)
    assert lock.state == (1, "WAIT", [W1])

    lock.now_ns += 1
    lock.retry(W1)

    assert lock.state == (1, "WAIT HO", [W1])


@pytest.mark.uncompiled_too
def test_a_killed_waiter_in_the_middle_wakes_nobody(lock):
    lock.down_read(A)
    lock.queue_write(W1)
    lock.queue_write(W2)
    lock.down_read(B)

    assert lock.kill(W2) == []
    assert lock.state == (1, "WAIT", [W1, B])
    assert lock.kill(B) == []
    assert lock.kill(W1) == []
    assert lock.state == (1, "", [])


@pytest.mark.uncompiled_too
def test_a_reader_behind_more_than_a_batch_lets_in_a_batch_and_waits():
    lock = RwsemStory(threads=700)
    readers = list(range(100, 700))
    lock.try_write(A)
    for reader in readers:
        lock.down_read(reader)
    assert lock.up_write() == readers[:256]

    assert not lock.down_read(B)

    assert lock.woken == readers[256:512]
    assert lock.state == (512, "WAIT", [*readers[512:], B])


@pytest.mark.uncompiled_too
def test_the_next_spinner_starts_a_watch_of_its_own(lock):
    lock.spin(W1)
    lock.spin(W2)
    lock.spin(W3)
    lock.lock.spins_on_readers = 1
    lock.stop_spinning(W2)
    assert lock.lock.spins_on_readers == 1

    lock.stop_spinning(W1)

    assert lock.lock.spins_on_readers == 0
    assert line(lock.threads, lock.lock.spin_first) == [W3]


@pytest.mark.uncompiled_too
@pytest.mark.parametrize(
    ("readers", "spin_ns"), [(0, 10_000), (1, 10_500), (4, 12_000), (30, 25_000), (500, 25_000)]
)
def test_a_spinner_watches_readers_for_10_to_25_microseconds(readers, spin_ns):
    assert rwsem.reader_spin_ns(readers) == spin_ns


@pytest.mark.uncompiled_too
def test_a_lock_is_not_released_by_nobody(lock):
    with pytest.raises(AssertionError, match="nobody reads"):
        lock.up_read()
    with pytest.raises(AssertionError, match="nobody writes"):
        lock.up_write()


@pytest.mark.uncompiled_too
def test_who_does_not_wait_cannot_be_killed_waiting(lock):
    lock.down_read(A)
    lock.queue_write(W1)
    with pytest.raises(AssertionError, match="stands in this line"):
        lock.kill(A)
