"""Rows of the kernel model's table of golden scenarios, as whole runs: reads of file mappings."""

from dataclasses import replace

import pytest

from faultlane_server.codes import Advice, FileKind, StopReason
from faultlane_server.engine.world import READAHEAD
from faultlane_server.scenario import ThreadGroup
from tests.golden.account import account_of, told, written
from tests.golden.setting import Setting, of_small_pages, one_of_each_size
from tests.golden.story import (
    CACHED,
    DATA_PAGES,
    OTHER_PAGES,
    READ_NS,
    Run,
    after,
    cached,
    dirty,
    drop_clean_pages,
    marked,
    one,
    touch,
    touch_each,
    write,
)
from tests.golden.table import (
    ABSENT,
    ABSENT_RANDOM,
    BEING_MAPPED,
    BEING_READ,
    COW_READY,
    DROPPED,
    KERNEL_MODE,
    KERNEL_MODE_BEING_READ,
    KERNEL_MODE_SHARED_WRITE,
    MARKED,
    MARKED_ITSELF,
    READY,
    SPECIAL,
    UNDER_WRITEBACK,
    Cells,
    at_page_size,
)

pytestmark = pytest.mark.uncompiled_too

PAGE = 112  # the first of a window of fault-around, whatever the page size
BEFORE = PAGE - 1  # in its window of read-around, but not in that of fault-around


def test_row_1_a_cached_page(setting):
    scenario = setting.story(one("reader", touch(PAGE)), data=[CACHED])

    assert told(scenario, "reader") == written({"reader": setting.cell(READY)})


def test_row_2_an_absent_page_with_read_around(setting):
    run = Run(setting.story(one("reader", touch(PAGE))), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(ABSENT)})
    assert run.metrics["device.pages"] == setting.windows.ahead


def test_row_3_an_absent_page_with_random_access(setting):
    run = Run(setting.story(one("reader", touch(PAGE)), advice=Advice.RANDOM), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(ABSENT_RANDOM)})
    assert run.metrics["device.pages"] == 1


def test_row_4_a_page_that_another_reader_reads(setting):
    scenario = setting.story(one("first", touch(PAGE)), one("second", after(50_000), touch(BEFORE)))
    run = Run(scenario, traced="second")

    cells = {"second": setting.cell(BEING_READ), "first": setting.cell(ABSENT)}
    assert account_of(run, "second") == written(cells)
    assert run.faults["second"]["reads"] == 0
    assert run.faults["second"]["wait_device_ns"] > 900_000


@one_of_each_size
def test_row_4_the_page_of_another_process(setting):
    scenario = setting.story(
        one("first", touch(PAGE)), elsewhere=[one("second", after(50_000), touch(PAGE))]
    )

    cells = {"second": setting.cell(BEING_READ), "first": setting.cell(ABSENT)}
    assert told(scenario, "second") == written(cells)


def mapped_by_the_quicker_one(setting: Setting, row: Cells) -> str:
    """Let a fault's last attempt find its page mapped: by another thread that waited for it."""
    cell = setting._replace(page_bytes=4096).cell(row)
    if cell.startswith("V→LOCKED"):
        return cell.replace("V→LOCKED", "V→LOCKED+NOPAGE")
    return cell.replace("NOPAGE", "0")


@one_of_each_size
def test_row_4_the_same_page_is_mapped_by_the_first_to_wait(setting):
    scenario = setting.story(one("first", touch(PAGE)), one("second", after(50_000), touch(PAGE)))

    second = mapped_by_the_quicker_one(setting, BEING_READ)
    cells = {"second": second, "first": setting.cell(ABSENT)}
    assert told(scenario, "second") == written(cells)


@one_of_each_size
def test_row_4_a_page_that_is_ready_while_another_process_copies_it(setting):
    """Only this tells policies apart that ask whether a locked folio is up to date."""
    scenario = setting.story(
        one("reader", after(50_000), touch(PAGE)),
        elsewhere=[one("copier", write(PAGE))],
        data=[CACHED],
        private=True,
        writable=True,
        costs_ns={"copy_page": 100_000},
    )
    run = Run(scenario, traced="reader")

    cells = {"reader": setting.cell(BEING_MAPPED), "copier": setting.cell(COW_READY)}
    assert account_of(run, "reader") == written(cells)
    assert run.faults["reader"]["wait_folio_ns"] > 40_000


def test_row_5_a_ready_page_with_the_readahead_marker(setting):
    """The next window is asked for, and the thread does not wait for it."""
    scenario = setting.story(
        one("reader", touch(PAGE)), data=[cached(range(PAGE + 2)), marked(PAGE)]
    )
    run = Run(scenario, traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(MARKED)})
    reader = run.faults["reader"]
    assert (reader["reads"], reader["wait_device_ns"], reader["wait_folio_ns"]) == (1, 0, 0)
    assert not run.simulator.world.folios[PAGE].state & READAHEAD


