"""The page cache: adding pages, and reading them."""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import device
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import LOCKED, PRESENT, READAHEAD, UPTODATE


@compiled
def is_present(folio):
    return folio.state & PRESENT != 0


@compiled
def is_ready(folio):
    """Whether fault-around may map a folio (next_uptodate_folio)."""
    return folio.state & (PRESENT | UPTODATE | LOCKED | READAHEAD) == PRESENT | UPTODATE


@compiled
def add(folio, state):
    """Put a page into the cache, in a state, with nobody referring to it."""
    folio.state = PRESENT | state
    folio.refs = 0
    folio.holder = NOBODY


@compiled
def read_window(world, thread, now_ns):
    """Add the planned window to the cache and submit it, one read for each gap that it fills.

    A page that is cached is skipped; the marker is set only on a page that was not.
    """
    fault = world.threads[thread]
    file = world.files[fault.file]
    gap = -1
    for page in range(file.first + fault.ra_start, file.first + fault.ra_end):
        folio = world.folios[page]
        if is_present(folio):
            if gap >= 0:
                device.submit(world, thread, file.device_id, gap, page - gap, now_ns)
            gap = -1
            continue
        add(folio, LOCKED | READAHEAD if page == file.first + fault.ra_marker else LOCKED)
        if gap < 0:
            gap = page
    if gap >= 0:
        pages = file.first + fault.ra_end - gap
        device.submit(world, thread, file.device_id, gap, pages, now_ns)


@compiled
def clear_marker(folio):
    folio.state &= 0xFFFF ^ READAHEAD
