"""The classic LRU of the engine against a naive twin: which accesses have to read their page."""

from random import Random

import pytest

from faultlane_server.scenario import Device, Fixed
from tests.engine.lru_twin import Twin
from tests.engine.small_stories import US, Memory, Played, a_story, one, touch

pytestmark = pytest.mark.uncompiled_too

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


def without_hits(seed: int, count: int, pages: int) -> list[int]:
    """Return a walk on which a page comes again soon, or late, but hardly ever while it is in."""
    random = Random(seed)
    at = 0
    walk = []
    for _ in range(count):
        at += 1 if random.random() < 0.9 else random.randint(2, 5)
        walk.append(at % pages)
    return walk


WALKS = {
    "round and round": [number % PAGES for number in range(400)],
    "just too many": [number % 70 for number in range(400)],
    "a few rounds each": [number % 100 for number in range(300)] + list(range(100, 160)) * 3,
    **{f"walk {seed}": without_hits(seed, 350, 90 + 10 * seed) for seed in range(5)},
}


@pytest.mark.parametrize("pages", WALKS.values(), ids=WALKS)
def test_the_twin_foretells_every_major_fault(pages: list[int]) -> None:
    assert majors(pages) == foretold(Twin(LIMIT), pages)


@pytest.mark.parametrize("limit", [64, 65, 80, 100, 128, 129])
def test_the_twin_foretells_them_with_other_limits(limit: int) -> None:
    pages = without_hits(limit, 350, PAGES)

    assert majors(pages, limit) == foretold(Twin(limit), pages)


WRONG = {
    "no second chance": {"has_second_chance": False},
    "a distance that is far too long": {"distance_error": 1000},
    "a smaller batch": {"add_batch": 15},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_twin_that_is_wrong_is_caught(wrong: dict[str, int]) -> None:
    differs = [
        name
        for name, pages in WALKS.items()
        if foretold(Twin(LIMIT), pages) != foretold(Twin(LIMIT, **wrong), pages)
    ]

    assert differs


@pytest.mark.parametrize("seed", range(4))
def test_the_twin_foretells_them_where_pages_are_used_again(seed: int) -> None:
    """A hit on a mapped page makes its entry young."""
    random = Random(seed)
    pages = [int(random.paretovariate(0.6)) % PAGES for _ in range(500)]

    assert majors(pages) == foretold(Twin(LIMIT), pages)
