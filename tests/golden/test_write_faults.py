"""Rows of the kernel model's table of golden scenarios, as whole runs: writes to file mappings."""

import pytest

from faultlane_server.codes import FaultLock, FileKind
from tests.golden.account import account_of, told, written
from tests.golden.setting import one_of_each_size
from tests.golden.story import CACHED, Run, after, dirty, mprotect, munmap_page, one, write
from tests.golden.table import (
    COW,
    COW_FIRST,
    COW_FIRST_TRYLOCK_FAILS,
    COW_READY,
    SHARED_WRITE,
    SHARED_WRITE_ABSENT,
    SHARED_WRITE_OF_NO_INTEREST,
)

pytestmark = pytest.mark.uncompiled_too

PAGE = 112


def test_row_17_a_shared_write_to_a_ready_page(setting):
    run = Run(setting.story(one("writer", write(PAGE)), data=[CACHED], writable=True), "writer")

    cell = setting.cell(SHARED_WRITE)
    assert account_of(run, "writer") == written({"writer": cell})
    assert run.metrics["faults.completed"] == cell.count("COMPLETED")


@one_of_each_size
@pytest.mark.parametrize("data", [[], [CACHED]], ids=["absent", "cached"])
def test_row_17_the_first_write_to_a_page_of_tmpfs(setting, data):
    """It has no page_mkwrite, but the folio was clean before."""
    story = setting.story(one("writer", write(PAGE)), data=data, writable=True, kind=FileKind.TMPFS)

    assert told(story, "writer") == written({"writer": setting.cell(SHARED_WRITE)})


@one_of_each_size
def test_row_17_a_page_that_is_dirty_already(setting):
    """It is page_mkwrite that counts then."""
    story = setting.story(one("writer", write(PAGE)), data=[dirty(PAGE)], writable=True)

    assert told(story, "writer") == written({"writer": setting.cell(SHARED_WRITE)})


@one_of_each_size
def test_row_17_a_page_of_tmpfs_that_is_dirty_already(setting):
    """It has no page_mkwrite, and the folio was not clean: nothing is dropped."""
    scenario = setting.story(
        one("writer", after(50_000), write(PAGE)),
        elsewhere=[one("first", write(PAGE))],
        writable=True,
        kind=FileKind.TMPFS,
    )

    cells = {"writer": setting.cell(SHARED_WRITE_OF_NO_INTEREST)}
    cells["first"] = setting.cell(SHARED_WRITE)
    assert told(scenario, "writer") == written(cells)


def test_row_19_a_private_write_to_an_absent_page(setting):
    """The first of the two writes gives the VMA its anon_vma."""
    scenario = setting.story(
        one("writer", write(0), write(PAGE)),
        data=[CACHED._replace(length=1)],
        private=True,
        writable=True,
    )

    cells = [setting.cell(COW_READY), setting.cell(COW)]
    assert told(scenario, "writer") == written({"writer": cells})


def test_row_19_without_anon_vma(setting):
    scenario = setting.story(one("writer", write(PAGE)), private=True, writable=True)

    assert told(scenario, "writer") == written({"writer": setting.cell(COW_FIRST)})


def test_row_19_without_anon_vma_while_mmap_lock_is_held_for_write(setting):
    """By a writer of another VMA, which lets go of it long before the page is read."""
    scenario = setting.story(
        one("protector", mprotect("other")),
        one("writer", after(20_000), write(PAGE)),
        private=True,
        writable=True,
        costs_ns={"mprotect": 100_000},
    )

    cell = setting.cell(COW_FIRST_TRYLOCK_FAILS)
    assert told(scenario, "writer") == written({"writer": cell})


def test_row_30_a_shared_write_to_an_absent_page(setting):
    scenario = setting.story(one("writer", write(PAGE)), writable=True)

    assert told(scenario, "writer") == written({"writer": setting.cell(SHARED_WRITE_ABSENT)})


@one_of_each_size
def test_row_30_page_mkwrite_runs_with_the_fault_lock_held(setting):
    """A munmap of another page has to wait for it."""
    scenario = setting.story(
        one("writer", write(PAGE)),
        one("unmapper", after(1_050_000), munmap_page(0, page_bytes=setting.page_bytes)),
        writable=True,
        costs_ns={"page_mkwrite": 100_000},
    )

    run = Run(scenario)
    unmapper = run.operations["unmapper"]
    is_vma = run.faults["writer"]["lock"] == FaultLock.VMA
    assert unmapper["wait_vma_ns" if is_vma else "wait_mmap_lock_ns"] > 40_000
    assert unmapper["blocker"] == 0, "the writer"
