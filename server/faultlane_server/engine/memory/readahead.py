"""Readahead of file mappings: which window is read, and where its marker goes.

Rules of mm/filemap.c (do_sync_mmap_readahead, do_async_mmap_readahead) and
mm/readahead.c, Linux 6.12, order-0 folios. The state belongs to the struct file.
A plan stands in the thread as `ra_start`, `ra_end` and `ra_marker`; an empty one
means that nothing is read.
"""

from faultlane_server.codes import Advice
from faultlane_server.engine import device, sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import memcg, page_cache
from faultlane_server.engine.world import HOLE, LOCKED, PRESENT, READAHEAD, UPTODATE

MMAP_LOTSAMISS = 100
MMAP_MISS_MAX = 10 * MMAP_LOTSAMISS


@compiled
def plan_sync(world, thread):
    """Plan what is read for a page that is not cached. Returns whether anything is.

    With random access, without a window, or after many misses nothing is planned:
    the fault reads its page by itself.
    """
    fault = world.threads[thread]
    opened = world.opens[fault.open]
    advice = world.vmas[fault.vma].advice
    if advice == Advice.RANDOM or opened.ra_pages == 0:
        return False
    if advice == Advice.SEQUENTIAL:
        _plan_sequential(world, fault, opened)
        return True
    opened.mmap_miss = min(opened.mmap_miss + 1, MMAP_MISS_MAX)
    if opened.mmap_miss > MMAP_LOTSAMISS:
        return False
    opened.ra_start = max(0, fault.file_page - opened.ra_pages // 2)
    opened.ra_size = opened.ra_pages
    opened.ra_async = opened.ra_pages // 4
    _plan(world, fault, opened.ra_start, opened.ra_size, opened.ra_async)
    return True


@compiled
def _plan_sequential(world, fault, opened):
    """Plan for VM_SEQ_READ (page_cache_sync_ra asked for a whole window).

    Only the start of a file begins a stream; elsewhere the window is read by
    itself and leaves no state.
    """
    if fault.file_page > 0:
        _plan(world, fault, fault.file_page, opened.ra_pages, 0)
        return
    opened.ra_start = 0
    opened.ra_size = opened.ra_pages
    opened.ra_async = opened.ra_pages // 2
    _plan(world, fault, 0, opened.ra_size, opened.ra_async)


@compiled
def plan_async(world, thread):
    """Plan the next window behind a marker (page_cache_async_ra). Returns whether there is one."""
    fault = world.threads[thread]
    opened = world.opens[fault.open]
    if fault.file_page == opened.ra_start + opened.ra_size - opened.ra_async:
        opened.ra_start += opened.ra_size
        opened.ra_size = _next_size(opened.ra_size, opened.ra_pages)
    else:
        hole = _next_hole(world, fault.file, fault.file_page + 1, opened.ra_pages)
        if hole < 0:
            return False
        opened.ra_start = hole
        distance = hole - fault.file_page
        opened.ra_size = _next_size(distance + opened.ra_pages, opened.ra_pages)
    opened.ra_async = opened.ra_size
    _plan(world, fault, opened.ra_start, opened.ra_size, opened.ra_async)
    return fault.ra_start < fault.ra_end


@compiled
def _next_size(pages, pages_max):
    """Return the size of the window after one of `pages` (get_next_ra_size)."""
    if pages < pages_max // 16:
        return 4 * pages
    if pages <= pages_max // 2:
        return 2 * pages
    return pages_max


@compiled
def _next_hole(world, file, page, pages):
    """Return the first page that is not cached within `pages` pages, or -1."""
    first = world.files[file].first
    for candidate in range(page, page + pages):
        if candidate >= world.files[file].pages:
            return candidate
        if not world.folios[first + candidate].state & PRESENT:
            return candidate
    return -1


@compiled
def _plan(world, fault, start, pages, async_pages):
    """Clip a window to the file. The marker keeps its distance from the clipped end."""
    end = min(start + pages, world.files[fault.file].pages)
    fault.ra_start = min(start, end)
    fault.ra_end = end
    fault.ra_marker = end - async_pages if async_pages > 0 else -1


@compiled
def begin(world, thread, now_ns, step):
    """Set the planned window up; `step` goes on with it."""
    reader = world.threads[thread]
    reader.ra_at = reader.ra_start
    reader.ra_gap = -1
    reader.ra_is_due = 0
    sched.burst(world, thread, now_ns, world.config.cost.readahead_ns, step)


@compiled
def go_on(world, thread, now_ns, step):
    """Add the pages of the window to the cache and submit them; returns whether that was all.

    If not, the thread pays for what it has done, and `step` goes on: it has reclaimed memory for a
    page, or is about to submit those that it has added. Each gap that it fills is one request. A
    page that is cached is skipped, and a hole is filled at once; the marker is set only on a page
    that was not there. When a page cannot be charged the window ends before it, silently.
    """
    reader = world.threads[thread]
    file = world.files[reader.file]
    if reader.ra_is_due:
        reader.ra_is_due = 0
        gap = file.first + reader.ra_gap
        device.read(world, thread, file.device_id, gap, reader.ra_at - reader.ra_gap, now_ns)
        reader.ra_gap = -1
    while reader.ra_at < reader.ra_end:
        state = world.folios[file.first + reader.ra_at].state
        if reader.ra_gap >= 0 and state & (PRESENT | HOLE):
            break
        if not state & PRESENT:
            if not memcg.charge_weakly(world, thread, now_ns):
                reader.ra_end = reader.ra_at
                break
            _add(world, thread, file.first + reader.ra_at)
        reader.ra_at += 1
        if reader.reclaim_owed_ns > 0:
            sched.burst(world, thread, now_ns, 0, step)
            return False
    if reader.ra_gap < 0:
        return True
    reader.ra_is_due = 1
    sched.burst(world, thread, now_ns, world.config.cost.submit_ns, step)
    return False


@compiled
def _add(world, thread, number):
    """Add the page that the window has come to."""
    reader = world.threads[thread]
    cost = world.config.cost
    state = READAHEAD if reader.ra_at == reader.ra_marker else 0
    sched.owe(world, thread, cost.readahead_page_ns)
    if world.folios[number].state & HOLE:
        state |= UPTODATE
        sched.owe(world, thread, cost.zero_page_ns)
    else:
        state |= LOCKED
        if reader.ra_gap < 0:
            reader.ra_gap = reader.ra_at
    page_cache.add(world, thread, number, state)
