"""The classic LRU of the engine against a naive twin: which accesses have to read their page."""

import os
from random import Random
from typing import Any

import pytest

from faultlane_server.scenario import Device, Fixed
from tests.engine.lru_twin import Twin
from tests.engine.small_stories import US, Memory, Played, a_story, one, touch

pytestmark = pytest.mark.uncompiled_too

IS_UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
LIMIT = 64
PAGES = 160


def majors(pages: list[int], limit: int = LIMIT) -> list[bool]:
    """Return of each access whether it was a major fault, of those that faulted."""
    disk = Device("disk", Fixed(10 * US), channels=8, readahead_bytes=0)
    story = a_story(
        one("reader", *(touch(page) for page in pages)),
        data_pages=PAGES,
        fault_around=False,
        disk=disk,
        memory=Memory(most=limit),
        horizon_ns=10**11,
    )
    run = Played(story)
    assert run.ended
    touched = {row["touch"] for row in run.faults if row["major"]}
    return [number in touched for number in range(len(pages))]


def foretold(twin: Twin, pages: list[int]) -> list[bool]:
    return [twin.read(page) for page in pages]


def around_a_hot_part(seed: int, count: int, hot: int) -> list[int]:
    """Return a walk that goes through the file in order, and mostly back to its first pages."""
    random = Random(seed)
    cold = hot
    walk = []
    for _ in range(count):
        if random.random() < 0.7:
            walk.append(random.randrange(hot))
        else:
            walk.append(cold)
            cold = cold + 1 if cold + 1 < PAGES else hot
    return walk


COUNT = 150 if IS_UNCOMPILED else 3000
WALKS = {
    "round and round": [number % PAGES for number in range(COUNT)],
    "just too many": [number % 70 for number in range(COUNT)],
    "a hot part that just fits": around_a_hot_part(1, COUNT, 30),
    "a hot part that does not fit": around_a_hot_part(2, COUNT, 55),
}


@pytest.mark.parametrize("pages", WALKS.values(), ids=WALKS)
def test_the_twin_foretells_every_major_fault(pages: list[int]) -> None:
    assert majors(pages) == foretold(Twin(LIMIT), pages)


@pytest.mark.parametrize("limit", [65, 80, 100, 128, 129])
def test_the_twin_foretells_them_with_other_limits(limit: int) -> None:
    pages = around_a_hot_part(limit, COUNT, limit * 3 // 4)

    assert majors(pages, limit) == foretold(Twin(limit), pages)


WRONG: dict[str, dict[str, Any]] = {
    "no second chance": {"has_second_chance": False},
    "the distance of another age": {"distance_error": -1},
    "a smaller cluster": {"cluster": 16},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_twin_that_is_wrong_is_caught(wrong: dict[str, Any]) -> None:
    pages = around_a_hot_part(2, 3000, 55)

    assert foretold(Twin(LIMIT), pages) != foretold(Twin(LIMIT, **wrong), pages)
