"""Faults that few programs have: stacks, pages that are moved, userfaultfds, hints, old entries."""

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import (
    Access,
    FaultKind,
    FaultLock,
    Protection,
    SignalKind,
    StopReason,
    VmFault,
)
from faultlane_server.engine import Simulator
from faultlane_server.engine.world import PTE_PRESENT, PTE_UFFD_WP, PTE_WRITE, PTE_YOUNG
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    FileMapping,
    Kill,
    Loop,
    Migrate,
    Mprotect,
    Munmap,
    ThreadGroup,
    UserfaultfdClose,
    UserfaultfdCopy,
    UserfaultfdModes,
    UserfaultfdRegister,
    UserfaultfdWriteprotect,
    Vma,
)
from tests.engine.small_stories import (
    CACHED,
    PAGE,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    end_ns,
    kill,
    one,
    result,
    touch,
    write,
)
from tests.engine.special_stories import WRITTEN, a_stack, alone, anonymous, kinds, play

pytestmark = pytest.mark.uncompiled_too

HARDWARE_YOUNG = {"x86", "arm64"}


@pytest.fixture(params=ARCHITECTURES)
def arch(request):
    return request.param


# Stacks.


def beside_a_fault_in_the_stack(generation):
    """Let a stack grow while a fault in it is inside, for a while."""
    return play(
        one("inside", write(0, vma="stack")),
        one("app", after(20 * US), write(31, vma="below")),
        vmas=[a_stack()],
        generation=generation,
        costs_ns={"clear_page": 100 * US},
    )


@pytest.mark.parametrize("generation", ["6.12", "6.18"])
def test_a_stack_grows_when_the_faults_in_it_have_left(generation):
    fault = beside_a_fault_in_the_stack(generation).fault_of("app")

    assert fault["wait_vma_ns"] > 50 * US
    assert fault["wait_mmap_lock_ns"] == 0


def test_kernels_before_6_5_let_it_grow_under_mmap_lock_for_read():
    played = beside_a_fault_in_the_stack("6.4")

    assert played.fault_of("app")["wait_vma_ns"] == 0
    assert played["mmap_lock.write.acquired"] == 0
    assert played["stacks.grown"] == 1


def test_of_two_that_fault_below_a_stack_the_second_finds_it_grown():
    played = play(
        one("app", write(31, vma="below")),
        one("other", write(31, vma="below")),
        vmas=[a_stack()],
        costs_ns={"stack_grow": 50 * US},
    )

    assert played["stacks.grown"] == 1
    assert played["mmap_lock.write.acquired"] == 2, "neither knows of the other before"
    assert [result(row) for row in played.faults] == [set(), set()]


def test_nothing_grows_below_its_room():
    played = alone(
        Munmap("stack", 0, PAGE), write(3, vma="below"), touch(0, vma="stack"), vmas=[a_stack()]
    )

    assert played["stacks.grown"] == 1, "the page that was unmapped is below it, and in its way"
    assert played["faults.sigsegv"] == 0

    hole = anonymous(pages=16)
    refused = alone(Munmap("heap", 0, 8 * PAGE), touch(7, vma="heap"), vmas=[hole])
    assert result(refused.fault_of("app")) == {VmFault.SIGSEGV}


def test_a_fatal_signal_ends_the_wait_for_the_lock_that_a_stack_needs_to_grow():
    played = play(
        one("writer", Mprotect("other", protection=READ_WRITE)),
        one("app", after(20 * US), write(31, vma="below")),
        elsewhere=[one("killer", after(60 * US), kill())],
        vmas=[a_stack(), Vma("other", 4 * PAGE, AnonymousMapping())],
        costs_ns={"mprotect": 200 * US},
    )

    fault = played.fault_of("app")
    assert result(fault) == {VmFault.SIGSEGV}
    assert end_ns(fault) < 100 * US
    assert played["stacks.grown"] == 0


# Pages that are moved.

MAPPED = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE, mapped=WRITTEN)
SLOW_COPY = {"migrate_page": 100 * US}


