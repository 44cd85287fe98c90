"""Row 3 of the table once more: not random by advice, but by what the struct file has seen."""

import pytest

from faultlane_server.scenario import ThreadGroup
from tests.golden.account import account_of, written
from tests.golden.setting import one_of_each_size
from tests.golden.story import Run, after, one, touch, touch_each
from tests.golden.table import ABSENT, ABSENT_RANDOM

APART = 64  # pages: windows of read-around do not overlap


@one_of_each_size
@pytest.mark.parametrize("misses", [99, 100])
def test_row_3_read_around_ends_after_a_hundred_misses(setting, misses):
    """Each of the others misses before any of them has mapped what it read."""
    others = touch_each(range(32, misses * APART, APART))
    scenario = setting.story(
        ThreadGroup("others", misses, (others,)),
        one("reader", after(2_000_000), touch(misses * APART + 32)),
        data_pages=(misses + 1) * APART,
        cpus=8,
        read_ns=20_000_000,
    )
    run = Run(scenario, traced="reader")

    row, pages = (ABSENT_RANDOM, 1) if misses == 100 else (ABSENT, setting.windows.ahead)
    cells = {"reader": setting.cell(row), "others": [setting.cell(ABSENT)] * misses}
    assert account_of(run, "reader") == written(cells)
    assert run.metrics["device.pages"] == misses * setting.windows.ahead + pages
