"""Rows of the kernel model's table of golden scenarios, as whole runs: reads that fail."""

import pytest

from tests.golden.account import account_of, written
from tests.golden.story import Run, not_uptodate, one, touch
from tests.golden.table import NEVER_UPTODATE, NOT_UPTODATE, UNREADABLE

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
