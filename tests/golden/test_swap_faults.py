"""Rows of the kernel model's table of golden scenarios, as whole runs: pages that are in swap."""

import pytest

from faultlane_server.codes import DeviceKind, FileKind
from faultlane_server.engine.memory.charges import BATCH
from tests.golden.account import account_of, written
from tests.golden.story import (
    CACHED,
    OTHER_PAGES,
    READ_NS,
    Run,
    after,
    one,
    swapped,
    touch,
    write,
)
from tests.golden.table import (
    COW,
    COW_READY,
    SHMEM_SWAPPED,
    SWAPPED,
    SWAPPED_BEING_READ,
    SWAPPED_TO_ZRAM,
    SWAPPED_TO_ZRAM_BEING_READ,
)

pytestmark = pytest.mark.uncompiled_too

PAGE = 112
IN_SWAP = {"anonymous": True, "swapped_pages": range(PAGE, PAGE + 4), "writable": True}
ON_DISK = {**IN_SWAP, "swap": DeviceKind.BLOCK}
IN_ZRAM = {**IN_SWAP, "swap": DeviceKind.SYNCHRONOUS}


@pytest.mark.parametrize("access", [touch, write], ids=["read", "write"])
def test_row_14_a_page_that_is_in_swap_on_a_disk(setting, access):
    run = Run(setting.story(one("thread", access(PAGE)), **ON_DISK), traced="thread")

    assert account_of(run, "thread") == written({"thread": setting.cell(SWAPPED)})
    thread = run.faults["thread"]
    assert thread["wait_device_ns"] == pytest.approx(READ_NS, rel=0.01)
    assert (thread["reads"], run.metrics["vmstat.pswpin"]) == (1, 1)


def test_row_14_a_page_that_readahead_has_in_the_swap_cache(setting):
    """The second of two faults in order reads the page behind its own as well."""
    scenario = setting.story(
        one("first", touch(PAGE), touch(PAGE + 1)),
        one("second", after(3 * READ_NS // 2), touch(PAGE + 2)),
        **ON_DISK,
    )
    run = Run(scenario, traced="second")

    cells = {
        "second": setting.cell(SWAPPED_BEING_READ),
        "first": [setting.cell(SWAPPED)] * 2,
    }
    assert account_of(run, "second") == written(cells)
    assert run.faults["second"]["reads"] == 0
    assert run.metrics["vmstat.pswpin"] == 3


@pytest.mark.parametrize("access", [touch, write], ids=["read", "write"])
def test_row_15_a_page_that_is_in_swap_on_zram(setting, access):
    run = Run(setting.story(one("thread", access(PAGE)), **IN_ZRAM), traced="thread")

    assert account_of(run, "thread") == written({"thread": setting.cell(SWAPPED_TO_ZRAM)})
    thread = run.faults["thread"]
    assert (thread["wait_device_ns"], thread["wait_folio_ns"]) == (0, 0)
    assert thread["cpu_ns"] > READ_NS, "it is read on the CPU"


@pytest.mark.parametrize("late_ns", [0, READ_NS // 2])
def test_row_16_two_threads_fault_on_one_page_in_zram(setting, late_ns):
    scenario = setting.story(
        one("winner", touch(PAGE)), one("loser", after(5_000 + late_ns), touch(PAGE)), **IN_ZRAM
    )
    run = Run(scenario, traced="loser")

    cells = {
        "loser": setting.cell(SWAPPED_TO_ZRAM_BEING_READ),
        "winner": setting.cell(SWAPPED_TO_ZRAM),
    }
    assert account_of(run, "loser") == written(cells)
    assert run.faults["loser"]["wait_swap_cache_ns"] > 0.9 * (READ_NS - late_ns) - 5_000
    assert run.metrics["touches.count"] == 2


def test_row_18_a_page_of_tmpfs_that_is_in_swap_on_a_disk(setting):
    scenario = setting.story(
        one("reader", touch(PAGE)),
        kind=FileKind.TMPFS,
        data=[swapped(PAGE)],
        swap=DeviceKind.BLOCK,
    )
    run = Run(scenario, traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(SHMEM_SWAPPED)})
    assert run.faults["reader"]["wait_device_ns"] == pytest.approx(READ_NS, rel=0.01)


def test_row_19_each_attempt_of_a_private_write_charges_its_page_anew(setting):
    """And lets go of it when it is retried. Nothing is short, so nothing goes to swap."""
    scenario = setting.story(
        one("writer", write(0), write(PAGE)),
        data=[CACHED._replace(length=1)],
        private=True,
        writable=True,
        swap=DeviceKind.BLOCK,
        charged_pages_max=4096,
    )
    run = Run(scenario, traced="writer")

    cell = setting.cell(COW)
    assert account_of(run, "writer") == written({"writer": [setting.cell(COW_READY), cell]})
    world = run.simulator.world
    assert world.swap_used == run.metrics["vmstat.pswpout"] == 0
    there_at_first, given_back = 1 + OTHER_PAGES, int("RETRY" in cell)
    usage = world.memcgs[1].usage
    assert usage == there_at_first + BATCH - given_back, "one batch was enough"
    stocks = sum(world.cpus["stock"][: int(world.config.cpus)])
    assert usage - stocks == there_at_first + setting.windows.ahead + 2