@one_of_each_size
def test_row_5_the_marker_where_there_is_nothing_to_read(setting):
    scenario = setting.story(one("reader", touch(PAGE)), data=[CACHED, marked(PAGE)])
    run = Run(scenario, traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(MARKED)})
    assert run.faults["reader"]["reads"] == 0
    assert not run.simulator.world.folios[PAGE].state & READAHEAD


@one_of_each_size
def test_row_5_the_marker_of_a_read_around(setting):
    """The window goes from page 0 to `ahead`; fault-around skips the page with the marker.

    At 64K there is no marker, and the next page of the window is ready.
    """
    _, ahead, async_pages = setting.windows
    page = ahead - max(async_pages, 1)
    scenario = setting.story(
        one("first", touch(ahead // 2 if async_pages else 0)),
        one("second", after(3_000_000), touch(page)),
    )
    run = Run(scenario, traced="second")

    second = setting.cell(MARKED if async_pages else READY)
    first = setting.cell(ABSENT)
    assert account_of(run, "second") == written({"second": second, "first": first})
    folios = run.simulator.world.folios
    found = [page for page in range(3 * ahead) if folios[page].state & READAHEAD]
    assert found == ([ahead] if async_pages else []), "of the next window"


def test_row_6_a_ready_page_under_writeback_with_pg_reclaim(setting):
    scenario = setting.story(
        one("adviser", drop_clean_pages()),
        one("reader", after(50_000), touch(PAGE)),
        data=[dirty(PAGE)],
        write_ns=500_000,
        costs_ns={"retry": 10_000},
    )
    run = Run(scenario, traced="reader")

    cell = setting.cell(UNDER_WRITEBACK)
    assert account_of(run, "reader") == written({"reader": cell})
    reader = run.faults["reader"]
    assert reader["wait_folio_ns"] == reader["wait_device_ns"] == reader["reads"] == 0
    assert (reader["cpu_ns"] > 400_000) == ("…" in cell), "its time is spent on the CPU"


def held_for_read_ns(run: Run, lock: str) -> int:
    rows = run.simulator.summary().locks
    return sum(row.hold_total_ns for row in rows if (row.lock, row.mode) == (lock, "read"))


def test_row_7_a_page_that_is_dropped_between_the_attempts(setting):
    """Whoever comes back finds nothing of the window: all of it is read again."""
    scenario = setting.story(
        one("reader", touch(PAGE)),
        one("adviser", after(1_050_000), drop_clean_pages()),
        costs_ns={"retry": 100_000},
    )
    run = Run(scenario, traced="reader")

    cell = setting.cell(DROPPED)
    assert account_of(run, "reader") == written({"reader": cell})
    reads = 2 if "PM2" in cell else 1
    assert run.faults["reader"]["reads"] == reads
    assert run.metrics["device.pages"] == reads * setting.windows.ahead
    if reads == 2:
        lock = "mmap_lock" if "M(TRIED)" in cell else "vma_lock"
        assert held_for_read_ns(run, lock) > READ_NS, "the second one waits with its lock held"


@of_small_pages
def test_row_7_a_page_that_is_reclaimed_between_the_attempts(setting):
    """Three others of the memcg, which is full, make room for what they read meanwhile.

    What comes first in its list is `other`, and then the first 31 pages that the reader has
    read: the batch of its CPU was full then. Larger pages would all be in the batch. The reader
    comes back when the others have what they read, and can be made room in again.
    """
    scenario = setting.story(
        one("reader", touch(PAGE)),
        ThreadGroup("hogs", 3, (after(1_050_000), touch_each(range(400, 700, 100)))),
        costs_ns={"retry": 5_000_000},
        charged_pages_max=OTHER_PAGES + setting.windows.ahead + 1,
    )
    run = Run(scenario, traced="reader")

    cell = setting.cell(DROPPED)
    found = account_of(run, "reader")
    assert found.attempts == written({"reader": cell}).attempts
    assert found.faults["reader"] == written({"reader": cell}).faults["reader"]
    lost = cell.count("PM2")
    assert (run.faults["reader"]["reads"] > 1) == (lost > 0)
    assert run.metrics["faults.reads_lost"] >= lost


def test_row_8_a_mapping_whose_fault_method_needs_mmap_lock(setting):
    scenario = setting.story(one("reader", touch(PAGE)), kind=FileKind.SPECIAL, attempts_max=100)
    run = Run(scenario, traced="reader")

    cell = setting.cell(SPECIAL)
    assert account_of(run, "reader") == written({"reader": cell})
    stop = StopReason.NO_PROGRESS if "for ever" in cell else StopReason.FINISHED
    assert run.simulator.summary().stop == stop


def test_row_29_an_absent_page_that_gets_the_marker_itself(setting):
    """The window is cut at the end of the file, its last quarter is not.

    At 64K that is nothing, and the page is any page.
    """
    _, ahead, async_pages = setting.windows
    page = DATA_PAGES - max(async_pages, 1)
    run = Run(setting.story(one("reader", touch(page))), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(MARKED_ITSELF)})
    assert run.metrics["device.pages"] == ahead // 2 + DATA_PAGES - page
    is_marked = run.simulator.world.folios[page].state & READAHEAD != 0
    assert is_marked == (async_pages > 0), "the bit stays set"


SLOW_READAHEAD = {"readahead": 100_000}  # time for another one to miss as well


def test_row_32_two_readers_both_miss_the_same_page(setting):
    scenario = setting.story(
        one("first", touch(PAGE)), elsewhere=[one("second", touch(PAGE))], costs_ns=SLOW_READAHEAD
    )
    run = Run(scenario, traced="second")

    cells = dict.fromkeys(("second", "first"), setting.cell(ABSENT))
    assert account_of(run, "second") == written(cells)
    assert run.metrics["device.pages"] == setting.windows.ahead, "each page is read once"
    assert run.faults["second"]["reads"] == 0, "it just waits"


@one_of_each_size
def test_row_32_in_one_process_the_first_to_wait_maps_the_page_for_both(setting):
    scenario = setting.story(
        one("first", touch(PAGE)), one("second", touch(PAGE)), costs_ns=SLOW_READAHEAD
    )

    first = mapped_by_the_quicker_one(setting, ABSENT)
    cells = {"second": setting.cell(ABSENT), "first": first}
    assert told(scenario, "second") == written(cells), "the second adds no page, so it waits first"


@one_of_each_size
def test_rows_29_and_32_the_second_attempt_waits_with_its_lock_held(setting):
    """Both missed, so both have TRIED set: no drop when one finds the folio locked by the other.

    Getting ready to retry takes long enough for both to have left their first attempts.
    """
    page = DATA_PAGES - max(setting.windows.marked, 1)
    scenario = setting.story(
        one("first", touch(page)),
        elsewhere=[one("second", touch(page))],
        costs_ns=SLOW_READAHEAD | {"retry": 20_000, "map_page": 100_000},
    )
    run = Run(scenario, traced="first")

    cells = dict.fromkeys(("first", "second"), setting.cell(MARKED_ITSELF))
    assert account_of(run, "first") == written(cells)
    assert run.faults["first"]["wait_folio_ns"] > 90_000


class TestLoongArchBefore618:
    """It had no VMA lock: rows follow the M pattern of rows 11 and 31, whatever the policy."""

    PAGE_SIZES = pytest.mark.parametrize("page_bytes", [4096, 16384, 65536])

    def told(self, policy, page_bytes, *cast, **more):
        story = Setting("loongarch", page_bytes, policy).story(*cast, **more)
        scenario = replace(story, kernel=replace(story.kernel, generation="6.12"))
        return told(scenario, cast[0].name)

    @PAGE_SIZES
    def test_row_1(self, policy, page_bytes):
        found = self.told(policy, page_bytes, one("reader", touch(PAGE)), data=[CACHED])

        assert found == written({"reader": at_page_size(READY["mmap_lock_only"], page_bytes)})

    @PAGE_SIZES
    def test_row_2(self, policy, page_bytes):
        found = self.told(policy, page_bytes, one("reader", touch(PAGE)))

        cell = Setting("loongarch", page_bytes, policy).cell(KERNEL_MODE)
        assert found == written({"reader": cell})

    @PAGE_SIZES
    def test_row_4(self, policy, page_bytes):
        second = one("second", after(50_000), touch(BEFORE))
        found = self.told(policy, page_bytes, second, one("first", touch(PAGE)))

        setting = Setting("loongarch", page_bytes, policy)
        cells = {
            "second": setting.cell(KERNEL_MODE_BEING_READ),
            "first": setting.cell(KERNEL_MODE),
        }
        assert found == written(cells)

    @PAGE_SIZES
    def test_row_30(self, policy, page_bytes):
        found = self.told(policy, page_bytes, one("writer", write(PAGE)), writable=True)

        cell = Setting("loongarch", page_bytes, policy).cell(KERNEL_MODE_SHARED_WRITE)
        assert found == written({"writer": cell})
