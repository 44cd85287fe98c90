"""Row 3 of the table once more: not random by advice, but by what the struct file has seen."""

import pytest

from faultlane_server.scenario import ThreadGroup
from tests.golden.story import Run, a_story, after, one, told, touch, touch_each, written
from tests.golden.table import DERIVED, FROM_THE_TABLE, ROWS

APART = 64  # pages: windows of read-around do not overlap


@pytest.mark.parametrize("arch", ["x86", "arm64"])
@pytest.mark.parametrize("policy", FROM_THE_TABLE + DERIVED)
@pytest.mark.parametrize(("misses", "row", "pages"), [(99, 2, 32), (100, 3, 1)])
def test_row_3_read_around_ends_after_a_hundred_misses(arch, policy, misses, row, pages):
    """Each of the others misses before any of them has mapped what it read."""
    others = touch_each(range(32, misses * APART, APART))
    scenario = a_story(
        ThreadGroup("others", misses, (others,)),
        one("reader", after(2_000_000), touch(misses * APART + 32)),
        data_pages=(misses + 1) * APART,
        arch=arch,
        policy=policy,
        cpus=8,
        read_ns=20_000_000,
    )

    others_told = [ROWS[2][policy]] * misses
    assert told(scenario) == written({"others": others_told, "reader": ROWS[row][policy]})
    assert Run(scenario).metrics["device.pages"] == misses * 32 + pages
