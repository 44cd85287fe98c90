"""Stories of faults that few programs have: stacks, moved pages, userfaultfd and the like."""

from collections.abc import Sequence
from typing import Any

from faultlane_server.codes import FaultKind
from faultlane_server.scenario import AnonymousMapping, ByteRange, Step, ThreadGroup, Vma
from tests.engine.small_stories import PAGE, READ_WRITE, Played, a_story, one

WRITTEN = (ByteRange(),)
FIRST_WITH_VMA_LOCK = {"loongarch": "6.18"}


def anonymous(name: str = "heap", pages: int = 16, **more: Any) -> Vma:
    return Vma(name, pages * PAGE, AnonymousMapping(), 0, READ_WRITE, **more)


def a_stack(pages: int = 4, room_pages: int = 32) -> Vma:
    """Return a stack whose room has the name `below`."""
    return anonymous("stack", pages, grows_down_bytes=room_pages * PAGE, room="below")


def play(*cast: ThreadGroup, vmas: Sequence[Vma], traced: str = "app", **more: Any) -> Played:
    """Play a story on the first kernel of the architecture that has the VMA lock."""
    generation = FIRST_WITH_VMA_LOCK.get(more.get("arch", "x86"), "6.12")
    return Played(a_story(*cast, vmas=vmas, **{"generation": generation} | more), traced)


def alone(*steps: Step, vmas: Sequence[Vma], **more: Any) -> Played:
    return play(one("app", *steps), vmas=vmas, **more)


def kinds(played: Played) -> list[FaultKind]:
    return [FaultKind(row["kind"]) for row in played.faults]