def test_pages_are_moved_one_after_another():
    played = play(
        one("mover", Migrate("data", 0, 4 * PAGE)),
        one("app", after(20 * US), touch(0), after(220 * US), touch(3)),
        vmas=[MAPPED],
        data=CACHED,
        costs_ns=SLOW_COPY,
    )

    assert kinds(played) == [FaultKind.MIGRATION, FaultKind.MIGRATION]
    assert played["migration.pages"] == 4
    assert played.operation_of("mover")["duration_ns"] > 400 * US


def test_who_waits_for_a_migration_holds_up_who_wants_to_change_the_vma():
    played = play(
        one("mover", Migrate("data", 0, PAGE)),
        one("app", after(20 * US), touch(0)),
        one("writer", after(40 * US), Mprotect("data", protection=(Protection.READ,))),
        vmas=[MAPPED],
        data=CACHED,
        costs_ns=SLOW_COPY,
    )

    assert played.operation_of("writer")["wait_vma_ns"] > 40 * US


def test_a_page_that_a_fault_refers_to_stays_where_it_is():
    played = play(
        one("mover", after(20 * US), Migrate("data", 0, PAGE)),
        elsewhere=[one("copier", after(10 * US), write(0)), one("next", after(30 * US), write(0))],
        vmas=[MAPPED],
        private=True,
        data=CACHED,
        traced="mover",
        costs_ns={"copy_page": 100 * US},
    )

    assert (played["migration.pages_in_use"], played["migration.pages"]) == (1, 0)


@pytest.mark.parametrize("policy", ["mainline", "rfc", "never_drop"])
def test_a_private_copy_is_moved_for_itself_alone(policy):
    played = play(
        one("mover", write(0), Migrate("data", 0, PAGE)),
        one("app", after(50 * US), touch(0)),
        elsewhere=[one("neighbour", touch(0), after(50 * US), touch(0))],
        vmas=[Vma("data", 64 * PAGE, FileMapping("data", map_private=True), 0, READ_WRITE)],
        private=True,
        data=CACHED,
        policy=policy,
        costs_ns=SLOW_COPY,
    )

    assert FaultKind(played.fault_of("app")["kind"]) is FaultKind.MIGRATION
    assert len(played.faults_of("neighbour")) == 1, "the page of the file stays where it is"


def test_what_is_unmapped_while_it_moves_stays_unmapped():
    played = play(
        one("mover", Migrate("heap", 0, PAGE)),
        one("app", after(20 * US), Munmap("heap"), after(200 * US), touch(0, vma="heap")),
        vmas=[anonymous(mapped=WRITTEN)],
        costs_ns=SLOW_COPY,
    )

    assert result(played.fault_of("app")) == {VmFault.SIGSEGV}
    assert not (played.world.ptes[:16] & PTE_PRESENT).any()


def test_rights_that_are_taken_while_a_page_moves_are_gone_when_it_is_back():
    played = play(
        one("mover", Migrate("heap", 0, PAGE)),
        one(
            "app", after(20 * US), Mprotect("heap", protection=(Protection.READ,)), after(200 * US)
        ),
        vmas=[anonymous(mapped=WRITTEN)],
        costs_ns=SLOW_COPY,
    )

    assert played.world.ptes[0] & (PTE_PRESENT | PTE_WRITE) == PTE_PRESENT


# Userfaultfds.

MISSING = UserfaultfdModes(missing=True)
WRITES = UserfaultfdModes(write_protect=True)
COPY = ThreadGroup("handler", 1, (Loop(0, (UserfaultfdCopy("heap"),)),), daemon=True)


def test_a_page_is_brought_for_all_that_wait_for_it():
    crowd = [one(name, after(20 * US), write(3, vma="heap")) for name in ("app", "b", "c")]
    played = play(*crowd, COPY, vmas=[anonymous(userfaultfd=MISSING)])

    assert played["userfaultfd.faults"] == 3
    assert len([row for row in played.operations if row["finished"]]) == 1
    assert all(row["wait_userfaultfd_ns"] > 0 for row in played.faults)


