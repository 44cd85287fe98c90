"""Anonymous memory: the zero page, the first write, and what takes the pages away again."""

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import Access, FaultKind, FaultLock, Madvice, Protection, RetryReason
from faultlane_server.policy import POLICIES, RetryPolicy, RetryRule
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    Exponential,
    Loop,
    Madvise,
    Mmap,
    Mprotect,
    Munmap,
    Sequential,
    Sleep,
    ThreadGroup,
    Touch,
    Vma,
)
from tests.engine.small_stories import (
    PAGE,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    one,
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

WRITTEN = (ByteRange(),)


def heap(mapped=()):
    return Vma("heap", 64 * PAGE, AnonymousMapping(), 0, READ_WRITE, mapped=mapped)


def alone(*steps, mapped=(), **more):
    return Played(a_story(one("app", *steps), vmas=[heap(mapped)], **more), "app")


def kinds(played):
    return [FaultKind(row["kind"]) for row in played.faults]


@pytest.fixture(params=ARCHITECTURES)
def arch(request):
    return request.param


def generation_of(arch):
    return "6.18" if arch == "loongarch" else "6.12"


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"mmap_lock_only"}))
def test_row_9_the_first_write_takes_mmap_lock_once_to_make_an_anon_vma(policy, arch):
    played = alone(write(3, vma="heap"), policy=policy, arch=arch, generation=generation_of(arch))

    assert played.attempts() == ["V→0"]
    assert (played["vmstat.vma_lock_success"], played["vmstat.pgmajfault"]) == (1, 0)
    assert (played["perf.minor_faults"], played["mmap_lock.read.acquired"]) == (1, 1)


def beside_a_writer(policy, *steps, **more):
    """Let the first write come while mmap_lock is held for write, but not for its VMA."""
    story = a_story(
        one("writer", Mprotect("other", protection=READ_WRITE)),
        one("app", after(20 * US), *(steps or (write(3, vma="heap"),))),
        policy=policy,
        costs_ns={"mprotect": 100 * US},
        vmas=[heap(), Vma("other", 4 * PAGE, AnonymousMapping())],
        **more,
    )
    return Played(story, "app")


SPINNING = {"blind"}  # under the VMA lock, until mmap_lock can be had at once
RETRIED_ONCE = {"blind_once"}


@pytest.mark.parametrize(
    "policy", sorted(POLICIES.keys() - {"mmap_lock_only"} - SPINNING - RETRIED_ONCE)
)
def test_row_10_without_mmap_lock_at_once_it_is_retried_under_it(policy, arch):
    played = beside_a_writer(policy, arch=arch, generation=generation_of(arch))

    assert played.attempts() == ["V→RETRY", "M→0"]
    assert reasons(played.fault_of("app")) == {RetryReason.ANON_VMA}
    assert (played["vmstat.vma_lock_retry"], played["vmstat.pgmajfault"]) == (1, 0)
    assert (played["perf.minor_faults"], played["mmap_lock.read.acquired"]) == (1, 1)


def test_row_10_a_blind_policy_spins_until_it_can_be_had():
    played = beside_a_writer("blind")

    fault = played.fault_of("app")
    assert fault["vma_retries"] > 10
    assert fault["wait_mmap_lock_ns"] == 0
    assert fault["cpu_ns"] > 50 * US
    assert FaultLock(fault["lock"]) is FaultLock.VMA


def test_row_10_one_blind_retry_is_wasted():
    assert beside_a_writer("blind_once").attempts() == ["V→RETRY+VMA", "V→RETRY", "M→0"]


def test_kernels_before_6_10_do_not_lock_a_vma_that_was_never_written():
    played = alone(write(3, vma="heap"), write(4, vma="heap"), generation="6.7")

    assert [FaultLock(row["lock"]) for row in played.faults] == [FaultLock.MMAP, FaultLock.VMA]
    assert played["vmstat.vma_lock_abort"] == 1


def test_anonymous_faults_use_the_vma_lock_from_6_4_on():
    played = alone(write(3, vma="heap"), mapped=[ByteRange(0, PAGE)], generation="6.4")

    assert played.attempts() == ["V→0"]


def test_a_read_maps_the_zero_page_and_the_first_write_to_it_copies():
    played = alone(
        touch(3, vma="heap"), touch(3, vma="heap"), write(3, vma="heap"), write(3, vma="heap")
    )

    assert kinds(played) == [FaultKind.ANON, FaultKind.WP]
    assert played.faults[0]["mmap_reads"] == 0, "the zero page needs no anon_vma"
    assert played.faults[1]["mmap_reads"] == 1


