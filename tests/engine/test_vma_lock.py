"""The per-VMA lock agrees with a naive one, in both designs.

The naive one is what the kernel does: a rw_semaphore whose wait list has room for one
writer, or a reference count with a bit that excludes readers.
"""

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane_server.codes import VmaLockDesign
from faultlane_server.engine.locks import vma_lock
from faultlane_server.engine.world import Drain
from tests.engine.lock_stories import a_free_vma, some

READERS = 5
WRITER = READERS
DESIGNS = [VmaLockDesign.RWSEM, VmaLockDesign.REFCOUNT]
EXCLUDE = 0x40000000  # VMA_LOCK_OFFSET


class NaiveVma:
    """A VMA of one of the designs; readers are a list in the order in which they came."""

    def __init__(self, design):
        self.design = design
        self.inside = []
        self.latest = None
        self.refcount = 1
        self.spins = False
        self.queued = False
        self.write_locked = False

    def readers_fail(self):
        return self.write_locked or self.queued or self.refcount >= EXCLUDE

    def start_read(self, me):
        if self.readers_fail():
            return False
        self.inside.append(me)
        self.latest = me
        self.refcount += 1
        return True

    def end_read(self, me):
        self.inside.remove(me)
        self.refcount -= 1
        if self.inside:
            return False
        self.latest = None
        return self.is_waited_for()

    def is_waited_for(self):
        return self.spins or self.queued or self.refcount >= EXCLUDE

    def begin_drain(self):
        if self.design == VmaLockDesign.RWSEM:
            self.spins = True
        else:
            self.refcount += EXCLUDE

    def stop_spinning(self):
        self.spins, self.queued = False, True

    def stamp(self):
        self.spins = self.queued = False
        self.refcount = 1
        self.write_locked = True

    def mmap_write_unlock(self):
        self.write_locked = False

    def drain(self):
        if self.queued or self.refcount >= EXCLUDE:
            return Drain.EXCLUDING
        return Drain.SPINNING if self.spins else Drain.NONE


class Pair:
    """A VMA and a naive one, the same readers and one writer at both."""

    def __init__(self, naive):
        self.naive = naive
        self.vma = a_free_vma()
        self.mm_seq = 0

    def play(self, script):
        for thread, choice in script:
            if thread == WRITER:
                can = self.writer_can()
                can[choice % len(can)]()
            elif thread in self.naive.inside:
                assert vma_lock.end_read(self.vma) == self.naive.end_read(thread)
            else:
                started = vma_lock.start_read(self.vma, self.mm_seq, thread)
                assert started == self.naive.start_read(thread)
            self.compare()

    def writer_can(self):
        """Return what mmap_lock's writer can do next, from taking mmap_lock to releasing it."""
        if self.mm_seq % 2 == 0:
            return [self.bump_seq]
        if self.naive.write_locked:
            return [partial(self.both, "mmap_write_unlock")]
        if self.naive.is_waited_for():
            wait = [partial(self.both, "stop_spinning")] if self.naive.spins else [lambda: None]
            return wait if self.naive.inside else [partial(self.both, "stamp")]
        if self.naive.inside:
            return [partial(self.both, "begin_drain"), partial(self.both, "mmap_write_unlock")]
        return [partial(self.both, "stamp"), partial(self.both, "mmap_write_unlock")]

    def both(self, name):
        getattr(self.naive, name)()
        if name == "begin_drain":
            vma_lock.begin_drain(self.vma, WRITER, self.naive.design)
        elif name == "stop_spinning":
            vma_lock.stop_spinning(self.vma)
        elif name == "stamp":
            vma_lock.stamp(self.vma, self.mm_seq)
        else:
            self.bump_seq()

    def bump_seq(self):
        self.mm_seq += 1

    def compare(self):
        vma, naive = self.vma, self.naive
        assert vma.readers == len(naive.inside)
        assert some(vma.reader) == naive.latest
        assert vma.drain == naive.drain()
        assert some(vma.drainer) == (WRITER if naive.is_waited_for() else None)
        assert vma_lock.is_write_locked(vma, self.mm_seq) == naive.write_locked


