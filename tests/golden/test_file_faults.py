"""Rows of the kernel model's table of golden scenarios, as whole runs: read faults on files."""

import os
from dataclasses import replace
from functools import partial

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import Advice, VmFault
from faultlane_server.engine.world import READAHEAD
from faultlane_server.scenario import Munmap
from tests.golden.story import (
    CACHED,
    Run,
    a_story,
    after,
    cached,
    marked,
    moments,
    mprotect,
    munmap_page,
    one,
    told,
    touch,
    written,
)
from tests.golden.table import DERIVED, FROM_THE_TABLE, READY, REFUSED_BY_A_WRITER, ROWS

pytestmark = pytest.mark.uncompiled_too

PAGE = 100  # that is read; its fault-around goes from 96 to 111, its read-around from 84 to 115

WITHOUT_VMA_LOCK = "M(!TRIED)→RETRY+MAJOR; M(TRIED)→NOPAGE; PM1; maj; mm2"

# Uncompiled runs take their time, and the path is the same for all.
ARCHS = ("x86", "arm64") if os.environ.get("NUMBA_DISABLE_JIT") == "1" else tuple(ARCHITECTURES)


@pytest.fixture(params=ARCHS)
def arch(request):
    return request.param


@pytest.fixture(params=FROM_THE_TABLE + DERIVED)
def policy(request):
    return request.param


@pytest.fixture
def story(policy, arch):
    return partial(a_story, policy=policy, arch=arch)


def test_row_2_where_the_architecture_had_no_vma_lock():
    story = a_story(one("reader", touch(PAGE)), arch="loongarch")
    scenario = replace(story, kernel=replace(story.kernel, generation="6.12"))

    assert told(scenario) == written({"reader": WITHOUT_VMA_LOCK})


def test_row_1_a_cached_page(story, policy):
    scenario = story(one("reader", touch(PAGE)), data=[CACHED])

    assert told(scenario) == written({"reader": ROWS[1][policy]})


def test_row_2_an_absent_page_with_read_around(story, policy):
    scenario = story(one("reader", touch(PAGE)))

    assert told(scenario) == written({"reader": ROWS[2][policy]})
    assert Run(scenario).metrics["device.pages"] == 32


def test_row_3_an_absent_page_with_random_access(story, policy):
    scenario = story(one("reader", touch(PAGE)), advice=Advice.RANDOM)

    assert told(scenario) == written({"reader": ROWS[3][policy]})
    assert Run(scenario).metrics["device.pages"] == 1


def test_row_4_a_page_that_another_reader_reads(story, policy):
    """It is in the window of the other's read, but not in that of the other's fault-around."""
    scenario = story(one("first", touch(PAGE)), one("second", after(50_000), touch(90)))

    assert told(scenario) == written({"first": ROWS[2][policy], "second": ROWS[4][policy]})
    second = Run(scenario).faults["second"]
    assert second["reads"] == 0
    assert second["wait_device_ns"] > 900_000


def test_row_4_the_page_of_another_process(story, policy):
    scenario = story(
        one("first", touch(PAGE)), elsewhere=[one("second", after(50_000), touch(PAGE))]
    )

    assert told(scenario) == written({"first": ROWS[2][policy], "second": ROWS[4][policy]})


def mapped_by_the_quicker_one(cell):
    """Let a fault's last attempt find its page mapped: by another thread that waited for it."""
    if cell.startswith("V→LOCKED"):
        return cell.replace("V→LOCKED", "V→LOCKED+NOPAGE")
    return cell.replace("NOPAGE", "0")


def test_row_4_the_same_page_is_mapped_by_the_first_to_wait(story, policy):
    scenario = story(one("first", touch(PAGE)), one("second", after(50_000), touch(PAGE)))

    second = mapped_by_the_quicker_one(ROWS[4][policy])
    assert told(scenario) == written({"first": ROWS[2][policy], "second": second})


@pytest.mark.parametrize("absent_behind", [False, True])
def test_row_5_a_ready_page_with_the_readahead_marker(story, policy, absent_behind):
    pages = range(120) if absent_behind else range(1024)
    scenario = story(one("reader", touch(PAGE)), data=[cached(pages), marked(PAGE)])

    assert told(scenario) == written({"reader": ROWS[5][policy]})
    run = Run(scenario)
    assert run.faults["reader"]["reads"] == (1 if absent_behind else 0)
    assert run.faults["reader"]["wait_device_ns"] == 0
    assert run.faults["reader"]["wait_folio_ns"] == 0
    assert not run.simulator.world.folios[PAGE].state & READAHEAD


