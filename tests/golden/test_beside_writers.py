"""Rows of the kernel model's table of golden scenarios, as whole runs: faults beside writers."""

from functools import partial

import pytest

from faultlane_server.codes import VmFault
from faultlane_server.scenario import Munmap
from tests.golden.account import account_of, told, written
from tests.golden.setting import POLICY_IDS, one_of_each_size
from tests.golden.story import (
    CACHED,
    Run,
    after,
    moments,
    mprotect,
    munmap_page,
    one,
    touch,
)
from tests.golden.table import (
    ABSENT,
    READY,
    WRITE_LOCKED,
    WRITE_LOCKED_ABSENT,
    WRITE_LOCKED_BEING_READ,
    WRITE_LOCKED_MEANWHILE,
)

pytestmark = pytest.mark.uncompiled_too

PAGE = 112

with_vma_lock = pytest.mark.parametrize(
    "policy", [policy for policy in POLICY_IDS if policy != "mmap_lock_only"]
)
of_both_designs = pytest.mark.parametrize("generation", ["6.12", "6.15"])


def test_row_12_a_vma_that_is_write_locked(setting):
    scenario = setting.story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        data=[CACHED],
        costs_ns={"mprotect": 100_000},
    )
    run = Run(scenario, traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(WRITE_LOCKED)})
    reader = run.faults["reader"]
    assert reader["wait_mmap_lock_ns"] > 50_000
    assert reader["blocker"] == 0, "the writer"


def while_another_vma_is_changed(setting, **more):
    return setting.story(
        one("writer", mprotect("other")),
        one("reader", after(20_000), touch(PAGE)),
        costs_ns={"mprotect": 3_000_000},
        **more,
    )


def test_row_13_a_writer_of_another_vma_keeps_nobody_from_a_cached_page(setting):
    """Nobody who has a VMA lock to use."""
    run = Run(while_another_vma_is_changed(setting, data=[CACHED]), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(READY)})
    writer, reader = run.operations["writer"], run.faults["reader"]
    assert writer["start_ns"] + 10_000 < reader["start_ns"]
    is_before_it = (
        reader["start_ns"] + reader["duration_ns"] < writer["start_ns"] + writer["hold_ns"]
    )
    assert is_before_it == (setting.policy != "mmap_lock_only")


@one_of_each_size
def test_row_13_a_writer_of_another_vma_keeps_those_who_need_mmap_lock(setting):
    run = Run(while_another_vma_is_changed(setting), traced="reader")

    cell = setting.cell(ABSENT)
    assert account_of(run, "reader") == written({"reader": cell})
    waited_ns = run.faults["reader"]["wait_mmap_lock_ns"]
    assert waited_ns == 0 if "mm0" in cell else waited_ns > 1_500_000


def test_row_26_an_absent_page_of_a_vma_that_is_write_locked(setting):
    scenario = setting.story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        costs_ns={"mprotect": 100_000},
    )

    assert told(scenario, "reader") == written({"reader": setting.cell(WRITE_LOCKED_ABSENT)})


@one_of_each_size
def test_row_2_a_vma_that_is_write_locked_when_the_read_is_done(setting):
    scenario = setting.story(
        one("reader", touch(PAGE)),
        one("writer", after(900_000), mprotect("data")),
        costs_ns={"mprotect": 300_000},
    )
    run = Run(scenario, traced="reader")

    cell = setting.cell(WRITE_LOCKED_MEANWHILE)
    assert account_of(run, "reader") == written({"reader": cell})
    waited_ns = run.faults["reader"]["wait_mmap_lock_ns"]
    assert waited_ns == 0 if "mm0" in cell else waited_ns > 100_000


@one_of_each_size
def test_row_31_a_writer_can_keep_a_fault_from_the_vma_lock_as_well(setting):
    scenario = setting.story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        elsewhere=[one("first", touch(PAGE))],
        costs_ns={"mprotect": 100_000},
    )

    cells = {"reader": setting.cell(WRITE_LOCKED_BEING_READ), "first": setting.cell(ABSENT)}
    assert told(scenario, "reader") == written(cells)


@one_of_each_size
def test_a_writer_waits_for_the_io_of_a_fault_that_holds_its_lock(setting):
    """Hold pays for what it saves: its reader is inside for the whole read."""
    scenario = setting.story(
        one("reader", touch(PAGE)), one("writer", after(50_000), mprotect("data"))
    )
    run = Run(scenario)

    waited_ns = run.operations["writer"]["wait_vma_ns"]
    holds = setting.policy in ("hold", "never_drop", "split_by_kind")
    assert waited_ns > 900_000 if holds else waited_ns == 0
    assert run.operations["writer"]["wait_mmap_lock_ns"] == 0


