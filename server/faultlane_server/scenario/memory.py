"""Files, VMAs, and ranges of either."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from faultlane_server.codes import Advice, FileKind, PageState, Protection
from faultlane_server.scenario.hugetlb import file_page_bytes, vma_page_bytes
from faultlane_server.scenario.limits import (
    ADDRESS_MAX,
    FILES_MAX,
    OPEN_CHARACTERS_MAX,
    UINT64_MAX,
)
from faultlane_server.scenario.machine import Hardware
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    ByteRange,
    File,
    FileMapping,
    FileRange,
    HugetlbMapping,
    UserfaultfdModes,
    Vma,
)
from faultlane_server.scenario.violations import Place

CACHED = (PageState.CACHED, PageState.CACHED_READAHEAD, PageState.DIRTY)
PRESENT = (*CACHED, PageState.NOT_UPTODATE)
ONLY_ANONYMOUS = ("grows_down_bytes", "device_private", "device_exclusive", "userfaultfd")
NOT_HUGETLB = (*ONLY_ANONYMOUS, "swapped", "numa_hinted", "room_bytes")
IN_MEMORY = (PageState.ABSENT, PageState.CACHED, PageState.SWAPPED)  # without a device


def pages(length_bytes: int, page_bytes: int) -> int:
    """Return how many pages some bytes take."""
    return -(-length_bytes // page_bytes)


def check_range(
    place: Place, offset_bytes: int, length_bytes: int, end_bytes: int, page_bytes: int
) -> int:
    """Check a range that lies before `end_bytes`, and return its length: 0 means up to there."""
    offset, length = place.field("offset_bytes"), place.field("length_bytes")
    aligned = offset.want_multiple(page_bytes, offset_bytes)
    aligned &= length.want_multiple(page_bytes, length_bytes)
    rest_bytes = end_bytes - offset_bytes
    if not aligned:
        return length_bytes
    if rest_bytes <= 0:
        offset.refuse(f"less than {end_bytes}", offset_bytes)
    elif length_bytes > rest_bytes:
        length.refuse(f"at most {rest_bytes} from there", length_bytes)
    return length_bytes or rest_bytes


def check_protection(place: Place, protection: Sequence[Protection]) -> None:
    """Check that everything that may be done is named once."""
    for index, member in enumerate(protection):
        place.item(index).want_one_of(list(Protection), member)
        if member in protection[:index]:
            place.item(index).refuse("each at most once", member)
            return


def check_file(place: Place, file: File, hardware: Hardware) -> File:
    """Check one file and return it filled in."""
    place.field("size_bytes").want_between(1, UINT64_MAX, file.size_bytes)
    file = replace(file, kind=file.kind or FileKind.REGULAR, copies=file.copies or 1)
    place.field("copies").want_between(1, FILES_MAX, file.copies)
    if place.field("kind").want_one_of(list(FileKind), file.kind):
        _check_kind(place, file, hardware)
    page_bytes = file_page_bytes(file, hardware)
    end_bytes = file_end(file, page_bytes)
    ranges = place.field("initial")
    filled = [
        _file_range(ranges.item(index), part, end_bytes, page_bytes)
        for index, part in enumerate(file.initial)
    ]
    bad = check_ranges(place.field("bad"), file.bad, end_bytes, page_bytes)
    return replace(file, initial=tuple(filled), bad=bad)


def _check_kind(place: Place, file: File, hardware: Hardware) -> None:
    """Check what only some kinds of files have: a device, and pages that are in any state."""
    if file.kind == FileKind.REGULAR:
        place.field("device").want_known(hardware.devices, file.device)
        for index, part in enumerate(file.initial):
            if part.state == PageState.SWAPPED:
                want = "SWAPPED only for a file of kind TMPFS"
                place.field("initial").item(index).field("state").refuse(want, part.state)
        return
    kind = FileKind(file.kind).name
    if file.device:
        place.field("device").refuse(f"nothing for a file of kind {kind}", file.device)
    if file.bad:
        place.field("bad").refuse(f"nothing for a file of kind {kind}", len(file.bad))
    if file.kind == FileKind.SPECIAL:
        if file.initial:
            place.field("initial").refuse("nothing for a file of kind SPECIAL", len(file.initial))
        return
    if file.kind == FileKind.HUGETLB:
        _check_hugetlb_file(place, file, hardware)
        return
    for index, part in enumerate(file.initial):
        if part.state not in IN_MEMORY:
            want = "ABSENT, CACHED or SWAPPED for a file that no device has"
            place.field("initial").item(index).field("state").refuse(want, part.state)
        if part.state == PageState.SWAPPED and not hardware.swap_bytes:
            want = "SWAPPED only on a machine with swap"
            place.field("initial").item(index).field("state").refuse(want, part.state)


def _check_hugetlb_file(place: Place, file: File, hardware: Hardware) -> None:
    """Check a file of hugetlbfs: whole huge pages, there or not."""
    if not hardware.huge_page_bytes:
        place.field("kind").refuse("HUGETLB only on a machine with huge_pages", file.kind)
    place.field("size_bytes").want_multiple(file_page_bytes(file, hardware), file.size_bytes)
    if file.copies > 1:
        place.field("copies").refuse("0 or 1 for a file of kind HUGETLB", file.copies)
    for index, part in enumerate(file.initial):
        if part.state not in (PageState.ABSENT, PageState.CACHED):
            want = "ABSENT or CACHED for a file of kind HUGETLB"
            place.field("initial").item(index).field("state").refuse(want, part.state)


def check_ranges(
    place: Place, ranges: Sequence[ByteRange], end_bytes: int, page_bytes: int
) -> tuple[ByteRange, ...]:
    """Check ranges that lie before `end_bytes`, and return them with their lengths."""
    lengths = [
        check_range(place.item(index), part.offset_bytes, part.length_bytes, end_bytes, page_bytes)
        for index, part in enumerate(ranges)
    ]
    return tuple(
        replace(part, length_bytes=length) for part, length in zip(ranges, lengths, strict=True)
    )


def file_end(file: File, page_bytes: int) -> int:
    """Return where the last page of a file ends."""
    return pages(file.size_bytes, page_bytes) * page_bytes


def check_vma(place: Place, vma: Vma, files: Mapping[str, File], hardware: Hardware) -> Vma:
    """Check one VMA and return it filled in."""
    page_bytes = vma_page_bytes(vma.backing, hardware)
    _check_place(place, vma, page_bytes)
    check_protection(place.field("protection"), vma.protection)
    place.field("advice").want_one_of([0, *Advice], vma.advice)
    filled = replace(
        vma,
        protection=vma.protection or (Protection.READ,),
        advice=vma.advice or Advice.NORMAL,
        mapped=_parts(place, vma, "mapped", page_bytes),
        swapped=_parts(place, vma, "swapped", page_bytes),
        device_private=_parts(place, vma, "device_private", page_bytes),
        device_exclusive=_parts(place, vma, "device_exclusive", page_bytes),
        numa_hinted=_parts(place, vma, "numa_hinted", page_bytes),
    )
    _check_swapped(place.field("swapped"), filled, hardware)
    check_backing(place, filled, files, hardware)
    _check_room(place, filled, page_bytes)
    return filled


def _check_swapped(place: Place, vma: Vma, hardware: Hardware) -> None:
    """Check what is in swap: pages of the VMA's own, each of them once."""
    if not vma.swapped:
        return
    if not hardware.swap_bytes:
        place.refuse("nothing on a machine without swap", len(vma.swapped))
    if isinstance(vma.backing, FileMapping) and not vma.backing.map_private:
        place.refuse("nothing for a shared mapping", len(vma.swapped))
    end_bytes = 0
    for part in sorted((*vma.swapped, *vma.mapped), key=lambda part: part.offset_bytes):
        if part.offset_bytes < end_bytes:
            place.refuse("ranges that keep clear of each other and of mapped", part.offset_bytes)
            return
        end_bytes = part.offset_bytes + part.length_bytes