def test_row_5_the_marker_of_a_read_around(story, policy):
    """Page 24 gets it with the window of page 16, and keeps it: fault-around skips it."""
    scenario = story(one("first", touch(16)), one("second", after(3_000_000), touch(24)))

    assert told(scenario) == written({"first": ROWS[2][policy], "second": ROWS[5][policy]})
    run = Run(scenario)
    assert run.metrics["device.pages"] == 32 + 32
    folios = run.simulator.world.folios
    assert [page for page in range(64) if folios[page].state & READAHEAD] == [32]


def test_row_12_a_vma_that_is_write_locked(story, policy):
    scenario = story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        data=[CACHED],
        costs_ns={"mprotect": 100_000},
    )

    assert told(scenario) == written({"reader": ROWS[12][policy]})
    reader = Run(scenario).faults["reader"]
    assert reader["wait_mmap_lock_ns"] > 50_000
    assert reader["blocker"] == 0, "the writer"


def while_another_vma_is_changed(story, **more):
    return story(
        one("writer", mprotect("other")),
        one("reader", after(20_000), touch(PAGE)),
        costs_ns={"mprotect": 3_000_000},
        **more,
    )


def test_row_13_a_writer_of_another_vma_keeps_nobody_from_a_cached_page(story, policy):
    scenario = while_another_vma_is_changed(story, data=[CACHED])

    assert told(scenario) == written({"reader": ROWS[13][policy]})
    run = Run(scenario)
    writer, reader = run.operations["writer"], run.faults["reader"]
    assert writer["start_ns"] + 10_000 < reader["start_ns"]
    assert reader["start_ns"] + reader["duration_ns"] < writer["start_ns"] + writer["hold_ns"]


def test_row_13_a_writer_of_another_vma_keeps_those_who_retry_under_mmap_lock(story, policy):
    scenario = while_another_vma_is_changed(story)

    assert told(scenario) == written({"reader": ROWS[2][policy]})
    waited_ns = Run(scenario).faults["reader"]["wait_mmap_lock_ns"]
    assert waited_ns > 1_500_000 if policy == "mainline" else waited_ns == 0


def test_row_26_an_absent_page_of_a_vma_that_is_write_locked(story, policy):
    scenario = story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        costs_ns={"mprotect": 100_000},
    )

    assert told(scenario) == written({"reader": ROWS[26][policy]})


def test_row_31_two_attempts_under_mmap_lock_make_a_fault_major(story, policy):
    """The table tells it of a fault in kernel mode; here it is a writer that keeps it from V."""
    scenario = story(
        one("writer", mprotect("data")),
        one("reader", after(20_000), touch(PAGE)),
        elsewhere=[one("first", touch(PAGE))],
        costs_ns={"mprotect": 100_000},
    )

    reader = "A1; M(!TRIED)→RETRY; M(TRIED)→NOPAGE; PM0; maj; mm2"
    assert told(scenario) == written({"reader": reader, "first": ROWS[2][policy]})


def test_row_29_an_absent_page_that_gets_the_marker_itself(story, policy):
    """It is the eighth page from the end: the window is cut there, its last quarter is not."""
    scenario = story(one("reader", touch(1016)))

    assert told(scenario) == written({"reader": ROWS[29][policy]})
    run = Run(scenario)
    assert run.metrics["device.pages"] == 24
    assert run.simulator.world.folios[1016].state & READAHEAD, "the bit stays set"


SLOW_READAHEAD = {"readahead": 100_000}  # time for another one to miss as well


def test_row_32_two_readers_both_miss_the_same_page(story, policy):
    scenario = story(
        one("first", touch(PAGE)), elsewhere=[one("second", touch(PAGE))], costs_ns=SLOW_READAHEAD
    )

    assert told(scenario) == written({"first": ROWS[32][policy], "second": ROWS[32][policy]})
    run = Run(scenario)
    assert run.metrics["device.pages"] == 32, "each page is read once"
    assert run.faults["second"]["reads"] == 0, "it just waits"


def test_row_32_in_one_process_the_first_to_wait_maps_the_page_for_both(story, policy):
    scenario = story(one("first", touch(PAGE)), one("second", touch(PAGE)), costs_ns=SLOW_READAHEAD)

    second = mapped_by_the_quicker_one(ROWS[32][policy])
    assert told(scenario) == written({"first": ROWS[32][policy], "second": second})


def test_rows_29_and_32_the_second_attempt_waits_with_its_lock_held(story, policy):
    """Both missed, so both have TRIED set: no drop when one finds the folio locked by the other.

    Getting ready to retry takes long enough for both to have left their first attempts.
    """
    scenario = story(
        one("first", touch(1016)),
        elsewhere=[one("second", touch(1016))],
        costs_ns=SLOW_READAHEAD | {"retry": 20_000, "map_page": 100_000},
    )

    assert told(scenario) == written({"first": ROWS[29][policy], "second": ROWS[29][policy]})
    assert Run(scenario).faults["second"]["wait_folio_ns"] > 90_000