def test_memory_that_was_written_before_does_not_fault():
    assert alone(touch(3, vma="heap"), write(3, vma="heap"), mapped=WRITTEN).faults == []


def test_memory_that_becomes_writable_again_needs_no_fault():
    read_only = Mprotect("heap", protection=(Protection.READ,))
    again = Mprotect("heap", protection=READ_WRITE)
    played = alone(write(3, vma="heap"), read_only, again, write(3, vma="heap"))

    assert len(played.faults) == 1


def test_a_write_without_the_right_is_refused():
    played = alone(Mprotect("heap", protection=(Protection.READ,)), write(3, vma="heap"))

    assert [bit.name for bit in result(played.faults[0])] == ["SIGSEGV"]


def test_what_a_thread_maps_it_can_touch_and_finds_fresh_each_time():
    played = alone(
        Loop(
            3,
            (
                Mmap("scratch", 4 * PAGE),
                Touch("scratch", Sequential(), Access.WRITE, 4),
                Munmap("scratch"),
            ),
        )
    )

    assert kinds(played) == [FaultKind.ANON] * 12
    assert played["mmap_lock.read.acquired"] == 3, "each new VMA makes its anon_vma once"


def test_dontneed_takes_mmap_lock_for_read_and_the_pages_away():
    played = alone(write(3, 4, vma="heap"), Madvise("heap", Madvice.DONTNEED), touch(3, vma="heap"))

    operation = played.operation_of("app")
    assert operation["hold_ns"] == 0, "not for write"
    assert kinds(played) == [FaultKind.ANON] * 3
    assert played["mmap_lock.write.acquired"] == 0


def test_dontneed_waits_for_a_writer():
    played = beside_a_writer("mainline", Madvise("heap", Madvice.DONTNEED))

    operation = played.operation_of("app")
    assert operation["wait_mmap_lock_ns"] > 50 * US
    assert operation["blocker"] == 0


def test_advice_splits_a_vma_and_taking_it_back_merges_it():
    middle = (8 * PAGE, PAGE)
    split = alone(Madvise("heap", Madvice.RANDOM, *middle))
    merged = alone(
        Madvise("heap", Madvice.RANDOM, *middle), Madvise("heap", Madvice.NORMAL, *middle)
    )

    assert split.world.mms[0].order_count == 3
    assert merged.world.mms[0].order_count == 1


def test_advice_that_is_given_already_locks_no_vma():
    played = alone(Madvise("heap", Madvice.NORMAL))

    assert played["vma_lock.write.acquired"] == 0
    assert played["mmap_lock.write.acquired"] == 1


class TestMergingMmaps:
    """The mappings of three threads lie side by side; they become one VMA, or stay apart."""

    def played(self, *steps, merge=True, **more):
        mapping = Mmap("mine", 8 * PAGE, merge)
        return Played(a_story(ThreadGroup("app", 3, (mapping, *steps)), **more))

    def test_they_become_one_vma(self):
        assert self.played().world.mms[0].order_count == 2, "data, and that of all threads"
        assert self.played(merge=False).world.mms[0].order_count == 4

    def test_a_neighbour_that_grows_is_write_locked(self):
        assert self.played()["vma_lock.write.acquired"] == 2, "for the second thread and the third"
        assert self.played(merge=False)["vma_lock.write.acquired"] == 0

    def test_who_maps_waits_for_the_faults_of_its_neighbour(self):
        """A fault is slow, for 200 us, and now and then somebody maps meanwhile."""
        waits_ns = {}
        for merge in (True, False):
            mapping = Mmap("mine", 8 * PAGE, merge)
            pause = Sleep(Exponential(300 * US))
            again = Loop(8, (mapping, write(0, vma="mine"), pause, Munmap("mine"), pause))
            story = a_story(ThreadGroup("app", 3, (again,)), costs_ns={"clear_page": 200 * US})
            waits_ns[merge] = max(row["wait_vma_ns"] for row in Played(story).operations)

        assert waits_ns[True] > 100 * US
        assert waits_ns[False] == 0

    def test_unmapping_them_leaves_nothing(self):
        played = self.played(write(0, 1, vma="mine"), Munmap("mine"))

        assert played.world.mms[0].order_count == 1
        assert played.ended


def test_a_rule_for_anonymous_memory_is_its_own():
    """Retried under the VMA lock for its own exit, while files are treated as mainline does."""
    rule = RetryRule(vma_lock_on=(RetryReason.ANON_VMA,))
    played = beside_a_writer(RetryPolicy(anonymous=rule))

    assert played.fault_of("app")["vma_retries"] > 10
