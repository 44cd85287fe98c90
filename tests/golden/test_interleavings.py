"""The interleavings of mmap_lock, one by one, as kernel/locking/rwsem.c has them.

Each story was walked through the kernel's source by hand, and every state in it stands
as (R, flags, [queue]). The numbers Q1 to Q10 are those of the kernel model.
"""

import pytest

from faultlane_server.engine.locks import rwsem, vma_lock
from tests.engine.lock_stories import RwsemStory, a_free_vma

pytestmark = pytest.mark.uncompiled_too

A, B, C, D, H, R1, R2, S, S1, S2, S3, W1, W2 = range(13)
READERS = list(range(100, 400))  # R1 to R300 of Q8 and Q9


def test_q1_a_reader_queues_behind_a_queued_writer():
    lock = RwsemStory()
    assert lock.down_read(A)
    assert lock.down_read(B)
    assert not lock.queue_write(W1)
    assert lock.state == (2, "WAIT", [W1])

    assert not lock.down_read(C)
    assert lock.woken == []
    assert lock.state == (2, "WAIT", [W1, C])

    assert lock.up_read() == []
    assert lock.up_read() == [W1]
    assert lock.state == (0, "WAIT", [W1, C])
    assert lock.retry(W1)
    assert lock.state == (0, "W WAIT", [C])

    assert lock.up_write() == [C]
    assert lock.state == (1, "", [])
    assert lock.owner == (C, "READER_OWNED")


def test_q2_one_reader_steals_a_free_lock_and_the_next_one_queues():
    lock = RwsemStory()
    lock.down_read(A)
    lock.queue_write(W1)
    assert lock.up_read() == [W1]
    assert lock.state == (0, "WAIT", [W1])
    assert lock.owner == (A, "READER_OWNED"), "stale"

    assert lock.down_read(C)
    assert lock.woken == []
    assert not lock.down_read(D)
    assert lock.woken == []
    assert lock.state == (1, "WAIT", [W1, D])

    assert not lock.retry(W1)
    assert not lock.handoff_set(W1)
    assert lock.state == (1, "WAIT", [W1, D])

    assert lock.up_read() == [W1]
    assert lock.retry(W1)
    assert lock.up_write() == [D]
    assert lock.state == (1, "", [])


def test_q2_a_reader_that_steals_from_readers_lets_them_in():
    lock = RwsemStory()
    lock.try_write(H)
    lock.down_read(R1)
    lock.down_read(R2)
    assert lock.up_write_without_wake()
    assert lock.state == (0, "WAIT", [R1, R2])

    assert lock.down_read(C)

    assert lock.woken == [R1, R2]
    assert lock.state == (3, "", [])
    assert lock.owner == (C, "READER_OWNED")


def four_readers_and_a_spinner():
    lock = RwsemStory()
    for reader in (A, B, R1, R2):
        assert lock.down_read(reader)
    assert lock.may_spin(False), "readers are spun on, wherever they are"
    lock.spin(W1)
    assert rwsem.reader_spin_ns(lock.lock.readers) == 12_000
    lock.now_ns = 5_000
    assert lock.down_read(C), "a spinner sets no WAIT"
    assert lock.state == (5, "", [])
    return lock


def test_q3a_a_writer_that_spins_on_readers_takes_the_lock_from_the_last_one():
    lock = four_readers_and_a_spinner()
    for _ in range(5):
        assert not lock.steal(W1)
        assert lock.up_read() == []

    assert lock.steal(W1)

    assert lock.state == (0, "W", [])
    assert lock.owner == (W1, "")


def test_q3b_a_writer_that_spun_long_enough_queues_and_bars_other_spinners():
    lock = four_readers_and_a_spinner()
    lock.now_ns = 12_000
    lock.lock.nonspinnable = 1
    lock.stop_spinning(W1)
    assert not lock.queue_write(W1)
    assert lock.state == (5, "WAIT NONSPINNABLE", [W1])

    assert not lock.down_read(D)
    assert not lock.may_spin(True)
    assert not lock.queue_write(W2)
    assert lock.state == (5, "WAIT NONSPINNABLE", [W1, D, W2])

    assert [lock.up_read() for _ in range(4)] == [[], [], [], []]
    assert lock.up_read() == [W1]
    assert lock.state == (0, "WAIT", [W1, D, W2])


def test_q4_spinners_steal_until_the_head_has_waited_too_long():
    lock = RwsemStory()
    lock.try_write(H)
    lock.queue_write(W1)
    for spinner in (S1, S2, S3):
        assert lock.may_spin(True)
        lock.spin(spinner)

    assert lock.up_write() == [W1]
    assert lock.steal(S1), "before W1 runs"
    lock.stop_spinning(S1)
    assert not lock.retry(W1)
    assert lock.state == (0, "W WAIT", [W1])

    lock.wait_longer_than_the_timeout()
    assert lock.state == (0, "W WAIT", [W1]), "no timer"
    assert lock.up_write() == [W1]
    assert lock.steal(S2)
    lock.stop_spinning(S2)
    assert not lock.retry(W1)
    assert lock.handoff_set(W1)
    assert lock.state == (0, "W WAIT HO", [W1])

    assert lock.up_write_without_wake()
    assert lock.owner == (None, "")
    assert not lock.steal(S3)
    assert lock.retry(W1)
    assert lock.state == (0, "W", [])


