"""Huge pages of hugetlb: the pool and its reservations, the fault mutex, copies after a fork."""

from dataclasses import replace

import pytest

from faultlane_server.codes import (
    Access,
    FaultKind,
    FaultLock,
    Madvice,
    Protection,
    RetryReason,
    StopReason,
    VmFault,
)
from faultlane_server.scenario import (
    AnonymousMapping,
    Barrier,
    Fixed,
    Fork,
    HugePages,
    HugetlbMapping,
    Loop,
    Madvise,
    Mmap,
    Mprotect,
    Munmap,
    ReadSmaps,
    Sequential,
    ThreadGroup,
    Touch,
    Vma,
    check,
)
from tests.engine.hugetlb_stories import (
    CLEAR_NS,
    COPY_NS,
    HUGE,
    SMALL_PAGES,
    WRITTEN,
    a_huge_story,
    huge,
    play_huge,
    pool_of,
)
from tests.engine.recount import assert_recounted
from tests.engine.small_stories import (
    MS,
    PAGE,
    READ_WRITE,
    US,
    Memory,
    Played,
    after,
    end_ns,
    one,
    reasons,
    result,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too


def kinds(played: Played) -> list[FaultKind]:
    return [FaultKind(row["kind"]) for row in played.faults]


def all_of(*steps, **more):
    """Play a story of one thread, and count everything again."""
    played = play_huge(one("app", *steps), **more)
    assert_recounted(played.world)
    assert played.ended
    return played


# What a fault does.


def test_a_huge_page_is_zeroed_with_the_vma_lock_held():
    played = play_huge(one("app", write(0, vma="huge")), vmas=[huge()])

    fault = played.fault_of("app")
    assert FaultLock(fault["lock"]) is FaultLock.VMA
    assert CLEAR_NS < fault["cpu_ns"] < CLEAR_NS + 3 * US
    (held,) = [
        row.hold_total_ns
        for row in played.summary.locks
        if (row.lock, row.mode) == ("vma_lock", "read")
    ]
    assert held > CLEAR_NS


def test_a_read_gets_a_page_of_its_own_and_the_first_write_to_it_needs_no_other():
    played = all_of(touch(0, vma="huge"), write(0, vma="huge"), vmas=[huge()])

    assert kinds(played) == [FaultKind.HUGETLB, FaultKind.HUGETLB_WP]
    assert played.faults[0]["cpu_ns"] > CLEAR_NS, "there is no zero page of that size"
    assert played.faults[1]["cpu_ns"] < 2 * US
    assert pool_of(played) == (7, 3)


def test_a_read_of_a_shared_page_lets_it_be_written_to():
    played = all_of(touch(0, vma="huge"), write(0, vma="huge"), vmas=[huge(file="huge")])

    assert kinds(played) == [FaultKind.HUGETLB]


def test_an_address_is_that_of_the_huge_page():
    first = huge()
    second = huge("more", pages=2)
    steps = [write(0, 3, vma="huge"), write(0, 1, vma="more")]
    played = play_huge(one("app", *steps), vmas=[first, second])

    at = [row["address"] for row in played.faults]
    assert [address % HUGE for address in at] == [0] * 4
    assert (at[1] - at[0], at[3] - at[2]) == (3 * HUGE, HUGE)
    assert at[2] >= at[0] + 4 * HUGE, "VMAs keep clear of each other"


def test_an_operation_tells_the_address_of_its_range_as_well():
    played = all_of(write(2, vma="huge"), Munmap("huge", 2 * HUGE, HUGE), vmas=[huge()])

    operation = played.operation_of("app")
    assert operation["address"] == played.fault_of("app")["address"]
    assert operation["pages"] == 1


def test_mprotect_leaves_the_next_write_to_private_huge_pages_to_a_fault():
    """hugetlb_change_protection never makes an entry writable that is private."""
    steps = (
        write(0, vma="huge"),
        Mprotect("huge", protection=(Protection.READ,)),
        Mprotect("huge", protection=READ_WRITE),
        write(0, vma="huge"),
    )

    assert len(all_of(*steps, vmas=[huge()]).faults) == 2
    assert len(all_of(*steps, vmas=[huge(file="huge")]).faults) == 1


# Kernels.


@pytest.mark.parametrize(
    ("generation", "expected"),
    [("6.7", ["V→RETRY", "M→0"]), ("6.12", ["V→0"]), ("6.18", ["V→0"])],
)
def test_kernels_before_6_9_go_to_mmap_lock_at_once(generation, expected):
    played = all_of(touch(0, vma="huge"), vmas=[huge(mapped=())], generation=generation)

    assert played.attempts() == expected
    if len(expected) > 1:
        assert reasons(played.fault_of("app")) == {RetryReason.UNSUPPORTED}


def test_kernels_without_the_vma_lock_for_files_do_not_try_it():
    played = all_of(touch(0, vma="huge"), vmas=[huge()], generation="6.4")

    assert played.attempts() == ["M→0"]
    assert played["vmstat.vma_lock_abort"] == 1


# The fault mutex.


def two_at_once(first, second, **more):
    """Let a fault come while another one is under way."""
    story = [one("app", first), one("other", after(20 * US), second)]
    return play_huge(*story, **more)


def test_who_faults_on_the_same_huge_page_waits_for_the_fault_mutex():
    played = two_at_once(write(0, vma="huge"), write(0, vma="huge"), vmas=[huge()])

    first, second = played.fault_of("app"), played.fault_of("other")
    assert second["wait_fault_mutex_ns"] > CLEAR_NS / 2
    assert second["blocker"] == first["thread"]
    assert second["cpu_ns"] < 5 * US, "it finds the page mapped"
    assert played["hugetlb.pages_allocated"] == 1
    assert FaultLock(second["lock"]) is FaultLock.VMA


def test_a_process_that_shares_the_page_waits_for_the_same_mutex():
    played = play_huge(
        one("app", write(0, vma="huge")),
        vmas=[huge(file="huge")],
        elsewhere=[one("other", after(20 * US), write(0, vma="huge"))],
    )

    assert played.fault_of("other")["wait_fault_mutex_ns"] > CLEAR_NS / 2
    assert played["hugetlb.pages_allocated"] == 1


def test_faults_on_other_pages_go_on_beside_it():
    played = two_at_once(write(0, vma="huge"), write(1, vma="huge"), vmas=[huge()])

    waits_ns = [row["wait_fault_mutex_ns"] for row in played.faults]
    assert waits_ns == [0, 0]


def test_pages_of_one_hash_wait_for_each_other():
    """With two CPUs there are 16 mutexes, so that some of 63 pages have that of the first one."""
    others = range(1, 64)
    played = play_huge(
        one("app", Barrier("go"), write(0, vma="huge")),
        one("other", touch(*others, vma="huge"), Barrier("go"), write(*others, vma="huge")),
        vmas=[huge(pages=64)],
        pool=64,
        costs_ns={"clear_page": 10 * US},
        horizon_ns=10**10,
    )

    waits = [row for row in played.faults_of("other") if row["wait_fault_mutex_ns"] > 0]
    assert int(played.world.config.fault_mutexes) == 16
    assert waits[0]["wait_fault_mutex_ns"] > MS
    assert waits[0]["blocker"] == played.fault_of("app")["thread"]


def test_who_waits_for_a_mutex_keeps_a_writer_waiting_that_wants_its_vma():
    """The VMA lock is held all the time, so mprotect waits until both are done."""
    played = play_huge(
        one("app", write(0, vma="huge")),
        one("other", after(20 * US), write(0, vma="huge")),
        one("writer", after(30 * US), Mprotect("huge", protection=(Protection.READ,))),
        vmas=[huge()],
    )

    assert played.operation_of("writer")["wait_vma_ns"] > CLEAR_NS / 2
    ends_ns = [end_ns(played.fault_of(name)) for name in ("app", "other")]
    assert end_ns(played.operation_of("writer")) > max(ends_ns)


# The pool.


def test_a_private_mapping_has_reserved_all_of_its_pages():
    played = all_of(write(0, vma="huge"), vmas=[huge(pages=4)], pool=10)

    assert pool_of(played) == (9, 3)


def test_nobody_gets_what_others_have_reserved():
    """Two pages, both reserved: a mapping that has none gets SIGBUS, and the others theirs."""
    vmas = [huge("mine", 2), huge("loose", 2, no_reserve=True)]
    steps = (write(0, vma="loose"), write(0, 1, vma="mine"), write(1, vma="loose"))
    played = all_of(*steps, vmas=vmas, pool=2)

    results = [result(row) for row in played.faults]
    assert results == [{VmFault.SIGBUS}, set(), set(), {VmFault.SIGBUS}]
    assert (played["hugetlb.sigbus"], played["faults.sigbus"]) == (2, 2)
    assert played["touches.count"] == 4, "a handler skips what ends in SIGBUS"


def test_what_is_reserved_for_a_file_stays_when_its_mapping_goes():
    steps = (write(0, vma="huge"), Munmap("huge"))
    shared = all_of(*steps, vmas=[huge(file="huge")])
    private = all_of(*steps, vmas=[huge()])

    assert pool_of(shared) == (7, 3)
    assert pool_of(private) == (8, 0)


def test_mappings_of_one_file_share_its_reservations():
    vmas = [huge("one", file="huge"), huge("two", file="huge", offset_bytes=2 * HUGE)]
    played = all_of(write(3, vma="one"), touch(1, vma="two"), vmas=vmas, pool=6)

    assert pool_of(played) == (5, 5)
    assert played["hugetlb.pages_allocated"] == 1, "both have the page that the file has"


def test_a_private_mapping_maps_what_the_file_has_and_copies_it_at_the_first_write():
    vmas = [huge(file="huge", map_private=True)]
    played = all_of(touch(0, vma="huge"), write(0, vma="huge"), vmas=vmas, cached=1)

    assert kinds(played) == [FaultKind.HUGETLB, FaultKind.HUGETLB_WP]
    assert played.faults[0]["cpu_ns"] < 2 * US
    assert COPY_NS < played.faults[1]["cpu_ns"] < COPY_NS + 3 * US
    assert pool_of(played) == (8 - 1 - 1, 3)


def test_a_first_write_to_it_maps_the_copy_at_once():
    vmas = [huge(file="huge", map_private=True)]
    played = all_of(write(0, vma="huge"), vmas=vmas, cached=1)

    assert kinds(played) == [FaultKind.HUGETLB]
    assert played.fault_of("app")["cpu_ns"] > COPY_NS


def test_mmap_reserves_or_fails():
    """Eight pages: four are mapped, so five more cannot be reserved, and four can."""
    few = Mmap("few", 4 * HUGE, hugetlb=HugetlbMapping())
    many = Mmap("many", 5 * HUGE, hugetlb=HugetlbMapping())
    played = all_of(many, few, write(0, vma="many"), write(3, vma="few"), vmas=[huge()])

    assert played["hugetlb.mmaps_refused"] == 1
    assert [result(row) for row in played.faults] == [{VmFault.SIGSEGV}, set()]
    assert pool_of(played) == (7, 7)


def test_munmap_of_an_mmap_gives_everything_back():
    area = Mmap("area", 3 * HUGE, hugetlb=HugetlbMapping())
    steps = (area, write(0, 1, vma="area"), Munmap("area"))
    played = all_of(Loop(5, steps), vmas=[huge()])

    assert pool_of(played) == (8, 4)
    assert played["hugetlb.pages_allocated"] == 10


def test_threads_map_huge_pages_of_their_own():
    area = Mmap("area", 2 * HUGE, hugetlb=HugetlbMapping())
    crowd = ThreadGroup("app", 3, (area, write(0, 1, vma="area"), after(MS)))
    played = play_huge(crowd, vmas=[huge(pages=2)])

    assert_recounted(played.world)
    addresses = {row["address"] for row in played.faults}
    assert len(addresses) == 6
    assert all(address % HUGE == 0 for address in addresses)
    assert played["hugetlb.pages_allocated"] == 6


def test_a_mapping_of_a_file_without_reservations_can_find_the_pool_empty():
    area = Mmap("area", 2 * HUGE, hugetlb=HugetlbMapping("huge", no_reserve=True))
    played = all_of(area, write(0, 1, vma="area"), vmas=[huge(pages=1)], pool=2)

    assert [result(row) for row in played.faults] == [set(), {VmFault.SIGBUS}]
    assert pool_of(played) == (1, 1)


def test_a_page_that_is_being_zeroed_needs_no_reservation_any_more():
    """Allocation commits it first, so the only page there is does for who maps it meanwhile."""
    area = Mmap("area", HUGE, hugetlb=HugetlbMapping("huge"))
    played = play_huge(
        one("app", write(0, vma="huge")),
        vmas=[huge(pages=1, file="huge", no_reserve=True)],
        elsewhere=[one("other", after(20 * US), area, write(0, vma="area"), after(MS))],
        pool=1,
    )

    fault, mmap = played.fault_of("app"), played.operation_of("other")
    assert fault["start_ns"] < mmap["start_ns"] < end_ns(mmap) < end_ns(fault)
    assert played["hugetlb.mmaps_refused"] == 0
    assert pool_of(played) == (0, 0)
    assert_recounted(played.world)


@pytest.mark.parametrize(("generation", "reserved"), [("6.7", 3), ("6.12", 4)])
def test_a_page_that_was_zapped_is_reserved_again_since_6_9(generation, reserved):
    steps = (write(0, vma="huge"), Madvise("huge", Madvice.DONTNEED))
    played = all_of(*steps, vmas=[huge()], generation=generation)

    assert pool_of(played) == (8, reserved)


def test_the_end_of_a_process_gives_its_pages_back():
    played = play_huge(
        one("app", after(MS), after(MS)),
        vmas=[huge(pages=2)],
        elsewhere=[one("other", write(0, 1, vma="huge"))],
    )

    assert pool_of(played) == (8, 2), "app has what is reserved for it, for the run ends with it"


def test_huge_pages_are_no_memory_of_the_memcg_and_are_never_reclaimed():
    """A memcg of 64 pages has more huge pages than that is small ones, and a file beside them."""
    data = Vma("data", 64 * PAGE, AnonymousMapping(), 0, READ_WRITE)
    played = all_of(
        write(0, 1, 2, 3, vma="huge"),
        Loop(3, (Touch("data", Sequential(), Access.WRITE, 64),)),
        touch(0, 1, 2, 3, vma="huge"),
        vmas=[huge(), data],
        memory=Memory(most=64),
    )

    assert len([kind for kind in kinds(played) if kind is FaultKind.HUGETLB]) == 4
    assert played["vmstat.pgscan_direct"] == 0


# Populating.


@pytest.mark.parametrize("map_private", [True, False])
def test_a_populated_mapping_has_its_pages(map_private):
    mapping = HugetlbMapping("" if map_private else "huge")
    area = Mmap("area", 3 * HUGE, populate=True, hugetlb=mapping)
    played = all_of(area, write(0, 1, 2, vma="area"), after(0), vmas=[huge(pages=1)])

    assert played.faults == []
    assert played.operation_of("app")["cpu_ns"] > 3 * CLEAR_NS


def test_populating_stops_where_the_pool_is_empty():
    mapping = HugetlbMapping(no_reserve=True)
    area = Mmap("area", 4 * HUGE, populate=True, hugetlb=mapping)
    played = all_of(area, vmas=[huge(pages=1)], pool=3)

    assert played["hugetlb.pages_allocated"] == 2
    assert played["hugetlb.sigbus"] == 0


@pytest.mark.parametrize(
    ("advice", "faults"), [(Madvice.POPULATE_READ, 2), (Madvice.POPULATE_WRITE, 0)]
)
def test_madvise_populates_as_by_reads_or_writes(advice, faults):
    steps = (Madvise("huge", advice, 0, 2 * HUGE), write(0, 1, vma="huge"))
    played = all_of(*steps, vmas=[huge()])

    assert len(played.faults) == faults
    assert played["hugetlb.pages_allocated"] == 2


def test_populating_leaves_a_page_to_the_fault_that_is_at_it():
    story = a_huge_story(
        one("app", write(0, vma="huge")),
        one("other", after(10 * US), Madvise("huge", Madvice.POPULATE_WRITE)),
        vmas=[huge(pages=2)],
        costs_ns={"clear_page": 1000},
    )
    played = Played(story, "app")
    assert_recounted(played.world)

    assert played["hugetlb.pages_allocated"] == 2
    assert played.ended


# fork.


def forked(*steps, child_ns=10 * MS, **more):
    """Let a process write to a huge page, fork, and do something."""
    return all_of(write(0, vma="huge"), Fork(Fixed(child_ns)), *steps, **more)


def test_a_write_after_a_fork_copies_the_page_and_the_child_keeps_the_old_one():
    played = forked(write(0, vma="huge"), after(MS), vmas=[huge(pages=1)], pool=3)

    assert kinds(played) == [FaultKind.HUGETLB, FaultKind.HUGETLB_WP]
    assert COPY_NS < played.faults[1]["cpu_ns"] < COPY_NS + 3 * US
    assert int(played.world.mms[0].huge_with_children) == 1
    assert played["hugetlb.pages_allocated"] == 2


def test_the_copy_is_not_taken_out_of_what_is_reserved():
    """Two pages for two: the mapping's second page stays reserved, so the child loses the first."""
    played = forked(write(0, vma="huge"), write(1, vma="huge"), vmas=[huge(pages=2)], pool=2)

    assert [result(row) for row in played.faults] == [set(), set(), set()]
    assert played["hugetlb.pages_taken_from_children"] == 1
    assert played.faults[1]["cpu_ns"] < 5 * US, "there is nothing to copy any more"


def test_who_has_reserved_nothing_cannot_take_it_from_the_child():
    played = forked(write(0, vma="huge"), vmas=[huge(pages=1, no_reserve=True)], pool=1)

    assert result(played.faults[1]) == {VmFault.SIGBUS}
    assert played["hugetlb.pages_taken_from_children"] == 0


def test_when_the_child_has_ended_its_pages_are_free_again():
    steps = (write(0, vma="huge"), after(20 * MS), write(0, vma="more"))
    vmas = [huge(pages=1), huge("more", pages=1, no_reserve=True)]
    played = forked(*steps, vmas=vmas, pool=2)

    assert result(played.faults[2]) == set()
    assert int(played.world.mms[0].huge_with_children) == 0


def test_as_long_as_it_lives_they_are_not():
    steps = (write(0, vma="huge"), after(MS), write(0, vma="more"))
    vmas = [huge(pages=1), huge("more", pages=1, no_reserve=True)]
    played = forked(*steps, vmas=vmas, pool=2)

    assert result(played.faults[2]) == {VmFault.SIGBUS}


def test_the_page_of_a_child_is_not_free_when_its_parent_unmaps_it():
    played = forked(Munmap("huge"), vmas=[huge(pages=1)], pool=2)

    assert pool_of(played) == (1, 0)


def test_a_write_after_the_child_has_ended_copies_nothing():
    played = forked(after(20 * MS), write(0, vma="huge"), vmas=[huge(pages=1)])

    assert played["hugetlb.pages_allocated"] == 1


def test_shared_pages_stay_writable_over_a_fork():
    played = forked(write(0, vma="huge"), vmas=[huge(file="huge")])

    assert len(played.faults) == 1


def test_a_page_that_is_zapped_while_it_is_copied_is_made_anew():
    story = a_huge_story(
        one("app", write(0, vma="huge"), Fork(Fixed(10 * MS)), write(0, vma="huge"), after(MS)),
        one("zapper", after(300 * US), Madvise("huge", Madvice.DONTNEED)),
        vmas=[huge(pages=2)],
        costs_ns={"copy_page": 1000},
    )
    played = Played(story, "app")

    faults = played.faults_of("app")
    assert faults[1]["start_ns"] < played.operation_of("zapper")["start_ns"] < end_ns(faults[1])
    assert [FaultKind(row["kind"]) for row in faults] == [
        FaultKind.HUGETLB,
        FaultKind.HUGETLB_WP,
        FaultKind.HUGETLB,
    ]
    assert played["hugetlb.pages_allocated"] == 3


# Other operations.


def test_neighbours_never_become_one():
    """VM_DONTEXPAND keeps them apart: what mprotect has split stays so."""
    halves = [
        Mprotect("huge", 0, 2 * HUGE, (Protection.READ,)),
        Mprotect("huge", 0, 2 * HUGE, READ_WRITE),
    ]
    played = all_of(*halves, touch(3, vma="huge"), after(0), vmas=[huge()])

    ids = {int(vma.id) for vma in played.world.vmas[: int(played.world.vma_slots)]}
    assert len(ids) == 2


def test_smaps_costs_as_much_for_a_huge_page_as_for_a_small_one():
    small = Vma("small", 4 * PAGE, AnonymousMapping(), 0, READ_WRITE)
    of_huge = all_of(ReadSmaps("app"), vmas=[huge()]).operation_of("app")
    of_small = all_of(ReadSmaps("app"), vmas=[small]).operation_of("app")

    assert of_huge["cpu_ns"] == of_small["cpu_ns"]


def test_a_size_of_a_gigabyte_takes_as_long_as_its_small_pages():
    story = a_huge_story(one("app", write(0, vma="huge")), vmas=[huge()])
    gigabyte = 1 << 30
    (process,) = story.workload.processes
    vma = Vma("huge", 2 * gigabyte, HugetlbMapping(), 0, READ_WRITE)
    workload = replace(story.workload, processes=(replace(process, vmas=(vma,)),), files=())
    machine = replace(story.machine, huge_pages=HugePages(gigabyte, 2), devices=())
    played = Played(check(replace(story, workload=workload, machine=machine)), "app")

    assert played.fault_of("app")["cpu_ns"] > 512 * SMALL_PAGES * 150
    assert played.fault_of("app")["address"] % gigabyte == 0
    assert played.stop is StopReason.FINISHED


def test_mapped_pages_are_there_from_the_start():
    played = all_of(write(0, 3, vma="huge"), after(0), vmas=[huge(mapped=WRITTEN)])

    assert played.faults == []
    assert pool_of(played) == (4, 0)