class TestRow24:
    """A munmap of a page finds a reader inside the VMA, and drains it with mmap_lock held.

    The reader is slow inside, for 100 us. Whoever comes later needs these 100 us as well.
    Without a VMA lock it is mmap_lock that the munmap waits for, and everybody behind it.
    """

    @pytest.fixture
    def generation(self):
        return "6.12"

    @pytest.fixture
    def played(self, setting, generation):
        return partial(
            setting.story,
            one("inside", touch(PAGE)),
            one("unmapper", after(20_000), munmap_page(1000, page_bytes=setting.page_bytes)),
            data=[CACHED],
            generation=generation,
            costs_ns={"handle": 100_000},
        )

    @with_vma_lock
    def test_the_writer_waits_for_the_reader(self, setting, played):
        run = Run(played(), traced="inside")

        assert account_of(run, "inside") == written({"inside": setting.cell(READY)})
        inside, unmapper = run.faults["inside"], run.operations["unmapper"]
        assert unmapper["wait_vma_ns"] > 50_000
        assert unmapper["hold_ns"] > unmapper["wait_vma_ns"], "mmap_lock is held meanwhile"
        assert unmapper["blocker"] == 0, "the reader"
        assert inside["start_ns"] + inside["duration_ns"] > unmapper["start_ns"] + 50_000

    @one_of_each_size
    @of_both_designs
    def test_others_of_the_vma_queue_for_mmap_lock(self, setting, played):
        run = Run(played(one("late", after(60_000), touch(500))), traced="late")

        cells = {"late": setting.cell(WRITE_LOCKED), "inside": setting.cell(READY)}
        assert account_of(run, "late") == written(cells)
        assert run.faults["late"]["wait_mmap_lock_ns"] > 20_000
        assert run.faults["late"]["blocker"] == 1, "the unmapper"

    @one_of_each_size
    @of_both_designs
    def test_others_of_other_vmas_do_not_if_they_have_locks(self, setting, played):
        run = Run(played(one("late", after(60_000), touch(30, "other"))), traced="late")

        cells = dict.fromkeys(("late", "inside"), setting.cell(READY))
        assert account_of(run, "late") == written(cells)
        waited_ns = run.faults["late"]["wait_mmap_lock_ns"]
        assert waited_ns > 20_000 if setting.policy == "mmap_lock_only" else waited_ns == 0

    @one_of_each_size
    @of_both_designs
    @with_vma_lock
    def test_who_comes_while_the_writer_spins_gets_in_if_the_vma_lock_is_a_rwsem(
        self, setting, played, generation
    ):
        """It spins for (20 + 1) / 2 us. A reference count excludes readers at once."""
        run = Run(played(one("early", after(26_000), touch(500))), traced="early")

        is_rwsem = generation == "6.12"
        early = setting.cell(READY if is_rwsem else WRITE_LOCKED)
        cells = {"early": early, "inside": setting.cell(READY)}
        assert account_of(run, "early") == written(cells)
        waited_ns = run.operations["unmapper"]["wait_vma_ns"]
        assert (waited_ns > 95_000) == is_rwsem, "for both of them"
        assert run.operations["unmapper"]["blocker"] == (2 if is_rwsem else 0)


@one_of_each_size
@with_vma_lock
def test_row_24_who_queued_finds_that_the_vma_is_gone(setting):
    scenario = setting.story(
        one("inside", touch(PAGE)),
        one("unmapper", after(20_000), Munmap("data")),
        one("late", after(60_000), touch(500)),
        data=[CACHED],
        costs_ns={"handle": 100_000},
    )
    run = Run(scenario, traced="inside")

    late = run.faults["late"]
    assert (late["result"], late["attempts"], late["mmap_reads"]) == (VmFault.SIGSEGV, 0, 1)
    assert run.metrics["vmstat.vma_lock_abort"] == 1
    assert run.metrics["vmstat.pgfault"] == 1, "that of the reader inside"
    assert run.metrics["perf.minor_faults"] + run.metrics["perf.major_faults"] == 1


class TestRow25:
    """A munmap is downgraded with a writer at the head of the queue.

    That writer queues instead of spinning because the unmapper sleeps: it drains a reader.
    """

    def played(self, setting):
        return setting.story(
            one("inside", touch(PAGE)),
            one("unmapper", after(20_000), munmap_page(1000, page_bytes=setting.page_bytes)),
            one("writer", after(50_000), mprotect("other")),
            one("refused", after(70_000), touch(500)),
            one("free", after(250_000), touch(600)),
            data=[CACHED],
            costs_ns={
                "handle": 100_000,
                "munmap_zap": 400_000,
                "mprotect": 50_000,
                "idle_exit": 2_000,
                "switch": 1_000,
            },
        )

    def test_faults(self, setting):
        cells = {
            "refused": setting.cell(WRITE_LOCKED),
            "inside": setting.cell(READY),
            "free": setting.cell(READY),
        }
        assert told(self.played(setting), "refused") == written(cells)

    @one_of_each_size
    @with_vma_lock
    def test_queued_readers_stay_queued_until_the_zap_ends(self, setting):
        unmapper, writer, refused = 1, 2, 3
        scenario = self.played(setting)
        found = list(moments(scenario))

        assert [moment[1:] for moment in found] == [
            (0, "W", []),
            (0, "W WAIT", [writer]),
            (0, "W WAIT", [writer, refused]),
            (1, "WAIT", [writer, refused]),
            (0, "WAIT", [writer, refused]),
            (0, "W WAIT", [refused]),
            (1, "", []),
            (0, "", []),
        ]
        downgraded, zapped = found[3], found[4]
        assert zapped.since_ns - downgraded.since_ns >= 400_000
        run = Run(scenario)
        assert run.faults["refused"]["wait_mmap_lock_ns"] > 450_000
        free = run.faults["free"]
        assert downgraded.since_ns < free["start_ns"], "the VMA lock works from there on"
        assert free["start_ns"] + free["duration_ns"] < zapped.since_ns
        assert run.operations["unmapper"]["blocker"] == 0
        assert run.operations["writer"]["blocker"] == unmapper
        assert run.operations["writer"]["wait_run_queue_ns"] == 3_000, "it is woken once"
