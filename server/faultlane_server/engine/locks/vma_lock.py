"""The per-VMA lock, in both designs: readers never wait, and a stamp keeps them out.

A VMA is write-locked while its `seq` equals the sequence of its mm, so all write
locks end together when mmap_lock's writer is done. A writer that finds readers
inside drains the VMA first. With a reference count it excludes new readers at once;
with a rw_semaphore they still get in while the writer spins, and fail once it queues.
"""

from faultlane_server.codes import NOBODY, VmaLockDesign
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import Drain


@compiled
def start_read(vma, mm_seq, thread):
    """Lock the VMA for read, or fail at once."""
    if is_write_locked(vma, mm_seq) or vma.drain == Drain.EXCLUDING:
        return False
    vma.readers += 1
    vma.reader = thread
    return True


@compiled
def end_read(vma):
    """Unlock the VMA for read. True if this was the last reader and `drainer` waits for it."""
    assert vma.readers > 0, "unlocked for read, but nobody reads"
    vma.readers -= 1
    if vma.readers > 0:
        return False
    vma.reader = NOBODY
    return vma.drain != Drain.NONE


@compiled
def is_write_locked(vma, mm_seq):
    """Whether mmap_lock's present writer has stamped the VMA."""
    return vma.seq == mm_seq


@compiled
def begin_drain(vma, thread, design):
    """Wait for the readers inside; mmap_lock is held for write."""
    assert vma.drain == Drain.NONE, "one writer at a time drains a VMA"
    vma.drainer = thread
    if design == VmaLockDesign.RWSEM:
        vma.drain = Drain.SPINNING
    else:
        assert design == VmaLockDesign.REFCOUNT, "a design of no known kind"
        vma.drain = Drain.EXCLUDING


@compiled
def stop_spinning(vma):
    """Let the writer queue on the VMA's rw_semaphore: from now on new readers fail."""
    assert vma.drain == Drain.SPINNING, "the writer spins"
    vma.drain = Drain.EXCLUDING


@compiled
def stamp(vma, mm_seq):
    """Write-lock the VMA until mmap_lock's writer is done; its drain, if any, is over."""
    assert vma.readers == 0, "a VMA is stamped when its readers have left"
    assert mm_seq % 2 == 1, "mmap_lock is held for write"
    vma.seq = mm_seq
    vma.drain = Drain.NONE
    vma.drainer = NOBODY