def test_q5_after_a_handoff_was_asked_for_readers_do_not_pass_either():
    lock = RwsemStory()
    lock.down_read(A)
    lock.queue_write(W1)
    lock.wait_longer_than_the_timeout()
    lock.up_read()
    assert lock.down_read(B), "a steal within the wake-up latency"
    assert lock.state == (1, "WAIT", [W1])

    assert not lock.retry(W1)
    assert lock.handoff_set(W1)
    assert not lock.down_read(C)
    assert lock.state == (1, "WAIT HO", [W1, C])

    assert lock.up_read() == [W1]
    assert not lock.down_read(D), "alone, and yet"
    assert lock.woken == [W1]
    assert lock.state == (0, "WAIT HO", [W1, C, D])
    assert lock.retry(W1)
    assert lock.state == (0, "W WAIT", [C, D])


def test_q6_a_lock_stolen_from_readers_is_left_to_the_thief():
    lock = RwsemStory()
    lock.try_write(H)
    lock.down_read(R1)
    lock.spin(S)
    assert lock.up_write_without_wake()
    assert lock.steal(S)

    assert lock.wake() == []
    assert lock.state == (0, "W WAIT", [R1])
    assert lock.up_write() == [R1]
    assert lock.state == (1, "", [])


def test_q6_readers_that_waited_too_long_are_robbed_once_more_and_then_no_more():
    lock = RwsemStory()
    lock.try_write(H)
    lock.down_read(R1)
    lock.queue_write(W2)
    lock.down_read(R2)
    lock.wait_longer_than_the_timeout()
    assert lock.up_write_without_wake()
    assert lock.steal(S)

    assert lock.wake() == []
    assert lock.handoff_set(R1)
    assert lock.state == (0, "W WAIT HO", [R1, W2, R2])

    assert lock.up_write_without_wake()
    assert not lock.steal(S1)
    assert not lock.retry(W2)
    assert lock.wake() == [R1, R2]
    assert lock.state == (2, "WAIT", [W2])


def test_q7a_a_downgrade_wakes_nobody_if_a_writer_is_at_the_head():
    lock = RwsemStory()
    lock.try_write(H)
    lock.queue_write(W1)
    lock.down_read(R1)

    assert lock.downgrade(H) == []
    assert lock.state == (1, "WAIT", [W1, R1])
    assert lock.owner == (H, "READER_OWNED")
    assert not lock.down_read(C)
    assert lock.woken == []
    assert lock.up_read() == [W1]


def test_q7b_a_downgrade_lets_in_all_readers_if_a_reader_is_at_the_head():
    lock = RwsemStory()
    lock.try_write(H)
    lock.down_read(R1)
    lock.queue_write(W1)
    lock.down_read(R2)

    assert lock.downgrade(H) == [R1, R2]
    assert lock.state == (3, "WAIT", [W1])
    assert not lock.down_read(C)
    assert lock.state == (3, "WAIT", [W1, C])
    assert [lock.up_read() for _ in range(3)] == [[], [], [W1]]


def test_q7_the_vma_lock_works_from_the_downgrade_on():
    vma = a_free_vma()
    seq_written, seq_downgraded = 1, 2
    vma_lock.stamp(vma, seq_written)
    assert not vma_lock.start_read(vma, seq_written, C)

    assert vma_lock.start_read(vma, seq_downgraded, C)


def three_hundred_readers(*before):
    """H writes, 300 readers queue; `before` is (place, writer) of writers among them."""
    lock = RwsemStory(threads=400)
    lock.try_write(H)
    for place, reader in enumerate(READERS):
        for writer_place, writer in before:
            if writer_place == place:
                assert not lock.queue_write(writer)
        assert not lock.down_read(reader)
    return lock


def test_q8_a_release_lets_in_256_readers_and_nobody_goes_on_by_itself():
    lock = three_hundred_readers()
    assert lock.up_write() == READERS[:256]
    assert lock.state == (256, "WAIT", READERS[256:])
    for _ in range(255):
        assert lock.up_read() == []

    assert lock.up_read() == READERS[256:]
    assert lock.state == (44, "", [])


def test_q8_a_new_reader_lets_in_the_rest_and_itself():
    lock = three_hundred_readers()
    lock.up_write()

    assert lock.down_read(C)

    assert lock.woken == READERS[256:]
    assert lock.state == (301, "", [])


def test_q8_a_new_writer_lets_in_the_rest_and_waits_for_them():
    lock = three_hundred_readers()
    lock.up_write()

    assert not lock.queue_write(W1)

    assert lock.woken == READERS[256:]
    assert lock.state == (300, "WAIT", [W1])


def test_q9_a_batch_goes_past_a_writer_which_then_holds_back_the_rest():
    lock = three_hundred_readers((10, W1))
    assert lock.up_write() == READERS[:256]
    assert lock.state == (256, "WAIT", [W1, *READERS[256:]])

    assert not lock.down_read(C)
    assert lock.woken == []
    for _ in range(255):
        assert lock.up_read() == []
    assert lock.up_read() == [W1]
    assert lock.retry(W1)

    assert lock.up_write() == [*READERS[256:], C]
    assert lock.state == (45, "", [])


@pytest.mark.parametrize("handoff", [False, True])
def test_q10_readers_behind_a_killed_head_join_those_who_read(handoff):
    lock = RwsemStory()
    lock.down_read(A)
    lock.queue_write(W1)
    lock.down_read(R1)
    lock.down_read(R2)
    if handoff:
        lock.wait_longer_than_the_timeout()
        assert not lock.retry(W1)
        assert lock.state == (1, "WAIT HO", [W1, R1, R2])

    assert lock.kill(W1) == [R1, R2]
    assert lock.state == (3, "", [])