def _parts(place: Place, vma: Vma, name: str, page_bytes: int) -> tuple[ByteRange, ...]:
    """Check the parts of a VMA that have a state when the run begins."""
    return check_ranges(place.field(name), getattr(vma, name), vma.length_bytes, page_bytes)


def _check_room(place: Place, vma: Vma, page_bytes: int) -> None:
    """Check the room that a VMA may grow into: it has a name if and only if it is there."""
    size, name = place.field("grows_down_bytes"), place.field("room")
    if not vma.grows_down_bytes:
        if vma.room:
            name.refuse("nothing without grows_down_bytes", vma.room)
        return
    name.want_name(vma.room)
    most = vma.address - page_bytes if vma.address else ADDRESS_MAX // 2
    if size.want_multiple(page_bytes, vma.grows_down_bytes):
        size.want_between(page_bytes, most, vma.grows_down_bytes)


def rooms(vmas: Sequence[Vma]) -> dict[str, Vma]:
    """Return the rooms that VMAs may grow into, by name."""
    return {
        vma.room: Vma(vma.room, vma.grows_down_bytes, AnonymousMapping())
        for vma in vmas
        if vma.room and vma.grows_down_bytes
    }


def check_room_names(place: Place, vmas: Sequence[Vma]) -> None:
    """Check that no room has the name of a VMA, or of another room."""
    taken = {vma.name for vma in vmas}
    for index, vma in enumerate(vmas):
        if vma.room and vma.room in taken:
            place.item(index).field("room").refuse("a name that is not taken", vma.room)
        taken.add(vma.room)


