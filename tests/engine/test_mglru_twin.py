"""MGLRU in the engine against a naive twin: what is read, and what is in which generation."""

import os
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import pytest

from faultlane_server.codes import NOBODY, Advice, LruKind
from faultlane_server.engine.world import GENERATIONS, Counter, Lru
from faultlane_server.scenario import Device, FileMapping, Fixed, Vma, check
from tests.engine.mglru_twin import Twin
from tests.engine.small_stories import (
    PAGE,
    READ_WRITE,
    US,
    Memory,
    Played,
    a_story,
    heap,
    one,
    touch,
    write,
)

pytestmark = pytest.mark.uncompiled_too

IS_UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
LIMIT = 64
PAGES = 160
COUNT = 120 if IS_UNCOMPILED else 2500


class Outcome(NamedTuple):
    """What the reads of some pages come to."""

    majors: list[bool]
    generations: dict[int, list[int]]
    refaults: int
    activations: int
    restores: int


def played(
    pages: list[int],
    limit: int = LIMIT,
    *,
    arch: str = "x86",
    enabled: int = 7,
    advice: Advice = Advice.NORMAL,
    anonymous: int = 0,
) -> Outcome:
    """Let the engine read pages, after a thread has written some of anonymous memory."""
    fills = [write(page, vma="heap") for page in range(anonymous)]
    disk = Device("disk", Fixed(10 * US), channels=8, readahead_bytes=0)
    story = a_story(
        one("reader", *fills, *(touch(page) for page in pages)),
        vmas=[Vma("data", PAGES * PAGE, FileMapping("data"), 0, READ_WRITE, advice), heap(100)],
        data_pages=PAGES,
        fault_around=False,
        arch=arch,
        disk=disk,
        memory=Memory(most=limit, lru=LruKind.MGLRU),
        horizon_ns=10**11,
    )
    run = Played(check(replace(story, kernel=replace(story.kernel, lru_gen_enabled=enabled))))
    assert run.ended
    touched = {row["touch"] for row in run.faults if row["major"]}
    counters = run.world.tally.counters
    return Outcome(
        [number + anonymous in touched for number in range(len(pages))],
        _generations(run.world),
        int(counters[Counter.WORKINGSET_REFAULT_FILE]),
        int(counters[Counter.WORKINGSET_ACTIVATE_FILE]),
        int(counters[Counter.WORKINGSET_RESTORE_FILE]),
    )


def _generations(world: Any) -> dict[int, list[int]]:
    """Return the pages of the file in each generation, the head first."""
    group = world.memcgs[1]
    found = {}
    for seq in range(int(group.min_seq[1]), int(group.max_seq) + 1):
        pages = []
        number = int(group.lists[Lru.GENERATIONS_FILE + seq % GENERATIONS].first)
        while number != NOBODY:
            pages.append(number - int(world.files[0].first))
            number = int(world.folios[number].lru_next)
        found[seq] = pages
    return found


def foretold(twin: Twin, pages: list[int]) -> Outcome:
    majors = [twin.read(page) for page in pages]
    return Outcome(majors, twin.generations, twin.refaults, twin.activations, twin.restores)


def with_anonymous(twin: Twin, pages: int) -> Twin:
    for _ in range(pages):
        twin.write_anonymous()
    return twin


def a_twin(limit: int = LIMIT, **facts: Any) -> Twin:
    return Twin(limit, PAGES, **facts)


def around_a_hot_part(seed: int, hot: int, count: int = COUNT) -> list[int]:
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


def anywhere(seed: int) -> list[int]:
    """Return a walk that favours the pages in front."""
    random = Random(seed)
    return [min(random.randrange(PAGES), random.randrange(PAGES)) for _ in range(COUNT)]


WALKS = {
    "round and round": [number % PAGES for number in range(COUNT)],
    "just too many": [number % 70 for number in range(COUNT)],
    "a hot part that just fits": around_a_hot_part(1, 30),
    "a hot part that does not fit": around_a_hot_part(2, 55),
    "anywhere": anywhere(3),
}
each_walk = pytest.mark.parametrize("pages", WALKS.values(), ids=WALKS)


@each_walk
@pytest.mark.parametrize("enabled", [1, 7])
def test_the_twin_foretells_every_generation(pages: list[int], enabled: int) -> None:
    twin = a_twin(walks=enabled & 2 != 0)

    assert played(pages, enabled=enabled) == foretold(twin, pages)


@each_walk
@pytest.mark.parametrize("advice", [Advice.RANDOM, Advice.SEQUENTIAL])
def test_the_twin_foretells_what_is_read_without_recency(pages: list[int], advice: Advice) -> None:
    twin = a_twin(walks=True, has_recency=False)

    assert played(pages, advice=advice) == foretold(twin, pages)


@pytest.mark.parametrize("enabled", [3, 5])
def test_walks_have_a_bit_of_their_own(enabled: int) -> None:
    twin = a_twin(walks=enabled & 2 != 0)

    assert played(anywhere(4), enabled=enabled) == foretold(twin, anywhere(4))


@pytest.mark.parametrize(("arch", "around"), [("riscv", 64), ("s390", 64), ("arm", 32)])
def test_the_twin_foretells_architectures_that_never_walk(arch: str, around: int) -> None:
    pages = around_a_hot_part(6, 55)

    assert played(pages, arch=arch) == foretold(a_twin(around=around), pages)


@pytest.mark.parametrize("limit", [65, 80, 100, 128, 129])
def test_the_twin_foretells_them_with_other_limits(limit: int) -> None:
    pages = around_a_hot_part(limit, limit * 3 // 4)

    assert played(pages, limit) == foretold(a_twin(limit, walks=True), pages)


@pytest.mark.parametrize("anonymous", [1, 40, 100])
@pytest.mark.parametrize("enabled", [1, 7])
def test_anonymous_memory_that_has_to_stay_is_as_if_it_were_not_there(
    anonymous: int, enabled: int
) -> None:
    pages = around_a_hot_part(5, 50)
    twin = with_anonymous(a_twin(LIMIT + 100, walks=enabled & 2 != 0), anonymous)

    got = played(pages, LIMIT + 100, enabled=enabled, anonymous=anonymous)

    assert got == foretold(twin, pages)


WRONG: dict[str, dict[str, Any]] = {
    "walks": {"walks": True},
    "no recency": {"has_recency": False},
    "ages only when it has to": {"ages_late": True},
    "evicts what was accessed": {"forgets_the_young": True},
    "looks at half of the neighbours": {"around": 32},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_twin_that_is_wrong_is_caught(wrong: dict[str, Any]) -> None:
    pages = around_a_hot_part(2, 55, 3000)

    assert foretold(a_twin(), pages) != foretold(a_twin(**wrong), pages)