@pytest.mark.parametrize(("generation", "reads"), [("6.7", 2), ("6.12", 1)])
def test_a_page_is_brought_under_the_vma_lock_since_6_9(generation, reads):
    """But not the first page of a VMA, which needs an anon_vma, and that needs mmap_lock."""
    heap = anonymous(mapped=[ByteRange(0, PAGE)], userfaultfd=MISSING)
    played = play(one("app", touch(3, vma="heap")), COPY, vmas=[heap], generation=generation)
    first = play(
        one("app", touch(3, vma="heap")),
        COPY,
        vmas=[anonymous(userfaultfd=MISSING)],
        generation="6.12",
    )

    assert played["mmap_lock.read.acquired"] == reads, "one of them is the retry's"
    assert first["mmap_lock.read.acquired"] == 2


def test_who_brings_a_page_to_a_vma_that_is_written_waits_for_mmap_lock():
    played = play(
        one("app", touch(3, vma="heap")),
        one("writer", after(20 * US), Mprotect("heap", 8 * PAGE, 0, (Protection.READ,))),
        ThreadGroup("handler", 1, (after(40 * US), *COPY.program), daemon=True),
        vmas=[anonymous(mapped=[ByteRange(0, PAGE)], userfaultfd=MISSING)],
        costs_ns={"vma_split": 100 * US},
    )

    assert played["userfaultfd.vma_lock_abort"] == 1
    row = next(row for row in played.operations if row["thread"] == 2)
    assert row["wait_mmap_lock_ns"] > 50 * US


def test_handlers_share_the_work():
    crowd = [one(name, after(20 * US), write(n, vma="heap")) for n, name in enumerate("abcd")]
    handlers = ThreadGroup("handlers", 2, COPY.program, daemon=True)
    played = play(
        *crowd,
        handlers,
        vmas=[anonymous(userfaultfd=MISSING)],
        traced="a",
        costs_ns={"userfaultfd_read": 50 * US},
    )

    finished = [row["thread"] for row in played.operations if row["finished"]]
    assert sorted(finished) == [4, 4, 5, 5]


def test_without_a_handler_the_fault_waits_for_ever():
    played = alone(write(3, vma="heap"), vmas=[anonymous(userfaultfd=MISSING)])

    assert played.stop is StopReason.DEADLOCK
    assert played.summary.diagnosis is not None
    assert "a userfaultfd" in played.summary.diagnosis.chain[0]


def test_a_handled_signal_ends_the_wait_and_the_access_is_made_again():
    played = play(
        one("app", write(3, vma="heap")),
        one("killer", after(50 * US), Kill(SignalKind.HANDLED, "app", "app")),
        ThreadGroup("handler", 1, (after(200 * US), *COPY.program), daemon=True),
        vmas=[anonymous(userfaultfd=MISSING)],
    )

    first, second = played.faults_of("app")
    assert result(first) == {VmFault.RETRY}
    assert first["duration_ns"] < 100 * US
    assert result(second) == set()
    assert played["signals.handled"] == 1


def test_in_kernel_mode_only_a_fatal_signal_ends_the_wait():
    played = play(
        one("app", touch(3, vma="heap", access=Access.WRITE, kernel_mode=True)),
        one("killer", after(50 * US), Kill(SignalKind.HANDLED, "app", "app")),
        ThreadGroup("handler", 1, (after(200 * US), *COPY.program), daemon=True),
        vmas=[anonymous(userfaultfd=MISSING)],
    )

    assert played.attempts() == ["M→RETRY", "M(TRIED)→0"]
    assert played.fault_of("app")["wait_userfaultfd_ns"] > 150 * US


@pytest.mark.parametrize("is_in_a_fault", [True, False])
def test_a_fatal_signal_ends_every_wait_for_a_userfaultfd(is_in_a_fault):
    waiter = write(3, vma="heap") if is_in_a_fault else UserfaultfdCopy("heap")
    played = play(
        one("app", waiter),
        elsewhere=[one("killer", after(50 * US), kill())],
        vmas=[anonymous(userfaultfd=MISSING)],
    )

    assert played.ended
    assert all(end_ns(row) < 100 * US for row in played.rows_of("app"))


def test_only_what_was_registered_is_handed_over():
    register = UserfaultfdRegister("heap", MISSING, 0, 8 * PAGE)
    played = play(one("app", register, write(7, 8, vma="heap")), COPY, vmas=[anonymous()])

    assert kinds(played) == [FaultKind.USERFAULTFD, FaultKind.ANON]
    assert int(played.world.mms[0].order_count) == 2, "the VMA was split"


