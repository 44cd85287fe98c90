"""Every place that ends an attempt under the VMA lock in VM_FAULT_RETRY, by the rows of 6.4.

For each of them: when it does, whether it waits, whether the fault lock is let go for that, and
what a policy makes of it.
"""

import pytest

from faultlane_server.codes import Advice, FileKind, RetryReason, StopReason
from faultlane_server.scenario import (
    AnonymousMapping,
    Device,
    FileMapping,
    Fixed,
    Loop,
    Mprotect,
    PunchHole,
    SyncFileRange,
    ThreadGroup,
    UserfaultfdClose,
    UserfaultfdCopy,
    UserfaultfdModes,
    UserfaultfdWriteprotect,
    Vma,
)
from tests.engine.hugetlb_stories import huge, play_huge, pool_of
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Played,
    after,
    one,
    reasons,
    touch,
    write,
)
from tests.engine.special_stories import WRITTEN, alone, anonymous, play

pytestmark = pytest.mark.uncompiled_too

POLICIES = ("mainline", "rfc", "blind", "blind_once", "retry_hard", "hold")
DATA = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)
TO_MMAP_LOCK = ["V→RETRY", "M→0"]
TO_VMA_LOCK = ["V→RETRY+VMA", "V→0"]
WASTED_ONCE = ["V→RETRY+VMA", "V→RETRY", "M→0"]


@pytest.fixture(params=["x86", "s390", "loongarch"])
def arch(request):
    return request.param


@pytest.fixture(params=POLICIES)
def policy(request):
    return request.param


def held_ns(played: Played, lock: str) -> int:
    """Return for how long a lock was held for read, by all together."""
    return sum(
        row.hold_total_ns for row in played.summary.locks if (row.lock, row.mode) == (lock, "read")
    )


def waited_ns(row):
    """Return how long a fault slept, for whatever it was."""
    causes = ("device", "folio", "mmap_lock", "userfaultfd", "falloc", "writeback")
    return sum(row[f"wait_{cause}_ns"] for cause in causes)


def test_row_1_a_wait_after_readahead(policy, arch):
    played = alone(touch(5), vmas=[DATA], policy=policy, arch=arch)

    again = ["V→MAJOR+RETRY+VMA", "V(TRIED)→NOPAGE"]
    expected = dict.fromkeys(POLICIES, again) | {
        "mainline": ["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"],
        "hold": ["V→MAJOR+LOCKED"],
    }
    assert played.attempts() == expected[policy]
    assert played.fault_of("app")["wait_device_ns"] > READ_NS / 2
    assert (held_ns(played, "vma_lock") > READ_NS / 2) == (policy == "hold")


def test_row_2_a_synchronous_read_of_one_page(policy, arch):
    random = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE, Advice.RANDOM)
    played = alone(touch(5), vmas=[random], policy=policy, arch=arch)

    again = ["V→MAJOR+RETRY+VMA", "V(TRIED)→NOPAGE"]
    to_mmap_lock = ["V→MAJOR+RETRY", "M(TRIED)→NOPAGE"]
    expected = dict.fromkeys(POLICIES, again) | {
        "mainline": to_mmap_lock,
        "rfc": to_mmap_lock,
        "hold": ["V→MAJOR+LOCKED"],
    }
    assert played.attempts() == expected[policy]
    assert played.fault_of("app")["wait_device_ns"] > READ_NS / 2
    assert (held_ns(played, "vma_lock") > READ_NS / 2) == (policy == "hold")


def test_row_5_a_page_that_a_device_has_for_itself_and_that_is_locked(policy, arch):
    """Patch 2 of the RFC does not cover it."""
    played = play(
        one("first", touch(3, vma="heap")),
        one("app", touch(3, vma="heap")),
        vmas=[anonymous(device_exclusive=WRITTEN)],
        policy=policy,
        arch=arch,
        costs_ns={"device_exclusive": 100 * US},
    )

    expected = dict.fromkeys(POLICIES, TO_VMA_LOCK) | {
        "mainline": TO_MMAP_LOCK,
        "rfc": TO_MMAP_LOCK,
        "hold": ["V→0"],
    }
    fault = played.fault_of("app")
    assert played.attempts() == expected[policy]
    assert fault["wait_folio_ns"] > 50 * US
    assert (held_ns(played, "vma_lock") > 150 * US) == (policy == "hold"), "that of both"
    assert reasons(fault) == (set() if policy == "hold" else {RetryReason.DEVICE_EXCLUSIVE})


def in_the_memory_of_a_device(policy, **more):
    heap = anonymous(device_private=WRITTEN)
    return alone(touch(3, vma="heap"), vmas=[heap], policy=policy, attempts_max=100, **more)


