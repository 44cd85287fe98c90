"""Rows of the kernel model's table of golden scenarios, as whole runs: reads that fail."""

import pytest

from tests.golden.account import account_of, written
from tests.golden.setting import one_of_each_size
from tests.golden.story import Run, not_uptodate, one, touch
from tests.golden.table import ABSENT, ABSENT_RANDOM, NEVER_UPTODATE, NOT_UPTODATE, UNREADABLE

pytestmark = pytest.mark.uncompiled_too

PAGE = 112


def test_row_23_a_page_of_which_every_read_fails(setting):
    """The readahead fails, then F8, and then F8 again unless the first one decided."""
    run = Run(setting.story(one("reader", touch(PAGE)), bad=[PAGE]), traced="reader")

    cell = setting.cell(UNREADABLE)
    assert account_of(run, "reader") == written({"reader": cell})
    reads = 3 if "RETRY" in cell else 2
    assert run.faults["reader"]["reads"] == run.metrics["device.read_errors"] == reads
    assert run.metrics["faults.sigbus"] == 1


@one_of_each_size
def test_row_23_each_read_that_fails_in_the_fault_itself_shrinks_the_window_to_a_quarter(setting):
    """Of the struct file, so that the next fault reads less; with nothing left it is row 3."""
    run = Run(setting.story(one("reader", touch(PAGE), touch(500)), bad=[PAGE]), traced="reader")

    reads = run.log[0]["reads"]
    ahead = setting.windows.ahead
    shrunk = ahead // 4 ** (reads - 1)
    second = setting.cell(ABSENT if shrunk else ABSENT_RANDOM)
    assert account_of(run, "reader") == written({"reader": [setting.cell(UNREADABLE), second]})
    assert run.metrics["device.pages"] == ahead + (reads - 1) + max(shrunk, 1)


def test_row_27_a_cached_page_that_is_not_up_to_date(setting):
    """One read, and no PGMAJFAULT for it: the page was in the cache."""
    run = Run(setting.story(one("reader", touch(PAGE)), data=[not_uptodate(PAGE)]), "reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(NOT_UPTODATE)})
    assert run.faults["reader"]["reads"] == run.metrics["device.pages"] == 1


def test_row_28_a_cached_page_that_never_gets_up_to_date(setting):
    """Every attempt reads it once more. Where the error is never looked at there is no end."""
    scenario = setting.story(
        one("reader", touch(PAGE)), data=[not_uptodate(PAGE)], bad=[PAGE], horizon_ns=8_000_000
    )
    run = Run(scenario, traced="reader")

    cell = setting.cell(NEVER_UPTODATE)
    assert account_of(run, "reader") == written({"reader": cell})
    reads = 8 if "for ever" in cell else cell.count("→")
    assert run.faults["reader"]["reads"] == reads
    assert run.metrics["faults.sigbus"] == cell.count("SIGBUS")
