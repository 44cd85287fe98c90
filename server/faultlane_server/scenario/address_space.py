"""Steps that change the thread's address space: what they name, and whether it fits."""

from dataclasses import replace

from faultlane_server.codes import Madvice, Protection
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.hugetlb import ADVICE, vma_page_bytes
from faultlane_server.scenario.limits import (
    ANON_NAME_CHARACTERS_MAX,
    MMAP_BYTES_MAX,
    MMAP_HUGETLB_BYTES_MAX,
    TRAIT_MAX,
)
from faultlane_server.scenario.memory import (
    check_backing,
    check_protection,
    check_range,
    file_end,
    reach_bytes,
    without_room,
)
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    Brk,
    Exec,
    FileMapping,
    HugetlbMapping,
    Madvise,
    Mbind,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Prctl,
    RangeStep,
    Vma,
)
from faultlane_server.scenario.violations import Place


def check_mmap(place: Place, step: Mmap, author: Author) -> Mmap:
    """Check an mmap, at a place of its own or over a VMA."""
    length, page_bytes = place.field("length_bytes"), vma_page_bytes(step.hugetlb, author.hardware)
    if length.want_multiple(page_bytes, step.length_bytes):
        most_bytes = MMAP_HUGETLB_BYTES_MAX if step.hugetlb else MMAP_BYTES_MAX
        length.want_between(page_bytes, most_bytes, step.length_bytes)
    check_protection(place.field("protection"), step.protection)
    step = replace(step, protection=step.protection or (Protection.READ, Protection.WRITE))
    if step.hugetlb is not None:
        _check_hugetlb(place, step, step.hugetlb, author)
    else:
        _check_file(place, step, author)
    if step.over:
        _check_over(place, step, author)
    else:
        _name(place.field("name"), step, author)
        if step.over_offset_bytes:
            place.field("over_offset_bytes").refuse("0 without over", step.over_offset_bytes)
    return step


def _name(place: Place, step: Mmap, author: Author) -> None:
    """Check the name that an mmap gives, and remember it."""
    place.want_name(step.name)
    if step.name in author.vmas:
        place.refuse("a name that no VMA of the process has", step.name)
    if step.name in author.mapped_bytes:
        place.refuse("a name that was unmapped before it is mapped again", step.name)
    if (author.hugetlb.setdefault(step.name, step.hugetlb) is None) != (step.hugetlb is None):
        place.refuse("a name that means huge pages always, or never", step.name)
    author.mapped_bytes[step.name] = step.length_bytes
    author.mapped_files[step.name] = step.file
    _reserve(step.name, step.length_bytes, author)


def _reserve(name: str, length_bytes: int, author: Author) -> None:
    author.reserved_bytes[name] = max(length_bytes, author.reserved_bytes.get(name, 0))


def _check_file(place: Place, step: Mmap, author: Author) -> None:
    if not isinstance(step.file, FileMapping):
        if step.own_file:
            place.field("own_file").refuse("false without file", True)
        return
    author.needs.opens += author.threads
    vma = Vma("", step.length_bytes, step.file)
    check_backing(place, vma, author.files, author.hardware)
    if step.merge:
        place.field("merge").refuse("false for a file", True)
    if step.own_file and step.file.file in author.files:
        copies = author.files[step.file.file].copies
        if copies < author.threads:
            want = f"at least {author.threads} copies of file {step.file.file}"
            place.field("own_file").refuse(want, copies)


def _check_hugetlb(place: Place, step: Mmap, mapping: HugetlbMapping, author: Author) -> None:
    """Check an mmap of huge pages."""
    check_backing(place, Vma("", step.length_bytes, mapping), author.files, author.hardware)
    for name in ("file", "merge", "own_file", "over"):
        if getattr(step, name):
            place.field(name).refuse("nothing with hugetlb", getattr(step, name))


def _check_over(place: Place, step: Mmap, author: Author) -> None:
    """Check an mmap over a VMA of the process."""
    if step.name:
        place.field("name").refuse("nothing with over", step.name)
    if step.merge:
        place.field("merge").refuse("false with over", True)
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    if not place.field("over").want_known(author.vmas, step.over):
        return
    if isinstance(author.vmas[step.over].backing, HugetlbMapping):
        place.field("over").refuse("a VMA of small pages", step.over)
        return
    offset = place.field("over_offset_bytes")
    if offset.want_multiple(author.hardware.page_bytes, step.over_offset_bytes):
        end_bytes = reach_bytes(author.vmas[step.over])
        rest_bytes = end_bytes - step.over_offset_bytes
        if rest_bytes <= 0:
            offset.refuse(f"less than {end_bytes}", step.over_offset_bytes)
        elif step.length_bytes > rest_bytes:
            want = f"at most {rest_bytes}, what VMA {step.over} has from there on"
            place.field("length_bytes").refuse(want, step.length_bytes)


def check_munmap(place: Place, step: Munmap, author: Author) -> Munmap:
    """Check a munmap, of what the thread has mapped or of a VMA of the process."""
    author.needs.vma_places += 2 * author.threads
    if step.vma in author.mapped_bytes:
        author.mapped_files.pop(step.vma)
        return _munmap_all(place, step, author.mapped_bytes.pop(step.vma))
    if not place.field("vma").want_known(author.vmas, step.vma):
        return step
    author.needs.vmas += 2 * author.threads
    end_bytes, page_bytes = reach_bytes(author.vmas[step.vma]), author.page_bytes(step.vma)
    length_bytes = check_range(place, step.offset_bytes, step.length_bytes, end_bytes, page_bytes)
    return replace(step, length_bytes=length_bytes)


