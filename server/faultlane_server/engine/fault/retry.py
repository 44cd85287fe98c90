"""What the columns of a retry policy mean. Nothing else looks at them."""

from faultlane_server.codes import DropForIo, FaultLock
from faultlane_server.engine.jit import compiled


@compiled
def may_drop(rule, lock, tried):
    """Whether an attempt under `lock` may let go of it to wait for I/O."""
    if tried:
        return False
    if rule.drop_for_io == DropForIo.MMAP_ONLY:
        return lock == FaultLock.MMAP
    return rule.drop_for_io == DropForIo.ALWAYS


@compiled
def goes_to_vma_lock(rule, lock, reason):
    """Whether a retry for `reason` goes back to the VMA lock (V7). From mmap_lock none does."""
    return lock == FaultLock.VMA and (rule.vma_lock_on >> reason) & 1 != 0
