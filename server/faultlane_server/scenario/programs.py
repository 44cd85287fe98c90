"""Programs: every step, what it names, and whether it gets anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from faultlane_server.scenario.address_space import (
    check_brk,
    check_exec,
    check_mmap,
    check_mremap,
    check_munmap,
    check_range_step,
)
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.durations import can_be_positive, check_duration, points_of
from faultlane_server.scenario.limits import (
    IDLE_ROUNDS_MAX,
    INT64_MAX,
    NESTING_MAX,
)
from faultlane_server.scenario.memory import pages
from faultlane_server.scenario.others import check_file_step, check_kill, check_process_step
from faultlane_server.scenario.special import check_on_a_vma
from faultlane_server.scenario.touches import check_touch
from faultlane_server.scenario.tree import (
    Barrier,
    Brk,
    ClearRefs,
    Compute,
    Exec,
    FadviseDontneed,
    Fork,
    Ftruncate,
    Khugepaged,
    Kill,
    Loop,
    Madvise,
    Mbind,
    Measure,
    Migrate,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munlock,
    Munmap,
    NumaScan,
    Prctl,
    PunchHole,
    ReadMaps,
    ReadSmaps,
    Sleep,
    Step,
    SyncFileRange,
    Touch,
    UserfaultfdClose,
    UserfaultfdCopy,
    UserfaultfdRegister,
    UserfaultfdWriteprotect,
)
from faultlane_server.scenario.violations import Place

# The field of `Step` that holds it.
_FIELD_OF: dict[type, str] = {
    Touch: "touch",
    Compute: "compute",
    Sleep: "sleep",
    Mmap: "mmap",
    Munmap: "munmap",
    Mremap: "mremap",
    Brk: "brk",
    Mprotect: "mprotect",
    Madvise: "madvise",
    Mlock: "mlock",
    Munlock: "munlock",
    Mbind: "mbind",
    Prctl: "prctl",
    Exec: "exec",
    ReadSmaps: "read_smaps",
    ReadMaps: "read_maps",
    ClearRefs: "clear_refs",
    Khugepaged: "khugepaged",
    NumaScan: "numa_scan",
    Fork: "fork",
    Ftruncate: "ftruncate",
    PunchHole: "punch_hole",
    SyncFileRange: "sync_file_range",
    FadviseDontneed: "fadvise_dontneed",
    UserfaultfdRegister: "userfaultfd_register",
    UserfaultfdCopy: "userfaultfd_copy",
    UserfaultfdWriteprotect: "userfaultfd_writeprotect",
    UserfaultfdClose: "userfaultfd_close",
    Migrate: "migrate",
    Kill: "kill",
    Barrier: "barrier",
    Measure: "measure",
    Loop: "loop",
}


def check_program(place: Place, program: Sequence[Step], author: Author) -> tuple[Step, ...]:
    """Check the program of a group and return it filled in."""
    filled = _steps(place, program, author, depth=0)
    threads, needs = author.threads, author.needs
    for name, reserved_bytes in author.reserved_bytes.items():
        times = 2 if author.hugetlb.get(name) else 1
        needs.pages += threads * (pages(reserved_bytes, author.page_bytes(name)) + 1) * times
        needs.vmas += threads
        needs.vma_places += threads
    return filled


def _steps(place: Place, steps: Sequence[Step], author: Author, depth: int) -> tuple[Step, ...]:
    if not steps:
        place.refuse("at least one step", 0)
    return tuple(_step(place.item(index), step, author, depth) for index, step in enumerate(steps))


def _step(place: Place, step: Step, author: Author, depth: int) -> Step:
    author.needs.steps += 1
    place = place.field(_FIELD_OF[type(step)])
    match step:
        case Touch():
            return check_touch(place, step, author)
        case Compute() | Sleep():
            check_duration(place.field("duration"), step.duration)
            author.needs.quantile_points += points_of(step.duration)
            return step
        case Mmap():
            return check_mmap(place, step, author)
        case Munmap():
            return check_munmap(place, step, author)
        case Mremap():
            return check_mremap(place, step, author)
        case Brk():
            return check_brk(place, step, author)
        case Exec():
            return check_exec(place, step, author)
        case ReadSmaps() | ReadMaps() | ClearRefs():
            return check_process_step(place, step, author)
        case Fork():
            check_duration(place.field("child"), step.child)
            author.needs.quantile_points += points_of(step.child)
            return step
        case Kill():
            return check_kill(place, step, author)
        case UserfaultfdRegister() | UserfaultfdCopy() | UserfaultfdWriteprotect() | Migrate():
            return check_on_a_vma(place, step, author)
        case UserfaultfdClose():
            return step
        case Ftruncate() | PunchHole() | SyncFileRange() | FadviseDontneed():
            return check_file_step(place, step, author)
        case Barrier():
            place.field("name").want_name(step.name)
            author.needs.barriers.add((author.process, step.name))
            return step
        case Measure():
            place.field("name").want_name(step.name)
            author.needs.sections.add(step.name)
            return replace(step, steps=_inner_steps(place, step, author, depth))
        case Loop():
            return _loop(place, step, author, depth)
        case _:
            return check_range_step(place, step, author)


def _inner_steps(
    place: Place, step: Measure | Loop, author: Author, depth: int
) -> tuple[Step, ...]:
    if depth == NESTING_MAX:
        place.refuse(f"loops and measures at most {NESTING_MAX} deep", "deeper")
        return ()
    return _steps(place.field("steps"), step.steps, author, depth + 1)


def _loop(place: Place, loop: Loop, author: Author, depth: int) -> Loop:
    place.field("count").want_between(0, INT64_MAX, loop.count)
    before = set(author.mapped_bytes)
    filled = replace(loop, steps=_inner_steps(place, loop, author, depth))
    odd = before ^ set(author.mapped_bytes)
    if odd and loop.count != 1:
        want = "every mmap in a loop with its munmap in the same loop"
        place.field("steps").refuse(want, ", ".join(sorted(odd)))
    if filled.steps:
        _check_takes_time(place, filled, author.hardware.costs_ns)
    return filled


def _check_takes_time(place: Place, loop: Loop, costs_ns: Mapping[str, int]) -> None:
    if _takes_time(loop, costs_ns):
        return
    if loop.count == 0:
        place.field("steps").refuse("a step that takes time: the loop has no end", "none")
    elif _idle_steps(loop) > IDLE_ROUNDS_MAX:
        want = f"at most {IDLE_ROUNDS_MAX} steps in a row that take no time"
        place.field("count").refuse(want, loop.count)


def _takes_time(step: Step, costs_ns: Mapping[str, int]) -> bool:
    match step:
        case Touch():
            return costs_ns["touch"] > 0
        case Compute() | Sleep():
            return can_be_positive(step.duration)
        case Measure() | Loop():
            return any(_takes_time(inner, costs_ns) for inner in step.steps)
        case Barrier():
            return False
        case _:  # a system call
            return costs_ns["syscall"] + costs_ns[_FIELD_OF[type(step)]] > 0


def _idle_steps(step: Step) -> int:
    """Return how many steps it makes, if none of them takes time."""
    if not isinstance(step, Loop | Measure):
        return 1
    rounds = step.count if isinstance(step, Loop) else 1
    return rounds * sum(map(_idle_steps, step.steps))
