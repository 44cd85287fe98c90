"""Background writeback, and the pauses of those who make pages dirty (mm/page-writeback.c).

While more pages are dirty than `dirty_background_bytes`, or reclaim has found dirty pages,
requests are kept under way, file after file. A thread that has made some pages dirty pauses if
too many are dirty or under writeback. The kernel fits the pause to the speed of the device,
between 10 and 200 ms; here it is always PAUSE_NS. Pages are not written back because they are old.
"""

from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import page_cache
from faultlane_server.engine.queue import ID_BITS, Kind, push
from faultlane_server.engine.world import BACKGROUND, LOCKED

REQUESTS_MAX = 32  # under way at once; assumed
FLUSHER = (1 << ID_BITS) - 1  # whom the timer is for that wakes the flusher
PAUSE_NS = 10_000_000  # assumed


@compiled
def wake_flusher(world, now_ns):
    """Let background writeback begin, if there is too much to write and it is not at work.

    The flusher is a kernel thread: it takes as long as any other to wake up.
    """
    if not _has_work(world) or world.flusher_wakes:
        return
    config = world.config
    world.flusher_wakes = 1
    delay_ns = config.cost.wake_ns + config.cost.idle_exit_ns + config.cost.switch_ns
    push(world.queue, now_ns + delay_ns, Kind.TIMER, FLUSHER)


@compiled
def write_for_reclaim(world, now_ns):
    """Let all that is dirty be written: reclaim has found it (wakeup_flusher_threads)."""
    world.flush_wanted = world.dirty
    wake_flusher(world, now_ns)


@compiled
def _has_work(world):
    """Whether there are more dirty pages than may be, or reclaim wants them written."""
    config = world.config
    if world.dirty > 0 and world.flush_wanted > 0:
        return True
    return config.writes_back != 0 and world.dirty > config.dirty_background


@compiled
def flusher_woken(world, now_ns):
    """Begin. Its requests interrupt CPU 0, and its own time is not charged to anybody."""
    world.flusher_wakes = 0
    keep_going(world, 0, now_ns)


@compiled
def keep_going(world, cpu, now_ns):
    """Submit dirty pages while there are too many."""
    while _has_work(world) and world.flushing < REQUESTS_MAX:
        page = _next_page(world)
        if page < 0:
            return
        row = world.files[world.flush_file]
        world.folios[row.first + page].state |= BACKGROUND
        world.flushing += 1
        pages = page_cache.write_back(world, cpu, world.flush_file, page, row.pages, now_ns)
        row.write_next = page + pages
        world.flush_wanted = max(0, world.flush_wanted - pages)


@compiled
def _next_page(world):
    """Return the next dirty page of `flush_file`, moving on to other files, or -1."""
    for _ in range(world.config.files + 1):
        row = world.files[world.flush_file]
        if row.dirty > 0:
            for page in range(row.write_next, row.pages):
                folio = world.folios[row.first + page]
                if page_cache.needs_writeback(folio) and not folio.state & LOCKED:
                    return page
        row.write_next = 0
        world.flush_file = (world.flush_file + 1) % world.config.files
    return -1


@compiled
def written(world, folio):
    """Note that a request has completed, if it is one of background writeback."""
    if world.folios[folio].state & BACKGROUND:
        world.folios[folio].state ^= BACKGROUND
        world.flushing -= 1


@compiled
def has_to_pause(world, thread):
    """Whether a thread pauses: it has made many pages dirty, and there are many."""
    config = world.config
    if config.dirty_limit == 0 or world.threads[thread].dirtied < config.dirtied_pause:
        return False
    world.threads[thread].dirtied = 0
    return _held_back(world) > (config.dirty_limit + config.dirty_background) // 2


@compiled
def has_to_pause_again(world, thread):
    """Whether it goes on pausing: there are still more dirty pages than may be."""
    return not world.threads[thread].killed and _held_back(world) > world.config.dirty_limit


@compiled
def _held_back(world):
    return world.dirty + world.under_writeback
