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
    NOT_UPTODATE = 4
    DIRTY = 5
    HOLE = 6
    SWAPPED = 7


class DeviceKind(IntEnum):
    """How a device does what is asked of it."""

    BLOCK = 1
    SYNCHRONOUS = 2
    HOLE = 3


class LruKind(IntEnum):
    """Which LRU a kernel has."""

    CLASSIC = 1
    MGLRU = 2


class FileKind(IntEnum):
    """Which vm_ops the mappings of a file have."""

    REGULAR = 1
    TMPFS = 2
    SPECIAL = 3
    HUGETLB = 4


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


class Madvice(IntEnum):
    """What madvise(2) is told in a step."""

    NORMAL = 1
    RANDOM = 2
    SEQUENTIAL = 3
    DONTNEED = 4
    FREE = 5
    DONTNEED_LOCKED = 6
    COLD = 7
    PAGEOUT = 8
    WILLNEED = 9
    REMOVE = 10
    POPULATE_READ = 11
    POPULATE_WRITE = 12
    COLLAPSE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTFORK = 16
    DOFORK = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    DONTDUMP = 20
    DODUMP = 21
    MERGEABLE = 22
    UNMERGEABLE = 23


class Access(IntEnum):
    """How a page is accessed."""

    READ = 1
    EXEC = 2
    WRITE = 3


class SignalKind(IntEnum):
    """What a signal does to who gets it."""

    HANDLED = 1
    FATAL = 2


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
    FILE_COW = 3
    FILE_SHARED = 4
    WP = 5
    ANON = 6
    SWAP = 7
    MIGRATION = 8
    DEVICE_EXCLUSIVE = 9
    DEVICE_PRIVATE = 10
    NUMA_HINT = 11
    USERFAULTFD = 12
    YOUNG = 13
    HUGETLB = 14
    HUGETLB_WP = 15


class FaultClass(IntEnum):
    """Which rule of a retry policy is for a fault."""

    FILE = 0
    ANONYMOUS = 1
    SWAP = 2
    SHMEM = 3


class FaultLock(IntEnum):
    """The lock under which an attempt runs."""

    VMA = 1
    MMAP = 2


class RetryReason(IntEnum):
    """Where an attempt was that ended in VM_FAULT_RETRY."""

    F7 = 1
    F8 = 2
    KILLED = 3
    NO_MAP_PAGES = 4
    ANON_VMA = 5
    UNSUPPORTED = 6
    S4 = 7
    OOM = 8
    USERFAULTFD = 9
    FALLOC = 10
    DEVICE_EXCLUSIVE = 11
    DEVICE_PRIVATE = 12


class OperationKind(IntEnum):
    """What changes the address space."""

    MMAP = 1
    MUNMAP = 2
    MPROTECT = 3
    FTRUNCATE = 4
    PUNCH_HOLE = 5
    SYNC_FILE_RANGE = 6
    FADVISE_DONTNEED = 7
    MADVISE = 8
    FORK = 9
    BRK = 10
    MREMAP = 11
    MLOCK = 12
    MUNLOCK = 13
    MBIND = 14
    PRCTL = 15
    EXEC = 16
    EXIT = 17
    READ_SMAPS = 18
    READ_MAPS = 19
    KHUGEPAGED = 20
    NUMA_SCAN = 21
    CLEAR_REFS = 22
    USERFAULTFD_REGISTER = 23
    USERFAULTFD_COPY = 24
    USERFAULTFD_WRITEPROTECT = 25
    USERFAULTFD_CLOSE = 26
    MIGRATE = 27


class ForkSkips(IntEnum):
    """Which VMAs a fork does not write-lock."""

    NOTHING = 1
    FILE_WITHOUT_ANON_VMA = 2
    ALL_BUT_ANONYMOUS = 3


class Preemption(IntEnum):
    """Where a thread that runs in the kernel can be made to leave its CPU."""

    NONE = 1
    VOLUNTARY = 2
    FULL = 3


class SchedPolicy(IntEnum):
    """By which policy a thread is scheduled."""

    OTHER = 1
    BATCH = 2
    IDLE = 3
    FIFO = 4
    RR = 5


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


class UptodateDirect(IntEnum):
    """Whether a locked folio that is up to date is waited for with the fault lock held."""

    NO = 1
    YES = 2
    YES_NOT_WRITEBACK = 3


class RelockAndMap(IntEnum):
    """Whether an attempt that let its lock go takes it again and maps the page."""

    NO = 1
    TRY = 2
    BLOCKING = 3


class VmaLockFaults(IntEnum):
    """Which faults on file mappings a kernel can handle under the VMA lock."""

    NONE = 1
    FAULT_AROUND = 2
    ALL = 3


class VmaLockDesign(IntEnum):
    """What the per-VMA lock is made of."""

    RWSEM = 1
    REFCOUNT = 2
    NONE = 3


class FaultChoice(IntEnum):
    """Which fault of a run is chosen to be explained."""

    SLOWEST = 1
    MOST_RETRIED = 2


class Activity(IntEnum):
    """What a thread that faults is about at a moment."""

    RUNNING = 1
    SPINNING = 2
    RUNNABLE = 3
    SLEEPING = 4