def test_registering_the_rest_makes_one_vma_again():
    halves = [UserfaultfdRegister("heap", MISSING, first * PAGE, 8 * PAGE) for first in (0, 8)]
    played = alone(*halves, vmas=[anonymous()])

    assert int(played.world.mms[0].order_count) == 1


def test_when_it_is_closed_pages_can_be_written_to_again():
    played = alone(
        UserfaultfdWriteprotect("heap"),
        UserfaultfdClose(),
        write(3, vma="heap"),
        vmas=[anonymous(mapped=WRITTEN, userfaultfd=WRITES)],
    )

    assert played.faults == [], "closing it has made the pages writable"
    assert not (played.world.ptes[:16] & PTE_UFFD_WP).any()


def test_closing_it_wakes_who_waits():
    played = play(
        one("app", write(3, vma="heap")),
        one("closer", after(100 * US), UserfaultfdClose()),
        vmas=[anonymous(userfaultfd=MISSING)],
    )

    assert played.attempts() == ["V→RETRY", "M→0"]
    assert 80 * US < played.fault_of("app")["wait_userfaultfd_ns"] < 120 * US


def test_reads_of_a_write_protected_page_do_not_fault():
    played = alone(
        UserfaultfdWriteprotect("heap"),
        touch(3, vma="heap"),
        vmas=[anonymous(mapped=WRITTEN, userfaultfd=WRITES)],
    )

    assert played.faults == []


# Hints and old entries.


def test_a_numa_hint_faults_once_and_takes_only_the_page_table_lock(arch):
    heap = anonymous(mapped=WRITTEN, numa_hinted=WRITTEN)
    played = alone(touch(3, 3, vma="heap"), write(3, vma="heap"), vmas=[heap], arch=arch)

    assert kinds(played) == [FaultKind.NUMA_HINT]
    assert played.attempts() == ["V→0"]
    assert played["mmap_lock.read.acquired"] == 0


def with_old_entries(*steps, arch, **more):
    """Play a story whose pages are mapped, and were not accessed for long."""
    generation = "6.18" if arch == "loongarch" else "6.12"
    scenario = a_story(one("app", *steps), arch=arch, generation=generation, **more)
    story = Played.__new__(Played)
    story.names = {"app": 0}
    story.simulator = Simulator(scenario)
    story.world = story.simulator.world
    story.world.traced = 0
    story.world.ptes[:16] &= 0xFFFF ^ PTE_YOUNG
    story.faults, story.operations = [], []
    while not story.simulator.advance():
        pass
    story._take()
    story.summary = story.simulator.summary()
    return story


@pytest.mark.parametrize("access", [touch, write])
def test_an_access_to_an_old_entry_faults_unless_the_hardware_makes_it_young(arch, access):
    heap = anonymous(mapped=WRITTEN)
    played = with_old_entries(access(3, vma="heap"), touch(3, vma="heap"), arch=arch, vmas=[heap])

    young = [] if arch in HARDWARE_YOUNG else [FaultKind.YOUNG]
    assert kinds(played) == young
    assert [FaultLock(row["lock"]) for row in played.faults] == [FaultLock.VMA] * len(young)
    assert played["perf.minor_faults"] == played["faults.young"] == len(young)
    assert played.world.ptes[3] & PTE_YOUNG, "it is young in the end"
    assert not played.world.ptes[4] & PTE_YOUNG


def test_what_is_prefaulted_is_old_on_arm64_alone(arch):
    played = alone(
        touch(3), vmas=[Vma("data", 64 * PAGE, FileMapping("data"))], data=CACHED, arch=arch
    )

    first = int(played.world.vmas[0].pte)
    young = [bool(bits & PTE_YOUNG) for bits in played.world.ptes[first : first + 16]]
    assert young == [number == 3 or arch != "arm64" for number in range(16)]


def test_old_or_young_no_page_that_was_prefaulted_faults(arch):
    vmas = [Vma("data", 64 * PAGE, FileMapping("data"))]
    played = alone(touch(3, 4, 5), vmas=vmas, data=CACHED, arch=arch)

    assert len(played.faults) == 1
