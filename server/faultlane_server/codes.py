"""Numbers with names, shared by Python, compiled code and the wire.

Compiled code freezes these values; the compiled-code cache is named after a
hash of this file among others. Members are added, never renumbered. Zero is
left to the wire, where it means "not set".
"""

from enum import IntEnum

NOBODY = 0xFFFFFFFF  # the id that stands for "none"


class PageState(IntEnum):
    """Where a page is when the run begins."""

    ABSENT = 1
    CACHED = 2
    CACHED_READAHEAD = 3


class Protection(IntEnum):
    """What may be done with a VMA."""

    READ = 1
    WRITE = 2
    EXEC = 3


class Advice(IntEnum):
    """What madvise(2) was told of a VMA."""

    NORMAL = 1
    RANDOM = 2
    SEQUENTIAL = 3


class Access(IntEnum):
    """How a page is accessed."""

    READ = 1
    EXEC = 2


class RecordingKind(IntEnum):
    """Which rule chooses the faults that the log keeps."""

    ALL = 1
    SAMPLED = 2
    SLOWER_THAN = 3
    RETRIED = 4
    SUMMARY_ONLY = 5


class FaultKind(IntEnum):
    """What kind of fault it was."""

    BAD_AREA = 1
    FILE_READ = 2


class FaultLock(IntEnum):
    """The lock under which an attempt runs."""

    VMA = 1
    MMAP = 2


class RetryReason(IntEnum):
    """Where in filemap_fault an attempt was that ended in VM_FAULT_RETRY."""

    F7 = 1
    F8 = 2


class OperationKind(IntEnum):
    """What changes the address space."""

    MMAP = 1
    MUNMAP = 2
    MPROTECT = 3


class StopReason(IntEnum):
    """How a run ended."""

    HORIZON = 1
    FINISHED = 2
    DEADLOCK = 3
    NO_PROGRESS = 4


class SimulationState(IntEnum):
    """How far a simulation is."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


class VmFault(IntEnum):
    """VM_FAULT_* bits, in the values of the RFC's kernel.

    The kernels' own values differ between designs; events carry these.
    """

    OOM = 0x000001
    SIGBUS = 0x000002
    MAJOR = 0x000004
    SIGSEGV = 0x000040
    NOPAGE = 0x000100
    LOCKED = 0x000200
    RETRY = 0x000400
    RETRY_VMA = 0x000800
    COMPLETED = 0x008000


class DropForIo(IntEnum):
    """When the fault lock is let go while a page is read."""

    ALWAYS = 1
    MMAP_ONLY = 2
    NEVER = 3


class VmaLockDesign(IntEnum):
    """What the per-VMA lock is made of."""

    RWSEM = 1
    REFCOUNT = 2
