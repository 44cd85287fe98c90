"""What must have come back when a run is over: every lock, and every count.

Looked at once, when all threads have ended their programs; what holds during a run is
asserted where it happens.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.world import Counter, ThreadState


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
    if world.config.vma_path and world.config.warmup_ns == 0:
        _assert_counters(world.tally.counters)


def _assert_counters(counters: np.ndarray) -> None:
    """Assert that each fault was counted once as success, abort or last retry."""
    counted = (
        counters[Counter.VMA_LOCK_SUCCESS]
        + counters[Counter.VMA_LOCK_ABORT]
        + counters[Counter.VMA_LOCK_RETRY]
        - counters[Counter.VMA_RETRIES]
    )
    assert counted == counters[Counter.PERF_PAGE_FAULTS], "SUCCESS + ABORT + RETRY - V7 = faults"
