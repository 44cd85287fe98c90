"""Stories of huge pages of hugetlb: VMAs of some of them, a file `huge`, and pools of any size."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from faultlane_server.codes import FileKind, PageState
from faultlane_server.scenario import (
    ByteRange,
    File,
    FileRange,
    HugePages,
    HugetlbMapping,
    Scenario,
    ThreadGroup,
    Vma,
    check,
)
from tests.engine.small_stories import READ_WRITE, Played, a_story
from tests.engine.special_stories import FIRST_WITH_VMA_LOCK

HUGE = 2 << 20
SMALL_PAGES = HUGE // 4096
CLEAR_NS = SMALL_PAGES * 150  # as the neutral profile has it
COPY_NS = SMALL_PAGES * 250
WRITTEN = (ByteRange(),)


def huge(name: str = "huge", pages: int = 4, mapped: Sequence[ByteRange] = (), **more: Any) -> Vma:
    """Return a VMA of huge pages: anonymous ones, or those of a file."""
    return Vma(name, pages * HUGE, HugetlbMapping(**more), 0, READ_WRITE, mapped=tuple(mapped))


def a_huge_story(
    *cast: ThreadGroup,
    vmas: Sequence[Vma],
    pool: int = 8,
    cached: int = 0,
    elsewhere: Sequence[ThreadGroup] = (),
    **more: Any,
) -> Scenario:
    """Make a story with a pool, and a file of eight pages of which the first ones are `cached`.

    Whoever is `elsewhere` is in a process of its own that has the same VMAs.
    """
    there = (FileRange(PageState.CACHED, 0, cached * HUGE),) if cached else ()
    file = File("huge", 8 * HUGE, "", there, FileKind.HUGETLB)
    generation = FIRST_WITH_VMA_LOCK.get(more.get("arch", "x86"), "6.12")
    chosen = {"generation": generation} | more
    pool_of_all = HugePages(HUGE, pool)
    story = a_story(*cast, vmas=vmas, huge_pages=pool_of_all, files=(file,), **chosen)
    (app,) = story.workload.processes
    others = [replace(app, name=group.name, groups=(group,)) for group in elsewhere]
    workload = replace(story.workload, processes=(app, *others))
    cpus = story.machine.cpus + sum(group.threads for group in elsewhere)
    machine = replace(story.machine, cpus=cpus)
    return check(replace(story, workload=workload, machine=machine))


def play_huge(*cast: ThreadGroup, traced: str = "app", **more: Any) -> Played:
    return Played(a_huge_story(*cast, **more), traced)


def pool_of(played: Played) -> tuple[int, int]:
    """Return how many huge pages are free, and how many of these are reserved."""
    pool = played.world.hugetlb
    return int(pool.free), int(pool.reserved)
