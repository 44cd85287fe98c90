"""What MGLRU pays for a look at page tables before a new generation."""

from dataclasses import replace

import pytest

from faultlane_server.codes import LruKind
from faultlane_server.scenario import Device, Fixed, check
from tests.engine.small_stories import US, Memory, Played, a_story, one, touch

pytestmark = pytest.mark.uncompiled_too

TABLE_PAGES = 512
LOOK_NS = 1000  # at an entry


def played(enabled: int, look_ns: int) -> Played:
    """Read pages of the first of two page tables."""
    story = a_story(
        one("reader", *(touch(page % 70) for page in range(110))),
        data_pages=2 * TABLE_PAGES,
        fault_around=False,
        disk=Device("disk", Fixed(10 * US), channels=8, readahead_bytes=0),
        memory=Memory(most=64, lru=LruKind.MGLRU),
        costs_ns={"walk_page": look_ns},
    )
    return Played(check(replace(story, kernel=replace(story.kernel, lru_gen_enabled=enabled))))


def tables_and_walks(enabled: int) -> tuple[float, int]:
    """Return how many tables were looked at entry by entry, by what it has cost, and the walks."""
    dear, free = played(enabled, LOOK_NS), played(enabled, 0)
    spent_ns = [sum(row["wait_reclaim_ns"] for row in run.faults) for run in (dear, free)]
    assert dear["lru_gen.walks"] == free["lru_gen.walks"] > 1
    return (spent_ns[0] - spent_ns[1]) / (LOOK_NS * TABLE_PAGES), dear["lru_gen.walks"]


def test_a_walk_looks_at_every_entry_of_every_page_table() -> None:
    tables, walks = tables_and_walks(3)

    assert tables == 2 * walks


def test_with_non_leaf_young_bits_it_looks_into_page_tables_that_were_accessed_alone() -> None:
    tables, walks = tables_and_walks(7)

    assert 0 < tables <= walks