def test_row_6_a_page_in_the_memory_of_a_device(policy, arch):
    played = in_the_memory_of_a_device(policy, arch=arch)

    expected = dict.fromkeys(POLICIES, TO_MMAP_LOCK) | {"blind_once": WASTED_ONCE}
    if policy == "blind":
        expected["blind"] = ["V→RETRY+VMA"] * 100
    assert played.attempts() == expected[policy]
    assert waited_ns(played.fault_of("app")) == 0
    assert reasons(played.fault_of("app")) == {RetryReason.DEVICE_PRIVATE}


def test_row_6_no_blind_retry_ever_brings_the_page_back():
    assert in_the_memory_of_a_device("blind").stop is StopReason.NO_PROGRESS


def without_map_pages(policy, **more):
    return alone(
        touch(5), vmas=[DATA], kind=FileKind.SPECIAL, policy=policy, attempts_max=100, **more
    )


def test_row_7_a_mapping_without_map_pages(policy, arch):
    played = without_map_pages(policy, arch=arch)

    to_mmap_lock = ["V→RETRY", "M→LOCKED"]
    expected = dict.fromkeys(POLICIES, to_mmap_lock) | {
        "blind": ["V→RETRY+VMA"] * 100,
        "blind_once": ["V→RETRY+VMA", "V→RETRY", "M→LOCKED"],
    }
    assert played.attempts() == expected[policy]
    assert waited_ns(played.fault_of("app")) == 0
    assert reasons(played.fault_of("app")) == {RetryReason.NO_MAP_PAGES}
    assert (played.stop is StopReason.NO_PROGRESS) == (policy == "blind")


def test_row_8_a_first_write_while_mmap_lock_is_not_to_be_had(policy, arch):
    played = play(
        one("writer", Mprotect("other", protection=READ_WRITE)),
        one("app", after(20 * US), write(3, vma="heap")),
        vmas=[anonymous(), Vma("other", 4 * PAGE, AnonymousMapping())],
        policy=policy,
        arch=arch,
        costs_ns={"mprotect": 100 * US},
    )

    assert_as_in_row_8(played, policy)


def assert_as_in_row_8(played, policy):
    """Assert that a fault has spun for mmap_lock, or waited for it, and for nothing else."""
    fault = played.fault_of("app")
    if policy == "blind":
        assert set(played.attempts()) == set(TO_VMA_LOCK)
        assert (waited_ns(fault), fault["vma_retries"] > 50) == (0, True), "it only spins"
    else:
        expected = WASTED_ONCE if policy == "blind_once" else TO_MMAP_LOCK
        assert played.attempts() == expected
        assert waited_ns(fault) == fault["wait_mmap_lock_ns"] > 50 * US
    assert reasons(fault) == {RetryReason.ANON_VMA}


TOLD_OF_ALL = UserfaultfdModes(missing=True, write_protect=True)
COPY = ThreadGroup("handler", 1, (Loop(0, (UserfaultfdCopy("heap"),)),), daemon=True)
ALLOW = ThreadGroup(
    "handler", 1, (Loop(0, (UserfaultfdWriteprotect("heap", resolve=True),)),), daemon=True
)


@pytest.mark.parametrize("access", [touch, write])
def test_row_9_a_missing_page_that_a_userfaultfd_brings(policy, arch, access):
    played = play(
        one("app", access(3, vma="heap")),
        COPY,
        vmas=[anonymous(userfaultfd=TOLD_OF_ALL)],
        policy=policy,
        arch=arch,
        costs_ns={"userfaultfd_read": 100 * US},
    )

    assert_resolved(played, policy)


def test_row_9_a_write_that_a_userfaultfd_allows(policy, arch):
    played = play(
        one("app", UserfaultfdWriteprotect("heap"), write(3, vma="heap")),
        ALLOW,
        vmas=[anonymous(mapped=WRITTEN, userfaultfd=TOLD_OF_ALL)],
        policy=policy,
        arch=arch,
        costs_ns={"userfaultfd_writeprotect": 100 * US},
    )

    assert_resolved(played, policy)


def assert_resolved(played, policy):
    """Assert that a fault has waited for its userfaultfd without a lock, and was retried once."""
    expected = dict.fromkeys(POLICIES, TO_VMA_LOCK) | dict.fromkeys(
        ("mainline", "rfc", "hold"), TO_MMAP_LOCK
    )
    fault = played.fault_of("app")
    assert played.attempts() == expected[policy]
    assert waited_ns(fault) == fault["wait_userfaultfd_ns"] > 100 * US
    assert held_ns(played, "vma_lock") < 50 * US, "whatever the policy, it is let go"
    assert reasons(fault) == {RetryReason.USERFAULTFD}
    assert played["perf.minor_faults"] == 1


def while_a_userfaultfd_is_closed(policy, arch):
    """Let a fault come while who closes the userfaultfd waits for mmap_lock."""
    return play(
        one("writer", Mprotect("other", protection=READ_WRITE)),
        one("closer", after(20 * US), UserfaultfdClose()),
        one("app", after(50 * US), touch(3, vma="heap")),
        vmas=[anonymous(userfaultfd=TOLD_OF_ALL), Vma("other", 4 * PAGE, AnonymousMapping())],
        policy=policy,
        arch=arch,
        costs_ns={"mprotect": 100 * US, "userfaultfd_close": 10 * US},
    )


