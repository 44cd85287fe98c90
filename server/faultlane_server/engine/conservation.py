"""What must have come back when a run is over: every lock, and every count.

Looked at once, when all threads have ended their programs; what holds during a run is
asserted where it happens.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.world import WRITEBACK, Counter, ThreadState


def assert_conserved(world: np.record) -> None:
    """Assert that nothing is held and that the counters agree, if all threads have ended."""
    threads = world.threads[: int(world.config.threads)]
    if not (threads["state"] == ThreadState.DONE).all():
        return
    assert (threads["held"] == 0).all(), "a thread that has ended holds no fault lock"
    for mm in range(int(world.config.processes)):
        lock = world.mms[mm].mmap_lock
        assert lock.readers == 0, "nobody reads an mmap_lock when all threads have ended"
        assert lock.writer == NOBODY, "nobody holds an mmap_lock when all threads have ended"
        assert lock.first == NOBODY, "nobody waits for an mmap_lock when all threads have ended"
    vmas = world.vmas[: int(world.vma_slots)]
    assert (vmas["readers"] == 0).all(), "nobody reads a VMA when all threads have ended"
    _assert_files(world)
    config = world.config
    if config.vma_path and config.vma_access_errors and config.warmup_ns == 0:
        _assert_counters(world.tally.counters)


def _assert_files(world: np.record) -> None:
    """Assert that nobody holds, waits for, or refers to anything of the page cache."""
    for file in range(int(world.config.files)):
        lock = world.files[file].invalidate_lock
        is_free = lock.readers == 0 and lock.writer == NOBODY and lock.first == NOBODY
        assert is_free, "an invalidate_lock is free when all threads have ended"
    folios = world.folios[: int(world.config.folios)]
    assert (folios["refs"] == 0).all(), "nobody refers to a folio when all threads have ended"
    assert (folios["holder"] == NOBODY).all(), "no thread that has ended has a folio locked"
    assert (folios["first"] == NOBODY).all(), "nobody waits for a folio when all threads have ended"
    states = folios["state"]
    assert (states & WRITEBACK != 0).sum() == world.under_writeback, "each page is counted once"
    regular = sum(int(world.files[n].dirty) for n in range(int(world.config.files)))
    assert regular == world.dirty, "the dirty pages of all files are counted"
    assert (folios["mapcount"] >= 0).all(), "no page is unmapped more often than mapped"


def _assert_counters(counters: np.ndarray) -> None:
    """Assert that each fault was counted once as success, abort or last retry."""
    counted = (
        counters[Counter.VMA_LOCK_SUCCESS]
        + counters[Counter.VMA_LOCK_ABORT]
        + counters[Counter.VMA_LOCK_RETRY]
        - counters[Counter.VMA_RETRIES]
    )
    elsewhere = counters[Counter.KERNEL_FAULTS] + counters[Counter.REFUSED_EARLY]
    faults = counters[Counter.PERF_PAGE_FAULTS] - elsewhere
    assert counted == faults, "SUCCESS + ABORT + RETRY - V7 = faults that came to V0"
