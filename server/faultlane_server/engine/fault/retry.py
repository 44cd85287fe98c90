"""What the columns of a retry policy mean. Nothing else looks at them."""

from faultlane_server.codes import DropForIo, FaultLock, RelockAndMap, UptodateDirect
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import UPTODATE, WRITEBACK


@compiled
def may_drop(rule, lock, tried):
    """Whether an attempt under `lock` may let go of it to wait for I/O."""
    if tried:
        return False
    if rule.drop_for_io == DropForIo.MMAP_ONLY:
        return lock == FaultLock.MMAP
    return rule.drop_for_io == DropForIo.ALWAYS


@compiled
def goes_to_vma_lock(rule, fault):
    """Whether a retry goes back to the VMA lock (V7). From mmap_lock none does."""
    if fault.lock != FaultLock.VMA or not (rule.vma_lock_on >> fault.retry_reason) & 1:
        return False
    return rule.vma_retries_max == 0 or fault.vma_retries < rule.vma_retries_max


@compiled
def waits_directly(rule, folio):
    """Whether a locked folio is waited for with the fault lock held."""
    if rule.uptodate_direct == UptodateDirect.NO or not folio.state & UPTODATE:
        return False
    return rule.uptodate_direct == UptodateDirect.YES or not folio.state & WRITEBACK


@compiled
def maps_without_retry(rule):
    """Whether an attempt that has let its lock go takes it again, to map the page."""
    return rule.relock_and_map != RelockAndMap.NO


@compiled
def waits_to_relock(rule):
    """Whether it waits for it, with the folio locked."""
    return rule.relock_and_map == RelockAndMap.BLOCKING