def _munmap_all(place: Place, step: Munmap, length_bytes: int) -> Munmap:
    """Check the munmap of what the thread has mapped, which goes as a whole."""
    if step.offset_bytes != 0:
        place.field("offset_bytes").refuse("0 for a name bound by mmap", step.offset_bytes)
    if step.length_bytes not in (0, length_bytes):
        want = f"0 or {length_bytes}, all that was mapped"
        place.field("length_bytes").refuse(want, step.length_bytes)
    return replace(step, length_bytes=length_bytes)


def check_mremap(place: Place, step: Mremap, author: Author) -> Mremap:
    """Check an mremap, of what the thread has mapped or of a VMA of the process."""
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    length = place.field("length_bytes")
    is_whole = length.want_multiple(author.page_bytes(step.vma), step.length_bytes)
    _want_small_pages(place.field("vma"), step.vma, author)
    if step.vma in author.mapped_bytes:
        if is_whole and step.length_bytes:
            most_bytes = _room_of_mapped(step.vma, author)
            length.want_at_most(most_bytes, step.length_bytes, "bytes")
            author.mapped_bytes[step.vma] = step.length_bytes
            _reserve(step.vma, step.length_bytes, author)
    elif place.field("vma").want_known(author.vmas, step.vma) and is_whole:
        most_bytes = reach_bytes(author.vmas[step.vma])
        length.want_at_most(most_bytes, step.length_bytes, "bytes, the VMA and its room")
    return step


def _room_of_mapped(name: str, author: Author) -> int:
    """Return how long a mapping of the thread can be: as long as its file, from its offset on."""
    mapping = author.mapped_files[name]
    if not isinstance(mapping, FileMapping) or mapping.file not in author.files:
        return MMAP_BYTES_MAX
    end_bytes = file_end(author.files[mapping.file], author.hardware.page_bytes)
    return min(MMAP_BYTES_MAX, end_bytes - mapping.offset_bytes)


def check_brk(place: Place, step: Brk, author: Author) -> Brk:
    """Check a brk: the heap is anonymous memory."""
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    if not place.field("vma").want_known(author.vmas, step.vma):
        return step
    heap = author.vmas[step.vma]
    if not isinstance(heap.backing, AnonymousMapping) and heap.backing != FileMapping(""):
        place.field("vma").refuse("a VMA of anonymous memory", step.vma)
    length = place.field("length_bytes")
    if length.want_multiple(author.hardware.page_bytes, step.length_bytes):
        length.want_at_most(reach_bytes(heap), step.length_bytes, "bytes, the VMA and its room")
    return step


def check_range_step(place: Place, step: RangeStep, author: Author) -> RangeStep:
    """Check a step that is about a range of a VMA, for each thread."""
    match step:
        case Mprotect():
            check_protection(place.field("protection"), step.protection)
        case Madvise():
            _check_advice(place.field("advice"), step, author)
        case _:
            _want_small_pages(place.field("vma"), step.vma, author)
    match step:
        case Mbind():
            place.field("policy").want_between(0, TRAIT_MAX, step.policy)
        case Prctl():
            if len(step.name) > ANON_NAME_CHARACTERS_MAX:
                want = f"at most {ANON_NAME_CHARACTERS_MAX} characters"
                place.field("name").refuse(want, f"{len(step.name)} characters")
            author.needs.anon_names.add(step.name)
    return replace(step, length_bytes=_length_for_threads(place, step, author))


def _is_hugetlb(name: str, author: Author) -> bool:
    """Whether a name means huge pages of hugetlb."""
    if name in author.vmas:
        return isinstance(author.vmas[name].backing, HugetlbMapping)
    return author.hugetlb.get(name) is not None


def _want_small_pages(place: Place, name: str, author: Author) -> None:
    if _is_hugetlb(name, author):
        place.refuse("a VMA of small pages", name)


def _check_advice(place: Place, step: Madvise, author: Author) -> None:
    if place.want_one_of(list(Madvice), step.advice) and _is_hugetlb(step.vma, author):
        place.want_one_of(ADVICE, step.advice)


def check_exec(place: Place, step: Exec, author: Author) -> Exec:
    """Check an exec: nobody else may live in the address space."""
    groups = author.processes[author.process].groups
    threads = sum(group.threads for group in groups)
    if threads > 1:
        place.refuse("a process with one thread", f"{threads} threads")
    return step


def _length_for_threads(place: Place, step: RangeStep, author: Author) -> int:
    """Check the ranges of all threads, and return the length of each."""
    author.needs.vmas += 2 * author.threads
    author.needs.vma_places += 2 * author.threads
    distance = place.field("thread_offset_bytes")
    page_bytes = author.page_bytes(step.vma)
    is_whole = distance.want_multiple(page_bytes, step.thread_offset_bytes)
    if step.vma not in author.vmas:
        place.field("vma").want_known(author.vmas, step.vma)
        return step.length_bytes
    vma = author.vmas[step.vma]
    end_bytes = reach_bytes(vma)
    length_bytes = check_range(place, step.offset_bytes, step.length_bytes, end_bytes, page_bytes)
    length_bytes = without_room(vma, step.offset_bytes, step.length_bytes) or length_bytes
    last_bytes = step.offset_bytes + step.thread_offset_bytes * (author.threads - 1) + length_bytes
    if is_whole and step.thread_offset_bytes and last_bytes > end_bytes:
        distance.refuse("the ranges of all threads inside the VMA", step.thread_offset_bytes)
    return length_bytes
