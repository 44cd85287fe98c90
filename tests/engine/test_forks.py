"""fork: what it waits for, whom it keeps waiting, and what the next writes cost."""

import pytest

from faultlane_server.codes import FaultKind, ForkSkips, PageState
from faultlane_server.scenario import AnonymousMapping, ByteRange, FileMapping, Fixed, Fork, Vma
from tests.engine.small_stories import (
    CACHED,
    MS,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    end_ns,
    one,
    pages,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

HEAP = Vma("heap", 64 * PAGE, AnonymousMapping(), 0, READ_WRITE)
DATA = Vma("data", 64 * PAGE, FileMapping("data"))
WRITTEN = Vma("heap", 64 * PAGE, AnonymousMapping(), 0, READ_WRITE, mapped=(ByteRange(),))


def fork(child_ns=0):
    return Fork(Fixed(child_ns))


def test_every_vma_is_write_locked():
    vmas = [Vma(f"heap{n}", PAGE, AnonymousMapping()) for n in range(20)]

    assert Played(a_story(one("app", fork()), vmas=vmas))["vma_lock.write.acquired"] == 20


def test_it_takes_longer_the_more_vmas_and_written_pages_there_are():
    few = Played(a_story(one("app", fork()), vmas=[HEAP]))
    many_pages = Played(a_story(one("app", fork()), vmas=[WRITTEN]))
    vmas = [Vma(f"heap{n}", PAGE, AnonymousMapping()) for n in range(20)]
    many_vmas = Played(a_story(one("app", fork()), vmas=vmas))

    costs = few.world.config.cost
    hold_ns = few.operation_of("app")["hold_ns"]
    assert many_pages.operation_of("app")["hold_ns"] - hold_ns == 64 * costs.fork_page_ns
    longer_ns = many_vmas.operation_of("app")["hold_ns"] - hold_ns
    assert longer_ns >= 19 * costs.fork_vma_ns


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_it_waits_for_io_only_where_faults_hold_their_vma_lock_across_it(policy):
    story = a_story(
        one("app", after(100 * US), fork()),
        one("reader", touch(30)),
        vmas=[DATA, HEAP],
        policy=policy,
    )

    waited_ns = Played(story).operation_of("app")["wait_vma_ns"]
    assert waited_ns > READ_NS // 2 if policy == "hold" else waited_ns == 0


def test_who_faults_meanwhile_waits_for_the_whole_fork():
    """Also in a VMA that has nothing to do with the one that is drained."""
    story = a_story(
        one("app", after(100 * US), fork()),
        one("reader", touch(30)),
        one("late", after(200 * US), write(0, vma="heap")),
        vmas=[HEAP, DATA],
        policy="hold",
    )
    played = Played(story)

    late, operation = played.fault_of("late"), played.operation_of("app")
    assert late["wait_mmap_lock_ns"] > READ_NS // 2
    assert end_ns(late) > operation["start_ns"] + operation["hold_ns"]
    assert late["blocker"] == played.names["app"]


def test_vmas_stay_locked_to_the_end():
    """The first VMA is locked while the fork waits for the readers of the second."""
    story = a_story(
        one("app", after(100 * US), fork()),
        one("reader", touch(30)),
        one("late", after(200 * US), write(0, vma="heap")),
        vmas=[HEAP, DATA],
        policy="hold",
    )

    assert Played(story)["vmstat.vma_lock_abort"] == 1


def test_while_a_child_has_its_copy_a_write_copies_the_page():
    steps = (fork(1 * MS), write(3, vma="heap"), write(3, vma="heap"))
    played = Played(a_story(one("app", *steps), vmas=[WRITTEN]))

    fault = played.fault_of("app")
    assert FaultKind(fault["kind"]) is FaultKind.WP
    costs = played.world.config.cost
    assert fault["duration_ns"] >= costs.anon_page_ns + costs.copy_page_ns


def test_when_the_child_is_gone_a_write_takes_its_page_back():
    kept = Played(a_story(one("app", fork(1 * MS), write(3, vma="heap")), vmas=[WRITTEN]))
    gone = Played(
        a_story(one("app", fork(1 * MS), after(2 * MS), write(3, vma="heap")), vmas=[WRITTEN])
    )

    assert gone.fault_of("app")["duration_ns"] < kept.fault_of("app")["duration_ns"]


def test_pages_that_were_not_written_are_not_shared():
    assert (
        Played(a_story(one("app", fork(1 * MS), touch(3, vma="heap")), vmas=[WRITTEN])).faults == []
    )
    (fault,) = Played(a_story(one("app", fork(1 * MS), write(3, vma="heap")), vmas=[HEAP])).faults
    assert FaultKind(fault["kind"]) is FaultKind.ANON


def test_a_process_without_vmas_can_fork():
    assert Played(a_story(one("app", fork()), vmas=[])).ended


# What was proposed: not to write-lock some VMAs.

COPIED = Vma("copied", PAGE, FileMapping("data", map_private=True), 0, READ_WRITE)
ALL_KINDS = (HEAP, DATA, COPIED)
LOCKED = {
    ForkSkips.NOTHING: 3,
    ForkSkips.FILE_WITHOUT_ANON_VMA: 2,  # the heap, and the file that was written to
    ForkSkips.ALL_BUT_ANONYMOUS: 1,
}


@pytest.mark.parametrize("skips", list(ForkSkips))
def test_a_fork_locks_what_it_does_not_skip(skips):
    steps = (write(0, vma="copied"), fork())
    played = Played(a_story(one("app", *steps), vmas=ALL_KINDS, data=CACHED, fork_skips=skips))

    assert played["vma_lock.write.acquired"] == LOCKED[skips]


@pytest.mark.parametrize("skips", list(ForkSkips))
def test_a_fork_that_skips_files_waits_for_no_read_of_theirs(skips):
    story = a_story(
        one("app", after(100 * US), fork()),
        one("reader", touch(30)),
        vmas=[DATA, HEAP],
        policy="hold",
        fork_skips=skips,
    )

    waited_ns = Played(story).operation_of("app")["wait_vma_ns"]
    assert waited_ns > READ_NS // 2 if skips == ForkSkips.NOTHING else waited_ns == 0


@pytest.mark.parametrize("skips", list(ForkSkips))
def test_copies_of_pages_of_a_file_are_waited_for_unless_all_files_are_skipped(skips):
    private = Vma("data", 64 * PAGE, FileMapping("data", map_private=True), 0, READ_WRITE)
    story = a_story(
        one("app", write(0), after(100 * US), fork()),
        one("reader", after(50 * US), touch(60)),
        vmas=[private],
        data=[pages(PageState.CACHED, 0)],
        policy="hold",
        fork_skips=skips,
    )

    waited_ns = Played(story).operation_of("app")["wait_vma_ns"]
    is_locked = skips != ForkSkips.ALL_BUT_ANONYMOUS
    assert waited_ns > READ_NS // 2 if is_locked else waited_ns == 0


@pytest.mark.parametrize("skips", list(ForkSkips))
def test_what_is_skipped_is_shared_with_the_child_all_the_same(skips):
    steps = (write(0, vma="copied"), fork(1 * MS), write(0, vma="copied"))
    played = Played(a_story(one("app", *steps), vmas=ALL_KINDS, data=CACHED, fork_skips=skips))

    assert [FaultKind(row["kind"]) for row in played.faults] == [FaultKind.FILE_COW, FaultKind.WP]
