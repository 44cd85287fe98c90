"""Programs: every step, what it names, and whether it gets anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from faultlane_server.codes import Madvice
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.durations import can_be_positive, check_duration, points_of
from faultlane_server.scenario.limits import (
    IDLE_ROUNDS_MAX,
    INT64_MAX,
    MMAP_BYTES_MAX,
    NESTING_MAX,
)
from faultlane_server.scenario.memory import check_protection, check_range, pages
from faultlane_server.scenario.others import check_file_step, check_kill
from faultlane_server.scenario.special import check_on_a_vma
from faultlane_server.scenario.touches import check_touch
from faultlane_server.scenario.tree import (
    Barrier,
    Compute,
    FadviseDontneed,
    Fork,
    Ftruncate,
    Kill,
    Loop,
    Madvise,
    Measure,
    Migrate,
    Mmap,
    Mprotect,
    Munmap,
    PunchHole,
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
    Mprotect: "mprotect",
    Madvise: "madvise",
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
    page_bytes, threads, needs = author.hardware.page_bytes, author.threads, author.needs
    for reserved_bytes in author.reserved_bytes.values():
        needs.pages += threads * (pages(reserved_bytes, page_bytes) + 1)
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
            return _mmap(place, step, author)
        case Munmap():
            return _munmap(place, step, author)
        case Mprotect():
            return _mprotect(place, step, author)
        case Madvise():
            return _madvise(place, step, author)
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


def _mmap(place: Place, step: Mmap, author: Author) -> Mmap:
    name, length = place.field("name"), place.field("length_bytes")
    name.want_name(step.name)
    if step.name in author.vmas:
        name.refuse("a name that no VMA of the process has", step.name)
    if step.name in author.mapped_bytes:
        name.refuse("a name that was unmapped before it is mapped again", step.name)
    page_bytes = author.hardware.page_bytes
    if length.want_multiple(page_bytes, step.length_bytes):
        length.want_between(page_bytes, MMAP_BYTES_MAX, step.length_bytes)
    author.mapped_bytes[step.name] = step.length_bytes
    reserved_bytes = max(step.length_bytes, author.reserved_bytes.get(step.name, 0))
    author.reserved_bytes[step.name] = reserved_bytes
    return step


def _munmap(place: Place, step: Munmap, author: Author) -> Munmap:
    author.needs.vma_places += 2 * author.threads
    if step.vma in author.mapped_bytes:
        return _munmap_all(place, step, author.mapped_bytes.pop(step.vma))
    if not place.field("vma").want_known(author.vmas, step.vma):
        return step
    author.needs.vmas += 2 * author.threads
    return replace(step, length_bytes=_length_in_vma(place, step, author))


def _munmap_all(place: Place, step: Munmap, length_bytes: int) -> Munmap:
    """Check the munmap of what the thread has mapped, which goes as a whole."""
    if step.offset_bytes != 0:
        place.field("offset_bytes").refuse("0 for a name bound by mmap", step.offset_bytes)
    if step.length_bytes not in (0, length_bytes):
        want = f"0 or {length_bytes}, all that was mapped"
        place.field("length_bytes").refuse(want, step.length_bytes)
    return replace(step, length_bytes=length_bytes)


def _mprotect(place: Place, step: Mprotect, author: Author) -> Mprotect:
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    check_protection(place.field("protection"), step.protection)
    return replace(step, length_bytes=_length_for_threads(place, step, author))


def _madvise(place: Place, step: Madvise, author: Author) -> Madvise:
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    place.field("advice").want_one_of(list(Madvice), step.advice)
    return replace(step, length_bytes=_length_for_threads(place, step, author))


def _length_for_threads(place: Place, step: Mprotect | Madvise, author: Author) -> int:
    """Check the ranges of all threads, and return the length of each."""
    distance = place.field("thread_offset_bytes")
    is_whole = distance.want_multiple(author.hardware.page_bytes, step.thread_offset_bytes)
    if not place.field("vma").want_known(author.vmas, step.vma):
        return step.length_bytes
    length_bytes = _length_in_vma(place, step, author)
    last_bytes = step.offset_bytes + step.thread_offset_bytes * (author.threads - 1) + length_bytes
    if is_whole and step.thread_offset_bytes and last_bytes > author.vmas[step.vma].length_bytes:
        distance.refuse("the ranges of all threads inside the VMA", step.thread_offset_bytes)
    return length_bytes


def _length_in_vma(place: Place, step: Munmap | Mprotect | Madvise, author: Author) -> int:
    end_bytes, page_bytes = author.vmas[step.vma].length_bytes, author.hardware.page_bytes
    return check_range(place, step.offset_bytes, step.length_bytes, end_bytes, page_bytes)
