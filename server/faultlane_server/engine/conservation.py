"""What must have come back when a run is over: every lock, and every count.

Looked at once, when all threads have ended their programs; what holds during a run is
asserted where it happens.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import entry_point
from faultlane_server.engine.world import WRITEBACK, Counter, ThreadState


def assert_conserved(worlds: np.recarray) -> None:
    """Assert that nothing is held and that the counters agree, if all threads have ended."""
    world = worlds[0]
    threads = world.threads[: int(world.config.threads)]
    if not (threads["state"] == ThreadState.DONE).all():
        return
    assert (threads["held"] == 0).all(), "a thread that has ended holds no fault lock"
    assert (threads["fault_mutex"] == 0).all(), "nor a fault mutex of hugetlb"
    assert (threads["huge_in_hand"] == 0).all(), "nor has it a huge page in hand"
    for mm in range(int(world.config.processes)):
        lock = world.mms[mm].mmap_lock
        assert lock.readers == 0, "nobody reads an mmap_lock when all threads have ended"
        assert lock.writer == NOBODY, "nobody holds an mmap_lock when all threads have ended"
        assert lock.first == NOBODY, "nobody waits for an mmap_lock when all threads have ended"
    vmas = world.vmas[: int(world.vma_slots)]
    assert (vmas["readers"] == 0).all(), "nobody reads a VMA when all threads have ended"
    _assert_files(world)
    pool = world.hugetlb
    assert 0 <= pool.reserved <= pool.free <= pool.pages, "a huge page that is reserved is free"
    assert_folios_free(worlds)
    config = world.config
    if config.vma_path and config.vma_access_errors and config.warmup_ns == 0:
        _assert_counters(world.tally.counters)


def _assert_files(world: np.record) -> None:
    """Assert that nobody has a lock of a file, and that dirty pages are counted."""
    for file in range(int(world.config.files)):
        lock = world.files[file].invalidate_lock
        is_free = lock.readers == 0 and lock.writer == NOBODY and lock.first == NOBODY
        assert is_free, "an invalidate_lock is free when all threads have ended"
    regular = sum(int(world.files[n].dirty) for n in range(int(world.config.files)))
    assert regular == world.dirty, "the dirty pages of all files are counted"


@entry_point
def assert_folios_free(worlds):
    """Assert that nobody has, waits for, or refers to a folio, and that what is written is counted.

    There may be millions of them, so this is compiled.
    """
    world = worlds[0]
    under_writeback = 0
    for number in range(world.config.folios):
        folio = world.folios[number]
        assert folio.refs == 0, "nobody refers to a folio when all threads have ended"
        assert np.int64(folio.holder) == NOBODY, "no thread that has ended has a folio locked"
        assert np.int64(folio.first) == NOBODY, "nobody waits for a folio when all have ended"
        assert folio.mapcount >= 0, "no page is unmapped more often than mapped"
        if folio.state & WRITEBACK:
            under_writeback += 1
    assert under_writeback == world.under_writeback, "each page under writeback is counted once"


def _assert_counters(counters: np.ndarray) -> None:
    """Assert that each fault was counted once as success, abort or last retry."""
    counted = (
        counters[Counter.VMA_LOCK_SUCCESS]
        + counters[Counter.VMA_LOCK_ABORT]
        + counters[Counter.VMA_LOCK_RETRY]
        - counters[Counter.VMA_RETRIES]
        - counters[Counter.USERFAULTFD_ABORTS]
        - counters[Counter.MADVISE_ABORTS]
    )
    elsewhere = counters[Counter.KERNEL_FAULTS] + counters[Counter.REFUSED_EARLY]
    faults = counters[Counter.PERF_PAGE_FAULTS] - elsewhere
    assert counted == faults, "SUCCESS + ABORT + RETRY - V7 = faults that came to V0"