class TestRow24:
    """A munmap of a page finds a reader inside the VMA, and drains it with mmap_lock held.

    The reader is slow inside, for 100 us. Whoever comes later needs these 100 us as well.
    """

    @pytest.fixture(params=["6.12", "6.15"])
    def played(self, story, request):
        return partial(
            story,
            one("inside", touch(PAGE)),
            one("unmapper", after(20_000), munmap_page(1000)),
            data=[CACHED],
            generation=request.param,
            costs_ns={"handle": 100_000},
        )

    def test_the_writer_waits_for_the_reader(self, played, policy):
        scenario = played()

        assert told(scenario) == written({"inside": READY})
        run = Run(scenario)
        inside, unmapper = run.faults["inside"], run.operations["unmapper"]
        assert unmapper["wait_vma_ns"] > 50_000
        assert unmapper["hold_ns"] > unmapper["wait_vma_ns"], "mmap_lock is held meanwhile"
        assert unmapper["blocker"] == 0, "the reader"
        assert inside["start_ns"] + inside["duration_ns"] > unmapper["start_ns"] + 50_000

    def test_others_of_the_vma_queue_for_mmap_lock(self, played, policy):
        scenario = played(one("late", after(60_000), touch(500)))

        assert told(scenario) == written({"inside": READY, "late": REFUSED_BY_A_WRITER})
        late = Run(scenario).faults["late"]
        assert late["wait_mmap_lock_ns"] > 20_000
        assert late["blocker"] == 1, "the unmapper"

    def test_others_of_other_vmas_do_not(self, played, policy):
        scenario = played(one("late", after(60_000), touch(30, "other")))

        assert told(scenario) == written({"inside": READY, "late": READY})
        assert Run(scenario).faults["late"]["wait_mmap_lock_ns"] == 0

    def test_who_comes_while_the_writer_spins_gets_in_if_the_vma_lock_is_a_rwsem(
        self, story, played, policy
    ):
        """It spins for (20 + 1) / 2 us. A reference count excludes readers at once."""
        scenario = played(one("early", after(26_000), touch(500)))

        is_rwsem = scenario.kernel.generation == "6.12"
        early = READY if is_rwsem else REFUSED_BY_A_WRITER
        assert told(scenario) == written({"inside": READY, "early": early})
        run = Run(scenario)
        waited_ns = run.operations["unmapper"]["wait_vma_ns"]
        assert (waited_ns > 95_000) == is_rwsem, "for both of them"
        assert run.operations["unmapper"]["blocker"] == (2 if is_rwsem else 0)

    def test_who_queued_finds_that_the_vma_is_gone(self, story, policy):
        scenario = story(
            one("inside", touch(PAGE)),
            one("unmapper", after(20_000), Munmap("data")),
            one("late", after(60_000), touch(500)),
            data=[CACHED],
            costs_ns={"handle": 100_000},
        )

        run = Run(scenario)
        assert run.faults["late"]["result"] == VmFault.SIGSEGV
        assert run.faults["late"]["attempts"] == 0
        assert run.faults["late"]["mmap_reads"] == 1
        counted = written({"inside": READY}).counters
        assert run.counters() == counted._replace(abort=1, mmap_reads=1, page_faults=2)


def test_a_writer_waits_for_the_io_of_a_fault_that_holds_the_vma_lock(story, policy):
    """Hold pays for what it saves: its reader is inside for the whole read."""
    scenario = story(one("reader", touch(PAGE)), one("writer", after(50_000), mprotect("data")))

    assert told(scenario) == written({"reader": ROWS[2][policy]})
    waited_ns = Run(scenario).operations["writer"]["wait_vma_ns"]
    assert waited_ns > 900_000 if policy == "hold" else waited_ns == 0


class TestRow25:
    """A munmap is downgraded with a writer at the head of the queue.

    That writer queues instead of spinning because the unmapper sleeps: it drains a reader.
    """

    def played(self, story):
        return story(
            one("inside", touch(PAGE)),
            one("unmapper", after(20_000), munmap_page(1000)),
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

    def test_faults(self, story, policy):
        assert told(self.played(story)) == written(
            {"inside": READY, "refused": REFUSED_BY_A_WRITER, "free": READY}
        )

    def test_queued_readers_stay_queued_until_the_zap_ends(self, story, policy):
        unmapper, writer, refused = 1, 2, 3
        found = list(moments(self.played(story)))

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
        run = Run(self.played(story))
        assert run.faults["refused"]["wait_mmap_lock_ns"] > 450_000
        free = run.faults["free"]
        assert downgraded.since_ns < free["start_ns"], "the VMA lock works from there on"
        assert free["start_ns"] + free["duration_ns"] < zapped.since_ns
        assert run.operations["unmapper"]["blocker"] == 0
        assert run.operations["writer"]["blocker"] == unmapper
        assert run.operations["writer"]["wait_run_queue_ns"] == 3_000, "it is woken once"