turns = st.tuples(st.integers(0, WRITER + 1).map(lambda n: min(n, WRITER)), st.integers(0, 1))


@pytest.mark.uncompiled_too
@pytest.mark.parametrize("design", DESIGNS)
@settings(deadline=None, max_examples=200)
@given(script=st.lists(turns, max_size=80))
def test_agrees_with_the_naive_vma_lock(design, script):
    Pair(NaiveVma(design)).play(script)


class SpinningExcludes(NaiveVma):
    def readers_fail(self):
        return super().readers_fail() or self.spins


class QueueingDoesNotExclude(NaiveVma):
    def readers_fail(self):
        return self.write_locked or self.refcount >= EXCLUDE


class CountingDoesNotExclude(NaiveVma):
    def readers_fail(self):
        return self.write_locked or self.queued


class AStampExcludesNobody(NaiveVma):
    def readers_fail(self):
        return self.queued or self.refcount >= EXCLUDE


class AStampOutlivesItsWriter(NaiveVma):
    def mmap_write_unlock(self):
        pass


class TheLastReaderWakesNobody(NaiveVma):
    def end_read(self, me):
        super().end_read(me)
        return False


def random_script(seed):
    chance = random.Random(seed)
    return [(min(chance.randint(0, WRITER + 1), WRITER), chance.randint(0, 1)) for _ in range(200)]


def play_at_length(naive):
    for seed in range(100):
        for design in DESIGNS:
            Pair(naive(design)).play(random_script(seed))


@pytest.mark.parametrize("mutant", NaiveVma.__subclasses__(), ids=lambda mutant: mutant.__name__)
def test_a_naive_vma_lock_with_one_wrong_rule_is_found_out(mutant):
    with pytest.raises(AssertionError):
        play_at_length(mutant)


@pytest.fixture
def vma():
    return a_free_vma()


@pytest.mark.uncompiled_too
def test_a_writer_of_mmap_lock_alone_keeps_no_reader_out(vma):
    assert vma_lock.start_read(vma, 1, 0)


@pytest.mark.uncompiled_too
def test_readers_slip_in_while_a_writer_spins_and_fail_once_it_queues(vma):
    vma_lock.start_read(vma, 1, 0)
    vma_lock.begin_drain(vma, WRITER, VmaLockDesign.RWSEM)
    assert vma_lock.start_read(vma, 1, 1)
    assert vma.reader == 1

    vma_lock.stop_spinning(vma)

    assert not vma_lock.start_read(vma, 1, 2)
    assert not vma_lock.end_read(vma)
    assert vma_lock.end_read(vma), "the writer is woken"
    vma_lock.stamp(vma, 1)
    assert not vma_lock.start_read(vma, 1, 2)


@pytest.mark.uncompiled_too
def test_a_reference_count_excludes_readers_at_once(vma):
    vma_lock.start_read(vma, 1, 0)
    vma_lock.begin_drain(vma, WRITER, VmaLockDesign.REFCOUNT)
    assert not vma_lock.start_read(vma, 1, 1)
    assert vma_lock.end_read(vma)


@pytest.mark.uncompiled_too
def test_all_stamps_end_together_with_the_writer():
    vmas = [a_free_vma() for _ in range(3)]
    for vma in vmas:
        vma_lock.stamp(vma, 7)
    assert not any(vma_lock.start_read(vma, 7, 0) for vma in vmas)
    assert all(vma_lock.start_read(vma, 8, 0) for vma in vmas)


@pytest.mark.uncompiled_too
def test_what_cannot_be_is_refused(vma):
    with pytest.raises(AssertionError, match="nobody reads"):
        vma_lock.end_read(vma)
    with pytest.raises(AssertionError, match="held for write"):
        vma_lock.stamp(vma, 2)
    vma_lock.start_read(vma, 1, 0)
    with pytest.raises(AssertionError, match="readers have left"):
        vma_lock.stamp(vma, 1)
    vma_lock.begin_drain(vma, WRITER, VmaLockDesign.REFCOUNT)
    with pytest.raises(AssertionError, match="one writer at a time"):
        vma_lock.begin_drain(vma, WRITER, VmaLockDesign.REFCOUNT)