def test_row_10_a_userfaultfd_that_is_being_closed(policy, arch):
    played = while_a_userfaultfd_is_closed(policy, arch)

    fault = played.fault_of("app")
    if policy in ("blind", "retry_hard"):
        assert set(played.attempts()) == {"V→RETRY+VMA", "M→0"}
        assert 10 < fault["vma_retries"] < 1000, "until who closes it has write-locked the VMA"
        assert played["vmstat.vma_lock_abort"] == 1
    else:
        expected = WASTED_ONCE if policy == "blind_once" else TO_MMAP_LOCK
        assert played.attempts() == expected
    assert fault["wait_userfaultfd_ns"] == 0
    assert reasons(fault) == {RetryReason.USERFAULTFD}


def test_row_11_a_page_of_tmpfs_in_a_hole_that_is_being_punched(policy, arch):
    played = play(
        one("puncher", PunchHole("data", 0, 16 * PAGE)),
        one("app", after(20 * US), touch(5)),
        kind=FileKind.TMPFS,
        data=CACHED,
        fault_around=False,
        vmas=[DATA],
        policy=policy,
        arch=arch,
        costs_ns={"punch_hole": 100 * US},
    )

    to_mmap_lock = ["V→RETRY", "M→LOCKED"]
    to_vma_lock = ["V→RETRY+VMA", "V→LOCKED"]
    expected = dict.fromkeys(POLICIES, to_vma_lock) | {
        "mainline": to_mmap_lock,
        "rfc": to_mmap_lock,
        "hold": ["V→NOPAGE", "V→LOCKED"],
    }
    fault = played.faults_of("app")[0]
    assert played.attempts() == expected[policy]
    assert waited_ns(fault) == fault["wait_falloc_ns"] > 50 * US
    assert (held_ns(played, "vma_lock") > 50 * US) == (policy == "hold")
    assert reasons(fault) == (set() if policy == "hold" else {RetryReason.FALLOC})


@pytest.mark.parametrize("step", [touch, write])
def test_row_12_a_first_fault_on_private_huge_pages_while_mmap_lock_is_not_to_be_had(
    policy, arch, step
):
    """A read needs an anon_vma as well: there is no zero page (hugetlb_no_page)."""
    played = while_mmap_lock_is_held(step(1, vma="huge"), huge(), policy, arch)

    assert_as_in_row_8(played, policy)
    assert pool_of(played) == (7, 3)


def test_row_12_a_first_copy_of_a_huge_page_while_mmap_lock_is_not_to_be_had(policy, arch):
    """The page to copy to is taken first, and given back each time (hugetlb_wp)."""
    vma = huge(file="huge", map_private=True, mapped=WRITTEN)
    played = while_mmap_lock_is_held(write(1, vma="huge"), vma, policy, arch, cached=4)

    assert_as_in_row_8(played, policy)
    assert pool_of(played) == (3, 3)
    assert played["hugetlb.pages_allocated"] == played.fault_of("app")["attempts"]


def while_mmap_lock_is_held(step, vma, policy, arch, **more):
    """Let a fault on huge pages come while an mprotect has mmap_lock for write."""
    return play_huge(
        one("writer", Mprotect("other", protection=READ_WRITE)),
        one("app", after(20 * US), step),
        vmas=[vma, Vma("other", 4 * PAGE, AnonymousMapping())],
        policy=policy,
        arch=arch,
        costs_ns={"mprotect": 100 * US},
        **more,
    )


def test_row_12_shared_huge_pages_need_no_anon_vma(policy, arch):
    played = while_mmap_lock_is_held(write(1, vma="huge"), huge(file="huge"), policy, arch)

    assert played.attempts() == ["V→0"]
    assert waited_ns(played.fault_of("app")) == 0


def test_row_13_what_page_mkwrite_waits_for_is_not_seen_as_a_retry(policy, arch):
    stable = Device("disk", Fixed(READ_NS), channels=64, stable_writes=True)
    mapped = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)
    played = play(
        one("flusher", SyncFileRange("data")),
        one("app", after(100 * US), write(5)),
        data=DIRTY,
        vmas=[mapped],
        policy=policy,
        arch=arch,
        disk=stable,
    )

    fault = played.fault_of("app")
    assert played.attempts() == (["V→0"] if policy == "hold" else ["V→COMPLETED"])
    assert fault["wait_writeback_ns"] > READ_NS / 2
    assert held_ns(played, "vma_lock") > READ_NS / 2, "whatever the policy, it is held"


@pytest.mark.parametrize("chosen", [name for name in POLICIES if name != "blind"])
def test_row_14_the_fault_method_of_a_driver_is_never_called_under_the_vma_lock(chosen, arch):
    """What it returns is therefore never seen there either."""
    assert without_map_pages(chosen, arch=arch).attempts()[-1] == "M→LOCKED"
