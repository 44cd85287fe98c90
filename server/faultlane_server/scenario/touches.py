"""Touches: which pages, in which order."""

from dataclasses import replace
from itertools import accumulate

from faultlane_server.codes import Access
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.limits import ADDRESS_MAX, INT64_MAX, LIST_MAX, THETA_PPM_MAX
from faultlane_server.scenario.memory import check_range, reach_bytes, without_room
from faultlane_server.scenario.tree import (
    Explicit,
    Sequential,
    Stride,
    Touch,
    Uniform,
    Zipf,
)
from faultlane_server.scenario.violations import Place


def check_touch(place: Place, touch: Touch, author: Author) -> Touch:
    """Check one touch step and return it filled in."""
    access = place.field("access")
    access.want_one_of([0, *Access], touch.access)
    if touch.kernel_mode and touch.access == Access.EXEC:
        access.refuse("READ or WRITE in kernel mode, which executes no user page", touch.access)
    place.field("count").want_between(0, INT64_MAX // author.threads, touch.count)
    end_bytes = _end(place.field("vma"), touch.vma, author)
    touch = replace(touch, access=touch.access or Access.READ)
    if isinstance(touch.pattern, Explicit):
        return _list(place, touch, touch.pattern, end_bytes, author)
    return _walk(place, touch, end_bytes, author)


def _end(place: Place, name: str, author: Author) -> int:
    """Return where the VMA of that name ends, or a harmless place if there is none."""
    if name in author.mapped_bytes:
        return author.mapped_bytes[name]
    if not place.want_known(author.vmas, name):
        return ADDRESS_MAX
    return reach_bytes(author.vmas[name])


def _list(place: Place, touch: Touch, explicit: Explicit, end_bytes: int, author: Author) -> Touch:
    author.needs.list_entries += len(explicit.page_deltas)
    author.needs.cursors += author.threads
    for name, value in (("offset_bytes", touch.offset_bytes), ("length_bytes", touch.length_bytes)):
        if value:
            place.field(name).refuse("nothing beside explicit", value)
    _check_list(
        place.field("explicit"), explicit, end_bytes // author.page_bytes(touch.vma), author
    )
    return replace(touch, count=touch.count or explicit.slice or len(explicit.page_deltas))


def _check_list(place: Place, explicit: Explicit, pages: int, author: Author) -> None:
    deltas, entries = place.field("page_deltas"), len(explicit.page_deltas)
    if not 1 <= entries <= LIST_MAX:
        deltas.refuse(f"1 to {LIST_MAX} entries", entries)
        return
    for index, page in enumerate(accumulate(explicit.page_deltas)):
        if not 0 <= page < pages:
            deltas.item(index).refuse(f"a page of the VMA, 0 to {pages - 1}", page)
            break
    share = place.field("slice")
    share.want_between(0, entries, explicit.slice)
    if explicit.slice * author.threads > entries:
        want = f"at most {entries // author.threads}, for {author.threads} threads"
        share.refuse(want, explicit.slice)


def _walk(place: Place, touch: Touch, end_bytes: int, author: Author) -> Touch:
    page_bytes = author.page_bytes(touch.vma)
    length_bytes = check_range(place, touch.offset_bytes, touch.length_bytes, end_bytes, page_bytes)
    if touch.vma in author.vmas:
        vma = author.vmas[touch.vma]
        length_bytes = without_room(vma, touch.offset_bytes, touch.length_bytes) or length_bytes
    pages = length_bytes // page_bytes
    match touch.pattern:
        case Sequential(divided):
            author.needs.cursors += author.threads
            if divided and pages < author.threads:
                want = f"a page for each of the {author.threads} threads that divide the part"
                place.field("length_bytes").refuse(want, length_bytes)
        case Stride():
            author.needs.cursors += author.threads
            _check_stride(place.field("stride"), touch.pattern, author.threads, page_bytes)
        case Zipf(theta_ppm):
            place.field("zipf").field("theta_ppm").want_between(1, THETA_PPM_MAX, theta_ppm)
            author.needs.zipf_pages += pages
        case Uniform():
            pass
    return replace(touch, count=touch.count or 1, length_bytes=length_bytes)


def _check_stride(place: Place, stride: Stride, threads: int, page_bytes: int) -> None:
    distance = place.field("stride_bytes")
    if distance.want_multiple(page_bytes, stride.stride_bytes):
        distance.want_between(page_bytes, ADDRESS_MAX, stride.stride_bytes)
    shift = place.field("thread_offset_bytes")
    if shift.want_multiple(page_bytes, stride.thread_offset_bytes):
        shift.want_between(0, ADDRESS_MAX, stride.thread_offset_bytes * threads)