def reach_bytes(vma: Vma) -> int:
    """Return how long a VMA can become."""
    return vma.length_bytes + vma.room_bytes


def without_room(vma: Vma, offset_bytes: int, length_bytes: int) -> int:
    """Return how long a range without a length is that ends where the VMA ends at first, or 0."""
    return 0 if length_bytes else max(vma.length_bytes - offset_bytes, 0)


def check_no_overlaps(place: Place, vmas: Sequence[Vma]) -> None:
    """Check that the VMAs whose addresses are given keep clear of each other."""
    placed = [(vma.address, index) for index, vma in enumerate(vmas) if vma.address > 0]
    end, before = 0, ""
    for address, index in sorted(placed):
        vma = vmas[index]
        if address < end:
            place.item(index).field("address").refuse(
                f"at least {end:#x}, where VMA {before} ends", address
            )
        elif address - vma.grows_down_bytes < end:
            place.item(index).field("grows_down_bytes").refuse(
                f"at most {address - end}, down to where VMA {before} ends", vma.grows_down_bytes
            )
        if address + reach_bytes(vma) > end:
            end, before = address + reach_bytes(vma), vma.name


def check_mapped(place: Place, vma: Vma, cached: bytearray, page_bytes: int) -> None:
    """Check that what is mapped in a VMA of a file is in the page cache."""
    assert not isinstance(vma.backing, AnonymousMapping), "anonymous memory has no page cache"
    for index, part in enumerate(vma.mapped):
        first = (vma.backing.offset_bytes + part.offset_bytes) // page_bytes
        missing = cached.find(0, first, first + part.length_bytes // page_bytes)
        if missing >= 0:
            got = f"page {missing} of file {vma.backing.file}"
            place.field("mapped").item(index).refuse("pages in the page cache, up to date", got)


def cached_pages(file: File, page_bytes: int, states: tuple[PageState, ...] = CACHED) -> bytearray:
    """Return, for each page of a file, whether its state at the beginning is one of `states`."""
    cached = bytearray(pages(file.size_bytes, page_bytes))
    if file.kind == FileKind.SPECIAL:
        return bytearray(b"\1" * len(cached))
    for part in file.initial:
        first = part.offset_bytes // page_bytes
        chosen = range(first, first + part.length_bytes // page_bytes, part.every_pages)
        is_cached = part.state in states
        cached[chosen.start : chosen.stop : chosen.step] = bytes([is_cached]) * len(chosen)
    return cached


def _file_range(place: Place, part: FileRange, end_bytes: int, page_bytes: int) -> FileRange:
    place.field("state").want_one_of(list(PageState), part.state)
    place.field("every_pages").want_between(0, UINT64_MAX, part.every_pages)
    length_bytes = check_range(place, part.offset_bytes, part.length_bytes, end_bytes, page_bytes)
    return replace(part, length_bytes=length_bytes, every_pages=part.every_pages or 1)


def _check_place(place: Place, vma: Vma, page_bytes: int) -> None:
    length = place.field("length_bytes")
    if length.want_multiple(page_bytes, vma.length_bytes):
        length.want_between(page_bytes, ADDRESS_MAX - page_bytes, vma.length_bytes)
    room = place.field("room_bytes")
    if room.want_multiple(page_bytes, vma.room_bytes):
        room.want_between(0, ADDRESS_MAX - page_bytes, vma.room_bytes)
    address = place.field("address")
    if address.want_multiple(page_bytes, vma.address) and vma.address:
        last = ADDRESS_MAX - max(reach_bytes(vma), page_bytes)
        address.want_between(page_bytes, last, vma.address)


def check_backing(place: Place, vma: Vma, files: Mapping[str, File], hardware: Hardware) -> None:
    """Check what is behind a VMA: it lies in its file, with its room."""
    mapping = vma.backing
    if isinstance(mapping, HugetlbMapping):
        _check_hugetlb(place, vma, mapping, files, hardware)
    elif isinstance(mapping, FileMapping):
        _check_mapping(place, vma, mapping, files, hardware.page_bytes)


def _check_hugetlb(
    place: Place, vma: Vma, mapping: HugetlbMapping, files: Mapping[str, File], hardware: Hardware
) -> None:
    """Check a mapping of huge pages."""
    at = place.field("hugetlb")
    if not hardware.huge_page_bytes:
        at.refuse("a machine with huge_pages", None)
    _want_nothing(place, vma, NOT_HUGETLB, "nothing for huge pages of hugetlb")
    if not mapping.file:
        for name in ("offset_bytes", "map_private"):
            if getattr(mapping, name):
                at.field(name).refuse("nothing without file", getattr(mapping, name))
        return
    page_bytes = vma_page_bytes(mapping, hardware)
    known = at.field("file").want_known(files, mapping.file)
    if known and files[mapping.file].kind != FileKind.HUGETLB:
        at.field("file").refuse("a file of kind HUGETLB", mapping.file)
    elif at.field("offset_bytes").want_multiple(page_bytes, mapping.offset_bytes) and known:
        _check_in_file(place, at, vma, files[mapping.file], page_bytes)


def _want_nothing(place: Place, vma: Vma, names: Sequence[str], want: str) -> None:
    for name in names:
        if getattr(vma, name) not in (0, (), UserfaultfdModes()):
            place.field(name).refuse(want, name)


def _check_mapping(
    place: Place, vma: Vma, mapping: FileMapping, files: Mapping[str, File], page_bytes: int
) -> None:
    """Check a mapping of a file of small pages."""
    _want_nothing(place, vma, ONLY_ANONYMOUS, "nothing for a mapping of a file")
    at = place.field("file")
    if len(mapping.open) > OPEN_CHARACTERS_MAX:
        want = f"at most {OPEN_CHARACTERS_MAX} characters"
        at.field("open").refuse(want, f"{len(mapping.open)} characters")
    known = at.field("file").want_known(files, mapping.file)
    if known and files[mapping.file].kind == FileKind.HUGETLB:
        at.field("file").refuse("no file of kind HUGETLB, which is mapped by hugetlb", mapping.file)
    elif at.field("offset_bytes").want_multiple(page_bytes, mapping.offset_bytes) and known:
        _check_in_file(place, at, vma, files[mapping.file], page_bytes)


def _check_in_file(place: Place, at: Place, vma: Vma, file: File, page_bytes: int) -> None:
    """Check that a VMA lies in its file; `at` is what says where it begins."""
    mapping = vma.backing
    assert not isinstance(mapping, AnonymousMapping), "anonymous memory lies in no file"
    end_bytes = file_end(file, page_bytes)
    rest_bytes = end_bytes - mapping.offset_bytes
    if rest_bytes <= 0:
        offset = at.field("offset_bytes")
        offset.refuse(f"less than {end_bytes}, where file {file.name} ends", mapping.offset_bytes)
    elif vma.length_bytes > rest_bytes:
        want = f"at most {rest_bytes}, what file {file.name} has from offset_bytes on"
        place.field("length_bytes").refuse(want, vma.length_bytes)
    elif reach_bytes(vma) > rest_bytes:
        want = f"at most {rest_bytes - vma.length_bytes}, what file {file.name} has behind it"
        place.field("room_bytes").refuse(want, vma.room_bytes)
