"""All state of a run: one record of fixed layout.

The layout never depends on the scenario, so the core compiles once. Memory is
taken by the operating system when it is first touched, so large maxima cost
nothing until they are used.

Rules that keep compiled and uncompiled code equal: quantities and ids are int64
(`NOBODY` stands for none), what must be narrow to save memory is widened where
it is read, and no column is named like an attribute of a numpy scalar (`size`,
`shape`, `flags`, `data`, `device`, ...).
"""

from enum import IntEnum

import numpy as np

from faultlane_server.codes import FaultClass
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.engine.draw import DurationSpec, QuantilePoint
from faultlane_server.engine.jit import CACHE_LINE
from faultlane_server.machines import COSTS

THREADS_MAX = 65536
VMAS_MAX = 131072
VMA_ORDER_MAX = 4 * VMAS_MAX  # places in the address order of all processes
PAGES_MAX = 16 * 2**20  # pages of files, and of VMAs
FILES_MAX = 65536 + 1  # one is behind the anonymous huge pages
OPENS_MAX = 131072
PROCESSES_MAX = 1024
CPUS_MAX = 512
AFFINITIES_MAX = 4096  # sets of CPUs that threads may run on, all CPUs among them
DEVICES_MAX = 64
INSTRUCTIONS_MAX = 131072
LIST_MAX = 8 * 2**20  # entries of all explicit lists
CURSORS_MAX = 4 * 2**20  # threads times their sequential touches
ZIPF_MAX = 4 * 2**20  # entries of all zipf tables
QUANTILES_MAX = 65536
BARRIERS_MAX = 4096
REGIONS_MAX = VMAS_MAX + 1
SECTIONS_MAX = 16
NESTING_MAX = 8
QUEUE_MAX = 2**19  # sleepers and device channels
MEMCGS_MAX = 256
FAULT_MUTEXES_MAX = 8 * CPUS_MAX
CACHE_NODE_SHIFT = 6  # log2 of the pages of a node of the page cache (XA_CHUNK_SHIFT)
TABLE_SHIFT_MIN = 9  # log2 of the entries of a page table, for pages of 4 KiB
BATCH_MAX = 31  # pages in the batch of a CPU (PAGEVEC_SIZE)
GENERATIONS = 4  # of MGLRU (MAX_NR_GENS)
LISTS = 16  # of a memcg: more than there are
IN_BATCH = 0xFFFF  # of Folio.lru: the page waits in the batch of a CPU
FOLIO_GENERATIONS = 256  # after so many the generation of a folio begins anew
EVERYBODY = -2  # who is short of pages: the machine
NOT_SHORT = -1
ROWS_MAX = 8192  # rows of one log in a slice
ROWS_APART = 16  # rows between two columns: one row of all columns would share a set of the cache
TRACE_MAX = 8192
HISTOGRAM_SUB = 64  # buckets in an octave: a percentile is off by less than 1 %
HISTOGRAM_BUCKETS = 48 * HISTOGRAM_SUB
HISTOGRAMS_MAX = 96 + SECTIONS_MAX
SLOTS_MAX = 8192  # locks that are waited for at one time
SHARES_MAX = 16  # different chains to which the waits for one lock go
NODES_MAX = 2048  # of a run, besides those that are there from the start
EDGES_MAX = 4096
CHAINS_MAX = 8192
INSTANCES_MAX = 8192
GROUPS_MAX = 256  # of threads that are told apart; the others count as the last one
ACTIVITIES_MAX = 64
RETRIES_MAX = 64  # so many numbers of retries are told apart: the last one stands for more
FAULT_KINDS_MAX = 16
ATTEMPTS_KEPT = 8  # of a fault: how each of them ended

i32 = np.int32
i64 = np.int64
u8 = np.uint8
u16 = np.uint16
u32 = np.uint32
u64 = np.uint64


def _record(*fields):
    return np.dtype(list(fields), align=True)


def _in_lines(*fields):
    """Make a record of whole cache lines; what takes a line or more begins with one."""
    kinds = {name: np.dtype((kind, shape[0]) if shape else kind) for name, kind, *shape in fields}
    offsets = []
    end = 0
    for kind in kinds.values():
        offsets.append(_up_to(end, CACHE_LINE if kind.itemsize >= CACHE_LINE else kind.alignment))
        end = offsets[-1] + kind.itemsize
    return np.dtype(
        {
            "names": list(kinds),
            "formats": list(kinds.values()),
            "offsets": offsets,
            "itemsize": _up_to(end, CACHE_LINE),
        },
        align=True,
    )


def _up_to(size, step):
    return -(-size // step) * step


class Cause(IntEnum):
    """What a thread spends its time on while it does not run."""

    CPU = 0  # it does run
    MMAP_LOCK = 1
    FOLIO = 2  # a folio lock that a thread holds
    DEVICE = 3  # a folio lock that is held until a read completes
    RUN_QUEUE = 4
    LOCK_WORD = 5
    VMA = 6  # a writer: readers inside a VMA
    PROGRAM = 7  # sleep steps and barriers
    INVALIDATE_LOCK = 8
    WRITEBACK = 9  # of a page
    THROTTLE = 10  # in balance_dirty_pages, or over memory.high
    RECLAIM = 11  # reclaim on its own account, and sleeps until there is something to reclaim
    SWAP_CACHE = 12  # somebody else swaps the same page in from a synchronous device
    USERFAULTFD = 13
    FALLOC = 14  # a page of tmpfs that a hole is being punched into
    FAULT_MUTEX = 15  # of hugetlb


CAUSES = 16


class Waits(IntEnum):
    """What is waited for, as blame has it: a lock in the mode in which a thread wants it."""

    MMAP_READ = 0
    MMAP_WRITE = 1
    VMA_WRITE = 2  # a writer waits for readers inside a VMA
    INVALIDATE_READ = 3
    INVALIDATE_WRITE = 4
    FOLIO_FILE = 5
    FOLIO_ANON = 6
    FOLIO_SWAP = 7  # anonymous memory that is in swap, or comes from there
    SWAP_CACHE = 8
    FALLOC = 9
    FAULT_MUTEX = 10
    # What no thread is to blame for.
    WRITEBACK = 11
    THROTTLE = 12
    RECLAIM = 13
    USERFAULTFD = 14


WAITS = 15


class Activity(IntEnum):
    """What a thread does while it waits, or while others wait for it."""

    PROGRAM = 0  # user mode
    FAULT_VMA = 1  # a fault, in an attempt under the VMA lock
    FAULT_MMAP = 2  # in an attempt under mmap_lock
    KSWAPD = 3
    AGING = 4  # walks page tables, with mmap_lock held for read
    # Who is no thread.
    DEVICE = 5
    WAKEUP = 6  # nobody has the lock: who is to have it next is being woken
    PAUSE = 7  # a sleep until some time
    MONITOR = 8  # of a userfaultfd
    UNKNOWN = 9  # there was no room to follow it
    OPERATIONS = 16  # the first of them, by OperationKind


class Leaf(IntEnum):
    """Where a chain of blame ends, besides in a `Cause`."""

    EACH_OTHER = 16  # a deadlock: the chain leads back to itself
    NO_ROOM = 17


NODES_DIRECT = 32  # and what is waited for: a wait that no thread is blamed for
NODES_UNKNOWN = 64  # and what is waited for: a wait that could not be followed
NODES_FIRST = 96  # of those that a run makes


class ThreadState(IntEnum):
    """Where a thread is."""

    RUNNING = 1  # on a CPU, with an event to come
    SPINNING = 2  # on a CPU, watching a lock
    RUNNABLE = 3  # in a run queue
    BLOCKED = 4
    DONE = 5


class Step(IntEnum):
    """What a thread does next when it has a CPU."""

    NOTHING = 0
    PROGRAM = 1  # go on with its program
    # A fault: labels of the kernel-model's sections 2 and 5 stand beside the steps.
    LOCK_VMA = 2  # V0: try the VMA lock
    LOCK_MMAP = 3  # M0: take mmap_lock for read
    MMAP_GRANTED = 4  # M0 goes on: mmap_lock was granted by another thread
    LOOKUP = 5  # F0 to F2: look the page up
    READAHEAD_SYNC = 6  # F2b goes on: add the window to the cache and submit it
    READAHEAD_ASYNC = 7  # F2a goes on: the same behind a marker
    FOLIO_WOKEN = 8  # F4 goes on: somebody let go of the folio
    SYNC_READ = 9  # F8: submit the read of one page
    SYNC_READ_DONE = 10  # F8 goes on: it was read
    MAP_PAGE = 11  # a9: set the page-table entry
    RELEASE = 12  # V3, M6: the attempt is over, let go of the lock
    FAULT_END = 14  # back in user mode
    # An operation.
    WRITE_LOCK = 15  # take mmap_lock for write
    WRITE_QUEUE = 16  # stop spinning and queue
    WRITE_WOKEN = 17  # woken in the queue: try
    WRITE_HELD = 18  # mmap_lock is held for write
    SPIN_EXPIRED = 19  # spun on readers long enough
    DRAIN_EXPIRED = 20  # spun on the VMA's readers long enough
    DRAINED = 21  # the last reader has left
    APPLY = 22  # change the VMAs
    ZAP = 23  # the part of munmap under the downgraded lock
    OPERATION_END = 24  # back in user mode
    FIND = 25  # F3 (retry_find): get the folio again
    # More of a fault.
    HIT_LOCKED = 26  # F2a goes on: invalidate_lock was granted
    READAHEAD_LOCKED = 46  # readahead goes on: the same
    FOLIO_KILLED = 27  # F4: a fatal signal has ended the wait for the folio
    SYNC_READ_KILLED = 28  # F8: the same
    MMAP_KILLED = 29  # M0: the same for mmap_lock
    RELOCK = 30  # a8: take the fault lock again
    RELOCK_FAILED = 49  # the same: a fatal signal has ended the wait for it
    RELOCKED = 31  # a8 goes on: mmap_lock was granted
    ZEROED = 32  # shmem_fault: a new page was zeroed
    MKWRITE = 33  # page_mkwrite: invalidate_lock was granted
    MKWRITE_FOLIO = 34  # page_mkwrite goes on: lock the folio
    MKWRITE_WOKEN = 35  # the same: somebody let go of it
    MKWRITE_STABLE = 36  # the same: some page was written
    BALANCE = 37  # balance_dirty_pages: the pause is over
    WP_COPY = 38  # wp_page_copy: the page was copied
    ANON_MAP = 50  # do_anonymous_page: set the page-table entry
    WP_REUSE = 39  # wp_page_reuse: the entry can be made writable
    # An operation on a file.
    FILE_OPERATION = 40  # begin
    INVALIDATE_WOKEN = 41  # woken in the queue for invalidate_lock: try
    TRUNCATE = 42  # take the next folios out of the page cache
    WRITE_BACK = 43  # submit the next dirty pages
    WRITE_BACK_WOKEN = 48  # the same: somebody let go of a folio
    WRITTEN = 44  # wait until the range is written
    REFUSED = 47  # G0: refuse an access before any lock
    READ_LOCK = 51  # an operation: take mmap_lock for read
    READ_HELD = 52  # mmap_lock is held for read
    READ_DONE = 53  # the work under it is done
    WRITE_KILLED = 45  # a fatal signal has ended the wait for mmap_lock of an operation
    # Populating, after mmap(MAP_POPULATE) or mlock, or for madvise.
    POPULATE_HELD = 120  # mmap_lock is held for read
    POPULATED = 121  # the next pages are ready to be mapped
    # madvise that works on files.
    ADVICE_READ = 122  # WILLNEED: read the next pages ahead
    ADVICE_READ_LOCKED = 123  # the same: invalidate_lock was granted
    ADVICE_RELOCK = 124  # WILLNEED and REMOVE: take mmap_lock again for the next VMA
    ADVICE_RELOCKED = 125  # the same: it was granted
    # smaps and maps.
    PROC_LOCK = 126  # the next read(2)
    PROC_HELD = 127  # mmap_lock is held for read
    PROC_DONE = 128  # the VMAs were looked at
    # NUMA balancing.
    NUMA_SCAN = 129  # begin
    NUMA_SCANNED = 130  # the entries were looked at
    # khugepaged.
    COLLAPSE_SCAN = 131  # look at the next part
    COLLAPSE_SCAN_HELD = 132  # mmap_lock is held for read, for that
    COLLAPSE_SCANNED = 133  # it was looked at
    COLLAPSE_RELOCK = 134  # the huge page is there: take mmap_lock for read again
    COLLAPSE_RELOCKED = 135  # the same: it was granted
    COLLAPSE_CHECKED = 136  # the VMA is still there
    # The end of an address space.
    EXEC_LOCK = 137  # exec: take mmap_lock for read
    EXEC_HELD = 138  # the same: it was granted
    EXEC_DONE = 139  # exec: the old address space is left
    EXIT_LOCK = 140  # exit_mmap: take mmap_lock for read
    EXIT_HELD = 141  # the same: it was granted
    EXIT_UNMAPPED = 142  # exit_mmap: its pages are unmapped
    # Memory.
    ANON_CHARGE = 60  # do_anonymous_page: ask for a page again
    COPY_CHARGE = 61  # a private write: ask for the copy's page again
    WP_CHARGE = 62  # wp_page_copy: the same
    SWAP_LOOKUP = 63  # S2: look the page up, after a wait for memory
    SWAP_READ_AT_ONCE = 64  # S3: the page was read with the fault lock held
    SWAP_COLLIDED = 65  # S3: somebody else has read it
    SWAP_READ_AHEAD = 66  # S3: submit the reads of the window
    SWAP_WAITED = 67  # S4: the folio was unlocked, with the fault lock let go
    SWAP_WOKEN = 68  # S4: somebody let go of the folio, the fault lock is held
    SWAP_KILLED = 69  # S4: a fatal signal has ended that wait
    SWAP_MAP = 70  # S7: map the page
    AGE = 71  # MGLRU: walk the page tables of the next process
    AGE_WALKED = 72  # the same: a part was walked
    KSWAPD = 73
    DEVICE_CHARGE = 75  # migrate_to_ram: ask for a page again
    UFFD_CHARGE = 76  # UFFDIO_COPY: the same
    SHMEM_READ = 74  # shmem_swapin_folio: the page was read at once
    RESUME = 77  # go on with a burst that was cut off
    # Faults that few programs have.
    MIGRATION_OVER = 161  # the migration of the page is over
    BROUGHT_BACK = 162  # migrate_to_ram: the page is in memory again
    EXCLUSIVE_WAITED = 163  # folio_lock_or_retry: the folio was unlocked
    EXCLUSIVE_WOKEN = 164  # the same with the fault lock held: somebody let go of the folio
    EXCLUSIVE_KILLED = 165  # the same: a fatal signal has ended the wait for it
    EXCLUSIVE_RESTORED = 166  # the entry is made normal
    UFFD_QUEUE = 167  # handle_userfault: queue, and wait until the fault is resolved
    UFFD_WOKEN = 168  # the same: it was, or a signal has ended the wait
    YOUNG = 169  # the entry is made young
    FALLOC_OVER = 170  # shmem_falloc_wait: the hole is punched
    # A fault on a huge page of hugetlb.
    HUGETLB_LOCKED = 171  # hugetlb_fault: the fault mutex was handed over
    HUGETLB_MAP = 172  # hugetlb_no_page: set the entry
    HUGETLB_COPIED = 173  # hugetlb_wp: the page was copied
    HUGETLB_REUSE = 174  # hugetlb_wp: the entry can be made writable
    HUGETLB_YOUNG = 175  # the entry can be made young
    # Operations that few programs call.
    MIGRATE = 180  # begin
    MIGRATE_NEXT = 181  # lock the next folio of the range
    MIGRATE_WOKEN = 182  # the same: somebody let go of it
    MIGRATE_STABLE = 189  # the same: some page was written
    MIGRATE_COPIED = 190  # the folio was copied: restore its entries
    UFFD_READ = 183  # read the next fault from a userfaultfd
    UFFD_READ_ENDED = 184  # a signal has ended the wait for one
    UFFD_LOCK = 185  # take mmap_lock for read to resolve it
    UFFD_LOCKED = 186  # mmap_lock is held
    UFFD_RESOLVE = 187  # it is resolved
    UFFD_CLOSE = 188  # userfaultfd_release


class Lru(IntEnum):
    """The LRU lists of a memcg; those of MGLRU begin with generation 0 of each kind."""

    INACTIVE_ANON = 0
    ACTIVE_ANON = 1
    INACTIVE_FILE = 2
    ACTIVE_FILE = 3
    CLASSIC = 4  # how many these are
    GENERATIONS_ANON = 4
    GENERATIONS_FILE = 8


class Drain(IntEnum):
    """What a writer that waits for the readers of a VMA does."""

    NONE = 0
    SPINNING = 1  # new readers still get in
    EXCLUDING = 2  # new readers fail


class Op(IntEnum):
    """Instructions of compiled programs."""

    TOUCH = 1
    COMPUTE = 2
    SLEEP = 3
    MMAP = 4
    MUNMAP = 5
    MPROTECT = 6
    BARRIER = 7
    MEASURE_BEGIN = 8
    MEASURE_END = 9
    LOOP_BEGIN = 10
    LOOP_END = 11
    END = 12
    FTRUNCATE = 13
    PUNCH_HOLE = 14
    SYNC_FILE_RANGE = 15
    FADVISE_DONTNEED = 16
    KILL = 17
    MADVISE = 18
    FORK = 19
    USERFAULTFD_REGISTER = 50
    USERFAULTFD_COPY = 51
    USERFAULTFD_WRITEPROTECT = 52
    USERFAULTFD_CLOSE = 53
    MIGRATE = 54
    MREMAP = 20
    BRK = 21
    MLOCK = 22
    MUNLOCK = 23
    MBIND = 24
    PRCTL = 25
    EXEC = 26
    READ_SMAPS = 27
    READ_MAPS = 28
    CLEAR_REFS = 29
    KHUGEPAGED = 30
    NUMA_SCAN = 31


class Populates(IntEnum):
    """How pages are mapped before they are touched."""

    NOTHING = 0
    AS_IT_IS = 1  # as by writes where private memory may be written to, else as by reads
    AS_BY_READS = 2
    AS_BY_WRITES = 3


class Pattern(IntEnum):
    """How the pages of a touch instruction follow each other."""

    SEQUENTIAL = 1
    UNIFORM = 2
    ZIPF = 3
    STRIDE = 4
    EXPLICIT = 5


# A word that atomics go to: a server, first come first served.
LockWord = _record(
    ("free_ns", i64),  # when the last atomic on it ends
    ("cpu", i64),  # who made it, or NOBODY
)

# A rw_semaphore (kernel/locking/rwsem.c). WAIT of the kernel is `first != NOBODY`.
Rwsem = _record(
    ("writer", i64),  # who holds it for write, or NOBODY
    ("readers", i64),  # how many hold it for read
    ("handoff", i64),  # 1: nobody may steal it from the head of the queue
    ("owner", i64),  # who took it last, or NOBODY; stale after the last reader left
    ("reader_owned", i64),  # 1: `owner` took it for read
    ("nonspinnable", i64),  # 1: writers may not spin
    ("first", i64),  # the queue's head, linked by Thread.behind, or NOBODY
    ("last", i64),  # the queue's end, or NOBODY
    ("spin_first", i64),  # the optimistic spinner that watches, linked by Thread.behind
    ("spin_last", i64),  # the last optimistic spinner, or NOBODY
    ("spins_on_readers", i64),  # 1: the head spinner has its deadline set
    ("woken", i64),  # out: who was woken by the last call, or NOBODY
    ("holders_first", i64),  # who reads for longest, linked by Thread.held_next, or NOBODY
    ("holders_last", i64),
    ("slot_read", i64),  # where who waits to read is accounted for, or NOBODY
    ("slot_write", i64),
)

Mm = _record(
    ("mmap_lock", Rwsem),
    ("word", LockWord),  # of mmap_lock
    ("seq", i64),  # mm_lock_seq: odd while mmap_lock is held for write
    ("order_first", i64),  # where its places in World.vma_order begin
    ("order_count", i64),  # how many VMAs it has
    ("order_room", i64),  # how many it can have
    ("write_since_ns", i64),  # since when mmap_lock is held for write
    ("children_until_ns", i64),  # until when a child has its copy
    ("uffd_first", i64),  # whose fault its userfaultfd has, linked by Thread.behind, or NOBODY
    ("uffd_last", i64),
    ("uffd_readers_first", i64),  # who waits to read from it, or NOBODY
    ("uffd_readers_last", i64),
    ("uffd_released", i64),  # 1: it is being closed, or is closed
    ("memcg", i64),
    ("pages", i64),  # that its entries map
    ("users", i64),  # threads whose programs go on
    ("unkillable", i64),  # 1: not chosen when memory is out
    ("huge_with_children", i64),  # huge pages that are not its own any more, but its children's
)

LruList = _record(
    ("first", i64),  # the head: what was put there last, or NOBODY
    ("last", i64),  # the tail: what is looked at next
    ("pages", i64),
)

Memcg = _record(
    ("usage", i64),  # pages that are charged, those in stocks of CPUs as well
    ("others", i64),  # pages of it that are not of files or anonymous memory
    ("pages_high", i64),
    ("pages_max", i64),
    ("age", i64),  # nonresident_age: evictions and activations
    ("refaults", i64, 2),  # of anonymous memory, and of files
    ("activations", i64, 2),  # of pages that came back
    ("activations_seen", i64, 2),  # by the last reclaim
    ("costs", i64, 2),  # of reclaiming either kind; they fade
    ("scan", i64, 4),  # how many pages of each classic list are still to be looked at
    ("max_seq", i64),
    ("min_seq", i64, 2),
    ("evicted", i64, 2),  # out of generations
    ("freed_last", i64),  # out: what the last look at the oldest generation has freed
    ("wants_aging", i64),
    ("lists", LruList, LISTS),
)

Vma = _record(
    ("id", i64),
    ("mm", i64),
    ("start", i64),  # first page number of the address space
    ("end", i64),  # the page number after its last
    ("open", i64),  # the struct file, or NOBODY for anonymous memory and free slots
    ("private", i64),  # 1: MAP_PRIVATE
    ("file_kind", i64),  # FileKind
    ("anon_vma", i64),  # the number of the one that it has, or 0
    ("offset", i64),  # page of the file at `start`
    ("pte", i64),  # index of the page-table entry of `start`
    ("protection", i64),  # bits 1 << Protection
    ("advice", i64),  # Advice
    ("uffd", i64),  # bits UFFD_MISSING and UFFD_WP: what a userfaultfd is told of
    ("lowest", i64),  # the page number down to which it grows, or -1: it does not
    ("traits", i64),  # bits VM_LOCKED, ..., its name and its memory policy
    ("seq", i64),  # vm_lock_seq: equal to Mm.seq while write-locked
    ("readers", i64),
    ("drain", i64),  # Drain: what the writer does that waits for the readers
    ("drainer", i64),  # that writer, or NOBODY
    ("reader", i64),  # who came in last for read: whom a writer waits for
    ("holders_first", i64),  # readers that have slept, linked by Thread.held_next, or NOBODY
    ("holders_last", i64),
    ("word", LockWord),
    ("next_free", i64),  # the next free slot, while this one is free
    ("file_next", i64),  # the VMAs of a file (i_mmap)
    ("file_before", i64),
    ("swap_last", i64),  # the page of the last fault on what was in swap
    ("swap_window", i64),  # how many pages that one read
    ("swap_hits", i64),  # of pages that readahead of swap has brought in
)

# What a userfaultfd is told of.
UFFD_MISSING = 1
UFFD_WP = 2
# Bits of `Vma.traits`: VMAs that differ in one of them stay apart.
VM_LOCKED = 1
VM_DONTCOPY = 2
VM_WIPEONFORK = 4
VM_DONTDUMP = 8
VM_HUGEPAGE = 16
VM_NOHUGEPAGE = 32
VM_MERGEABLE = 64
VM_NORESERVE = 128  # of huge pages of hugetlb
VM_NAME = 0xFFFF << 16  # the number of the name that prctl has given it, or 0
VM_POLICY = 0xFFFF << 32  # the number of its memory policy, or 0

# Bits of a page-table entry.
PTE_PRESENT = 1
PTE_READ = 2
PTE_EXEC = 4
PTE_WRITE = 8
PTE_DIRTY = 16
PTE_ANON = 32  # anonymous memory: not the page of a file
PTE_ZERO = 64  # the zero page
PTE_SHARED = 128  # anonymous memory that a child had at its fork as well
PTE_YOUNG = 256  # accessed since reclaim looked last
PTE_SWAP = 512  # not present: the page is in swap
PTE_MIGRATION = 1024  # not present: the page is being migrated
PTE_DEVICE_PRIVATE = 2048  # not present: the page is in the memory of a device
PTE_DEVICE_EXCLUSIVE = 4096  # not present: a device has the page for itself
PTE_UFFD_WP = 8192  # userfaultfd wants to know of the next write
PTE_NUMA = 16384  # a NUMA hint: the next access faults

# A folio of one page: of a file, or the page of anonymous memory of one page-table entry, whose
# folio stands `Config.anon_first` behind that entry.
Folio = _record(
    ("state", u32),  # bits PRESENT, UPTODATE, LOCKED, ...
    ("io_pages", u16),  # pages of the request that begins here
    ("io_cpu", u16),  # the CPU that submitted the request that begins here
    ("io_device", u8),  # where to
    ("generation", u8),  # how often, modulo 256, a folio of this page has left the cache
    ("writes", u16),  # how often, modulo 65536, a write began here
    ("refs", i32),  # references beyond the cache's own
    ("mapcount", i32),  # page-table entries that map it
    ("reads", i32),  # how often a read began here
    ("holder", u32),  # which thread holds the lock; NOBODY: nobody, or a read
    ("first", u32),  # who waits for the lock, linked by Thread.behind, or NOBODY
    ("last", u32),
    ("io_next", i32),  # the next request in the device's queue, or -1
    ("file", u32),  # NOBODY: anonymous memory
    ("vma", u32),  # slot of the VMA that mapped it last: a hint
    ("lru_next", u32),  # towards the tail of its list
    ("lru_before", u32),
    ("shadow", u32),  # the age of its memcg's pages when it was evicted
    ("lru", u16),  # its list, counted from 1; 0: none
    ("memcg", u16),  # whom it is charged to, counted from 1; 0: nobody
)

PRESENT = 1
UPTODATE = 2
LOCKED = 4
READAHEAD = 8  # PG_readahead, which is PG_reclaim as well
DIRTY = 16
WRITEBACK = 32
HOLE = 64  # of the page: the file has no block for it
BAD = 128  # of the page: every read of it fails
BACKGROUND = 256  # the write that begins here is one of background writeback
ACTIVE = 512
REFERENCED = 1024
WORKINGSET = 2048  # PG_workingset
SWAP_CACHE = 4096  # in the swap cache
SWAPPED = 8192  # of the page: it has a copy in swap
SHADOW = 16384  # of the page: it was evicted, and `shadow` tells when
BUSY = 32768  # claimed by who swaps it in from a synchronous device
ZSWAP = 65536  # of the page: its copy is in zswap
LAZYFREE = 262144  # given up by MADV_FREE: freed by reclaim, unless it was written again
HELD_BACK = 131072  # the request that begins here waits before its device
RESERVED = 524288  # of a huge page that is not there: one of the pool is kept for it
COMING = 1048576  # the same: somebody has one of the pool in hand for it
OF_THE_PAGE = HOLE | BAD | SHADOW | WORKINGSET | SWAPPED | ZSWAP  # stays when the folio leaves

# A struct file, with its file_ra_state.
Open = _record(
    ("file", i64),
    ("ra_start", i64),
    ("ra_size", i64),
    ("ra_async", i64),
    ("ra_pages", i64),
    ("mmap_miss", i64),
)

# An inode with its mapping.
File = _record(
    ("first", i64),  # index of its first folio
    ("pages", i64),  # i_size
    ("kind", i64),  # FileKind
    ("device_id", i64),
    ("invalidate_lock", Rwsem),
    ("dirty", i64),  # pages
    ("write_next", i64),  # the page from which background writeback goes on
    ("first_vma", i64),  # of those that map it, or NOBODY
    ("falloc_start", i64),  # pages that a hole is being punched into: of tmpfs only
    ("falloc_end", i64),
    ("falloc_first", i64),  # who waits until that is over, linked by Thread.behind, or NOBODY
    ("falloc_thread", i64),  # who punches it
)

Device = _record(
    ("kind", i64),  # DeviceKind
    ("latency", DurationSpec),
    ("write_latency", DurationSpec),
    ("page_ns", i64),  # on top, for each page
    ("error_ppm", i64),  # of reads
    ("iops_ns", i64),  # the time between two requests that io.max lets through; 0: any
    ("passes_ns", i64),  # when the next one may come
    ("stable_writes", i64),
    ("ra_pages", i64),  # the readahead window of its files
    ("channels", i64),
    ("busy", i64),  # channels at work
    ("first", i64),  # the first folio of the request that waits longest, or -1
    ("last", i64),
)

Cpu = _record(
    ("thread", i64),  # who runs, or NOBODY
    ("due", i64),  # the key of its event, or -1
    ("until_ns", i64),  # when its thread's burst is over
    ("slice_until_ns", i64),  # when its thread is looked at before that; 0: as soon as can be
    ("stolen_ns", i64),  # by interrupts since the event was scheduled
    ("free_ns", i64),  # when its last thread is off it
    ("chosen_ns", i64),  # when it was chosen who runs: until then a better one may come
    ("worked_ns", i64, 2),  # when it left off work last: on faults, on operations
    ("tick_ns", i64),  # when its next tick is, if it is not idle until then
    ("need_resched", i64),  # not 0: somebody else may be to run, and why (TIF_NEED_RESCHED)
    ("slice_is_over", i64),  # 1: because its thread has had its slice
    ("is_protected", i64),  # 1: its thread keeps it for its slice, while it is eligible
    ("since_ns", i64),  # since when its thread was not charged for running (exec_start)
    ("load", i64),  # the weights of all threads on it that have no real-time priority
    ("origin_ns", i64),  # of virtual times in `weighted_ns` (min_vruntime)
    ("weighted_ns", i64),  # the sum of their virtual times times their weights
    ("queued", i64),  # threads in its run queue
    ("ready", i64),  # the heap of those by virtual deadline, or NOBODY
    ("late", i64),  # the heap by virtual time of those who are not eligible, or NOBODY
    ("idle_next", i64),  # the list of idle CPUs
    ("idle_before", i64),
    ("is_idle", i64),
    ("batched", i64),  # pages in its batch, on no LRU list yet
    ("stock", i64),  # pages that were charged and not used yet
    ("stock_memcg", i64),  # to whom
)

Instruction = _record(
    ("op", i64),
    ("to", i64),  # LOOP_BEGIN, LOOP_END: where the other one is
    ("depth", i64),  # of loops and measures: which slot of the thread
    ("count", i64),  # of touches, or loops; 0: without end
    ("start", i64),  # first page number of the part or range
    ("pages", i64),  # how many pages it has
    ("pte", i64),  # page-table entry of `start`
    ("pattern", i64),
    ("access", i64),
    ("kernel_mode", i64),
    ("step_pages", i64),  # of a stride
    ("thread_pages", i64),  # how far apart two threads of the group begin
    ("own_pages", i64),  # how far apart the parts of two threads are
    ("divided", i64),
    ("parties", i64),  # threads of the group
    ("first_entry", i64),  # in the list of pages, or in the zipf table
    ("entries", i64),
    ("cursor", i64),  # which cursor of the thread
    ("protection", i64),
    ("id", i64),  # of a barrier, a section, or a file; what a signal does
    ("wait", i64),  # of SYNC_FILE_RANGE
    ("advice", i64),  # Madvice
    ("merges", i64),  # of MMAP
    ("modes", i64),  # of USERFAULTFD_*: bits UFFD_MISSING and UFFD_WP
    ("duration", DurationSpec),
    ("region", i64),  # the Region of the name, or that of the group's first thread
    ("own_region", i64),  # 1: each thread of the group has one
    ("open", i64),  # of MMAP: the struct file, that of the group's first thread; or NOBODY
    ("own_open", i64),  # 1: each thread of the group has one
    ("opens", i64),  # 1: it is opened anew
    ("offset", i64),  # of MMAP: page of the file at `start`
    ("private", i64),  # of MMAP
    ("fixed", i64),  # of MMAP: over what is there
    ("populates", i64),  # of MMAP
    ("new_pages", i64),  # of MREMAP and BRK: how long it is to be
    ("moves", i64),  # of MREMAP, and of MBIND for pages
    ("sets", i64),  # bits of Vma.traits
    ("clears", i64),  # the same: those that go, or make room for what is set
    ("target", i64),  # the mm of the process that is looked at, or NOBODY
    ("huge_base", i64),  # where the huge pages begin that it is about, or -1: they are small
    ("own_offset", i64),  # 1: each thread of the group has its part of the file, `thread_pages` on
)

# A mutex of hugetlb_fault_mutex_table.
FaultMutex = _record(
    ("holder", i64),  # or NOBODY
    ("first", i64),  # who waits for it, linked by Thread.behind, or NOBODY
    ("last", i64),
)

# The pool of huge pages. Pages that are not free are those of files and of entries, those that
# children have, and those that faults have in hand.
HugetlbPool = _record(
    ("pages", i64),
    ("free", i64),
    ("reserved", i64),  # of the free ones: as many as RESERVED stands at folios
    ("with_children", i64),  # the sum of Mm.huge_with_children
    ("mutexes", FaultMutex, FAULT_MUTEXES_MAX),
)

# What a name stands for that can move, or change its length. The first one stands for all
# names that do neither.
Region = _record(
    ("shift", i64),  # pages from where it was laid to where it is
    ("away", i64),  # pages from where it was laid to its other place
    ("pages", i64),  # how long the program knows it to be: mm->brk for a heap
    ("room", i64),  # how long it can be
)

Barrier = _record(
    ("parties", i64),
    ("waiting", i64),
    ("first", i64),
    ("last", i64),
)

# A thread's place in a heap of `run_heap`.
RunNode = _record(
    ("key", i64),
    ("order", i64),
    ("child", i64),
    ("beside", i64),
    ("before", i64),
)

Thread = _in_lines(
    # What most steps look at comes first: it is what `prefetch` fetches.
    ("step", i64),
    ("state", i64),
    ("cpu", i64),  # where it runs, or ran last
    ("behind", i64),  # who waits behind it, in whatever line it waits
    ("since_ns", i64),  # since when it waits for what it waits for now
    ("cause", i64),  # what for
    ("waits_for", i64),  # whom for, as far as that is a thread
    ("blocked_ns", i64),  # since when it sleeps
    ("awake_attempts", i64),  # since it slept last, for any time at all
    ("blamed_first", i64),  # the first slot in which it is to blame, or NOBODY
    ("pending_cause", i64),  # what the time until its CPU's event was charged to
    ("pending_stall_ns", i64),  # how much of it to lock words
    ("pending_reclaim_ns", i64),  # how much of it to reclaim
    ("owed_ns", i64),  # CPU time to be charged with the next burst
    ("cold_left_ns", i64),  # how much of its work runs cold yet
    ("cold_ns", i64),  # what all of that costs on top
    ("stall_ns", i64),  # the same for transfers of lock words
    ("reclaim_owed_ns", i64),  # the same for reclaim
    ("unmapped", i64),  # 1: reclaim has taken pages out of page tables since the last burst
    ("reclaimed", i64),  # the page that it freed last in reclaim
    ("met_writeback", i64),  # 1: its last reclaim met pages that have to be written first
    # How it is scheduled.
    ("policy", i64),  # SchedPolicy
    ("weight", i64),
    ("virtual_ns", i64),  # vruntime
    ("virtual_deadline_ns", i64),
    ("slice_ns", i64),  # its slice in virtual time
    ("lag_ns", i64),  # how much virtual time it was short of when it slept (vlag)
    ("lag_max_ns", i64),
    ("is_delayed", i64),  # 1: it sleeps, and stands in a run queue all the same (sched_delayed)
    ("stays", i64),  # 1: it was woken there, and waits even if another CPU is idle
    # Its program.
    ("mm", i64),
    ("pc", i64),
    ("index", i64),  # in its group
    ("left", i64),  # touches left in this step, or -1: the step has not begun
    ("carried_ns", i64),  # what touches that hit have cost and is not paid yet
    ("touches", i64),  # made so far: the ordinal of the next one
    ("touch_since_ns", i64),  # when the first fault of this touch began, or -1
    ("first_cursor", i64),
    ("timer", i64),  # the key of its timer, or -1
    ("killed", i64),  # 1: a fatal signal is pending
    ("signalled", i64),  # 1: a signal that it handles is pending
    ("killed_step", i64),  # what it does if one ends its wait, or 0
    # Its fault.
    ("in_fault", i64),
    ("in_operation", i64),
    ("operates", i64),  # 1: what it did last was an operation, not a fault
    ("begin_ns", i64),  # of the fault or operation
    ("page", i64),  # page number of the address
    ("access", i64),
    ("kernel_mode", i64),
    ("vma", i64),  # slot of the VMA; valid while the fault lock is held
    ("vma_id", i64),
    ("fault_class", i64),  # FaultClass
    ("lock", i64),  # FaultLock of this attempt
    ("held", i64),  # the same while it is held, else 0
    ("held_since_ns", i64),
    ("is_listed", i64),  # 1: it stands in the list of those who hold the fault lock
    ("asked_ns", i64),  # when it asked for the lock that it waits for
    ("tried", i64),  # FAULT_FLAG_TRIED
    ("attempts", i64),
    ("vma_retries", i64),
    ("reasons", i64),
    ("result", i64),  # of this attempt: VmFault bits
    ("major", i64),  # 1: the kernel accounts the fault as major
    ("retry_reason", i64),  # RetryReason of this attempt, if it ended in a retry
    ("kind", i64),
    ("reads", i64),
    ("reads_lost", i64),  # pages that it has waited for, and that were gone when it came back
    ("mmap_reads", i64),
    ("dropped", i64),  # this attempt let go of its lock: fpin of the kernel
    ("invalidate_held", i64),
    ("open", i64),
    ("file", i64),
    ("file_page", i64),
    ("folio", i64),
    ("generation", i64),  # of the folio that it refers to
    ("ra_start", i64),  # the window to be read
    ("ra_end", i64),
    ("ra_at", i64),  # the page of it that comes next
    ("ra_gap", i64),  # the first page of it that is added and not submitted, or -1
    ("ra_is_due", i64),  # 1: what was added is to be submitted
    ("ra_step", i64),  # READAHEAD_SYNC or READAHEAD_ASYNC
    ("ra_marker", i64),  # page of the file that gets PG_readahead, or -1
    ("rounds", i64),  # in which it has waited for a folio lock
    ("over_high", i64),  # pages that it charged over memory.high
    ("huge_base", i64),  # where the huge pages begin that it is about, or -1: they are small
    ("touch_page", i64),  # of the part that this touch goes to; valid once it has faulted
    ("group", i64),
    ("slot", i64),  # of the lock that it waits for, or NOBODY
    ("wait_kind", i64),  # Waits, for a folio
    ("shares_seen", i64),  # how many clocks its slot had when it began to wait
    # What its fault or operation has waited for.
    ("wait_ns", i64, CAUSES),
    ("blocker", i64),
    ("blocker_ns", i64),
    ("exclusive", i64),  # waits for a folio lock in order to own it
    ("wait_is_killable", i64),  # for a folio
    ("in_hand", i64),  # pages that were charged for it and have no use yet
    ("copy_in_hand", i64),  # the same for the copy of a private write
    ("has_recency", i64),  # 1: its fault is in a VMA whose accesses count
    ("waited_for", i64),  # 1: an attempt of its fault has waited for its page
    # Its place among others.
    ("held_next", i64, 2),  # who came to the list of its fault lock, or invalidate_lock, behind it
    ("held_before", i64, 2),  # who came before it, or NOBODY
    ("priority", i64),  # how urgent it is, from 0 to 254
    ("is_late", i64),  # 1: it stands in Cpu.late
    ("wants_write", i64),
    ("ending", i64),  # 1: its program is over
    # Its program's loops.
    ("loops_left", i64, NESTING_MAX),
    ("next_page", i64),  # the page of the part that the touch after this one goes to
    ("next_pc", i64),  # by the instruction there, or -1: it is not known
    # What fewer steps look at: more of its program, and of waiting.
    ("daemon", i64),
    ("operations", i64),
    ("durations", i64),  # drawn so far
    ("written_folio", i64),  # whose writeback it waits for
    ("dirtied", i64),  # pages since its last balance_dirty_pages
    ("measured_since_ns", i64, NESTING_MAX),
    ("deadline_ns", i64),  # in the queue of a rwsem
    ("handoff_set", i64),
    # Its operation.
    ("op_kind", i64),
    ("op_start", i64),
    ("op_end", i64),
    ("op_at", i64),  # how far it is
    ("op_protection", i64),
    ("op_file", i64),
    ("op_wait", i64),
    ("op_advice", i64),
    ("op_merges", i64),  # MMAP: with its neighbours
    ("op_child_ns", i64),  # how long the child has its copy
    ("op_pte", i64),  # page-table entry of `op_start`
    ("locks", i64, 3),  # VMAs to write-lock next
    ("locks_count", i64),
    ("work_ns", i64),  # what the next change of the VMAs costs
    ("hold_ns", i64),
    ("op_pc", i64),  # the instruction that asked for it
    ("op_base", i64),  # page number where its range was laid
    ("op_region", i64),  # the Region of the name that it is about
    ("op_resolved", i64),  # 1: under the lock it was found out what there is to do
    ("op_downgrades", i64),  # 1: it ends as a munmap does
    ("op_populates", i64),  # 1: its range is populated when it is done
    ("op_next", i64),  # up to where the present step goes
    ("op_killable", i64),  # 1: a fatal signal ends its waits for mmap_lock
    ("op_migrates", i64),  # pages that it will migrate when mmap_lock was let go
    ("op_first", i64),  # its range, while op_start and op_end are pages of a file
    ("op_last", i64),
    # More of memory.
    ("charge_tries", i64),
    ("agings", i64),  # of pages, one after another, that have freed nothing
    ("stocks_drained", i64),
    ("in_swap_line", i64),
    ("idle", i64),  # of kswapd: there is enough
    ("walks_mm", i64),  # whose mmap_lock it holds to walk page tables, or NOBODY
    ("age_memcg", i64),
    ("age_seq", i64),  # the youngest generation when it began to age pages
    ("age_mm", i64),
    ("age_at", i64),
    ("age_step", i64),
    ("fault_mutex", i64),  # that it holds or waits for, counted from 1; 0: none
    ("huge_in_hand", i64),  # 1: a huge page that it has taken and that has no use yet
    ("huge_was_reserved", i64),  # 1: it was taken out of those that are reserved
    # Faults and operations that few programs have.
    ("uffd_mode", i64),  # what its fault is to a userfaultfd: UFFD_MISSING, UFFD_WP, or 0
    ("uffd_is_read", i64),  # 1: somebody has read of its fault
    ("op_modes", i64),  # what a userfaultfd is to be told of
    ("op_folio", i64),  # the folio that is migrated
    ("process", i64),  # its own mm, while it looks at another one
    # More of its scheduling.
    ("slice_left_ns", i64),  # of SCHED_RR
    ("affinity", i64),  # the row of World.affinities, or 0: all CPUs
    ("cut_step", i64),  # what it does at the end of the burst that was cut off
)


class Counter(IntEnum):
    """What is counted. Names under which they are reported stand in `report.py`."""

    TOUCHES = 0
    FAULTS = 1
    OPERATIONS = 2
    PERF_PAGE_FAULTS = 3
    PGFAULT = 4
    PGMAJFAULT = 5
    MAJOR = 6
    MINOR = 7
    VMA_LOCK_SUCCESS = 8
    VMA_LOCK_ABORT = 9
    VMA_LOCK_RETRY = 10
    VMA_LOCK_MISS = 11
    VMA_RETRIES = 12  # retries that went back to the VMA lock (V7)
    ATTEMPTS = 13
    SIGSEGV = 14
    SIGBUS = 15
    DEVICE_READS = 16
    DEVICE_PAGES = 17
    CONTEXT_SWITCHES = 18
    INTERRUPTS_NS = 19
    FAULTS_VIA_MMAP_LOCK = 20  # attempts that began under mmap_lock
    MMAP_DOWNGRADES = 21
    KERNEL_FAULTS = 22  # in kernel mode
    INTERRUPTED = 23  # faults that a signal has ended
    SIGNALS = 24  # handled
    DEVICE_WRITES = 25
    DEVICE_PAGES_WRITTEN = 26
    READ_ERRORS = 27  # read requests that failed
    COMPLETED = 28
    TRUNCATED = 29  # pages that truncation has taken out of the page cache
    DIRTIED = 30
    THROTTLED = 31  # pauses in balance_dirty_pages
    ATTEMPTS_MOST = 32  # of one fault
    REFUSED_EARLY = 33  # faults that were refused before any lock
    PGSCAN_DIRECT = 34
    PGSCAN_KSWAPD = 35
    PGSTEAL_DIRECT = 36
    PGSTEAL_KSWAPD = 37
    WORKINGSET_REFAULT_ANON = 38
    WORKINGSET_REFAULT_FILE = 39
    WORKINGSET_ACTIVATE_ANON = 40
    WORKINGSET_ACTIVATE_FILE = 41
    WORKINGSET_RESTORE_ANON = 42
    WORKINGSET_RESTORE_FILE = 43
    PSWPIN = 44
    PSWPOUT = 45
    SWAP_RA = 46
    SWAP_RA_HIT = 47
    MEMCG_HIGH = 48
    MEMCG_MAX = 49
    MEMCG_OOM = 50
    MEMCG_OOM_KILL = 51
    READS_LOST = 52  # pages that a fault had waited for, and that were gone when it came back
    READS_TWICE = 53  # faults that read a page which they had read before
    PGACTIVATE = 54
    PGDEACTIVATE = 55
    AGING_WALKS = 56  # parts of page tables that were walked under mmap_lock
    AGING_SKIPPED = 57  # processes whose mmap_lock could not be had for a walk
    HIGH_DELAYS = 58  # sleeps over memory.high
    SWAP_COLLISIONS = 59  # faults that found their page being read from a synchronous device
    STACKS_GROWN = 80
    MIGRATED = 81  # pages
    NOT_MIGRATED = 82  # pages that were in use
    USERFAULTS = 83  # faults that were handed to a userfaultfd, each time
    USERFAULTS_RESOLVED = 84
    NUMA_HINT_FAULTS = 85
    YOUNG_FAULTS = 86  # faults that only made an entry young
    USERFAULTFD_ABORTS = 87  # of VMA_LOCK_ABORT, those of userfaultfd operations

    PREEMPTIONS = 88  # nonvoluntary context switches
    READAHEAD_STOPPED = 100  # pages of readahead that could not be charged
    FAULTS_OOM = 101

    HUGETLB_ALLOCATED = 102  # huge pages that were taken out of the pool
    HUGETLB_EMPTY = 103  # faults that found no huge page: SIGBUS
    HUGETLB_REFUSED = 104  # mmaps that could not reserve enough: ENOMEM
    HUGETLB_TAKEN_BACK = 105  # huge pages that were taken away from a child

    HUGE_PAGES = 60  # that khugepaged and MADV_COLLAPSE have made
    NUMA_HINTS = 61  # entries that were made hints
    PAGED_OUT = 62  # pages that MADV_PAGEOUT has reclaimed
    MADVISE_ABORTS = 63  # of the VMA lock, by madvise
    ADDRESS_SPACES_ENDED = 64  # by exit_mmap, each with a read acquisition of mmap_lock


COUNTERS = 106


class Locks(IntEnum):
    """Rows of the lock table."""

    MMAP_READ = 0
    MMAP_WRITE = 1
    VMA_READ = 2
    VMA_WRITE = 3


LOCKS = 4

LockTally = _record(
    ("acquired", i64),
    ("contended", i64),
    ("wait_ns", i64),
    ("wait_ns_max", i64),
    ("hold_ns", i64),
    ("hold_ns_max", i64),
)


class Histograms(IntEnum):
    """Which lengths of time are collected."""

    TOUCH = 0
    FAULT = 1
    FAULT_INTERRUPTED = 2
    FAULT_KINDS = 4  # by FaultKind, minor and major
    OPERATIONS = 48  # by OperationKind
    SECTIONS = 96


Histogram = _record(
    ("total", i64),
    ("censored", i64),
    ("sum_ns", i64),
    ("least_ns", i64),
    ("most_ns", i64),
    ("counts", i64, HISTOGRAM_BUCKETS),
)

# How an attempt ended that was not the last one of its fault.
Attempt = _record(
    ("lock", u16),  # FaultLock
    ("reason", u16),  # RetryReason
    ("tried", u32),  # FAULT_FLAG_TRIED
    ("end_ns", i64),
    ("device_ns", i64),  # that the fault had waited so far for devices
    ("folio_ns", i64),
    ("mmap_lock_ns", i64),
)

# The fault that made most attempts, the first one of several.
Longest = _record(
    ("attempts", i64),
    ("vma_retries", i64),
    ("thread", i64),
    ("touch", i64),
    ("kind", i64),
    ("lock", i64),  # of its last attempt
    ("finished", i64),
    ("begin_ns", i64),
    ("duration_ns", i64),
    ("wait_ns", i64, CAUSES),
    ("first", Attempt, ATTEMPTS_KEPT),
)

Tally = _record(
    ("counters", i64, COUNTERS),
    ("waits_ns", i64, CAUSES),  # of faults
    ("retries", i64, FAULT_KINDS_MAX * RETRIES_MAX),  # how many faults of a kind had so many
    ("longest", Longest),
    ("locks", LockTally, LOCKS),
    ("histograms", Histogram, HISTOGRAMS_MAX),
)

# A lock that is waited for in one mode. A clock for each chain to which blame goes tells for how
# long it did; whoever waits takes the differences of the clocks between begin and end of its wait.
Slot = _record(
    ("kind", i64),  # Waits
    ("instance", i64),  # which mm, file, or id of a VMA
    ("waiters", i64),
    ("since_ns", i64),  # up to when the clocks go
    ("blamed", i64),  # the thread to blame, or NOBODY
    ("instead", i64),  # Activity: who is to blame instead of a thread
    ("node", i64),  # the chain that begins here
    ("vma_id", i64),  # of the VMA that this chain leads through, or NOBODY
    ("vma_start", i64),
    ("vma_end", i64),
    ("next_blamed", i64),  # the next slot in which its thread is to blame; of a free slot the next
    ("below", i64),  # the slot in which its thread waits, or NOBODY
    ("above_first", i64),  # the slots whose threads wait in this one
    ("above_next", i64),
    ("above_before", i64),
    ("round", i64),  # in which it was looked at last
    ("todo_next", i64),  # that is to be looked at in this round
    ("shares", i64),  # how many clocks it has
    ("clock_ns", i64, SHARES_MAX),
    ("clock_node", i64, SHARES_MAX),
    ("clock_vma_id", i64, SHARES_MAX),
    ("clock_vma_start", i64, SHARES_MAX),
    ("clock_vma_end", i64, SHARES_MAX),
)

Seen = _record(("clock_ns", i64, SHARES_MAX))

# What stands in the way of a wait: a lock, what its holder does, and what stands in its way.
Node = _record(
    ("key", i64),  # 0: the place is free
    ("kind", i64),  # Waits
    ("holder", i64),  # class: group * ACTIVITIES_MAX + Activity
    ("priority", i64),  # of the holder
    ("lowest", i64),  # priority of all holders from here on
    ("tail", i64),  # the node of what the holder waits for; below NODES_DIRECT a Cause or Leaf
    ("depth", i64),
)

# How long a class of threads has waited for another one.
Edge = _record(
    ("key", i64),  # 0: the place is free
    ("waiter", i64),  # class
    ("kind", i64),  # Waits
    ("holder", i64),  # class
    ("waits", i64),
    ("wait_ns", i64),
    ("wait_ns_max", i64),
)

Chain = _record(
    ("key", i64),  # 0: the place is free
    ("waiter", i64),  # class
    ("node", i64),
    ("waits", i64),
    ("wait_ns", i64),
    ("wait_ns_max", i64),
    ("aside_waits", i64),  # of threads that access other VMAs than the one the chain leads through
    ("aside_ns", i64),
)

Waiter = _record(
    ("waits", i64),
    ("wait_ns", i64),
    ("wait_ns_max", i64),
    ("asleep_ns", i64),  # uninterruptibly: in state D
    ("asleep_ns_max", i64),
    ("inverted_ns", i64),  # while a thread of lower priority was in the way
    ("inverted_ns_max", i64),
    ("inverted_thread", i64),  # whose wait this was
)

LockInstance = _record(
    ("key", i64),  # 0: the place is free
    ("lock", i64),  # Locks
    ("instance", i64),
    ("contended", i64),
    ("wait_ns", i64),
    ("wait_ns_max", i64),
)

Blame = _record(
    ("slots_used", i64),
    ("slot_free", i64),  # the first free slot that was used before, or NOBODY
    ("rounds", i64),
    ("unfollowed", i64),  # waits for which there was no slot
    ("slots", Slot, SLOTS_MAX),
    ("seen", Seen, THREADS_MAX + 1),
    ("nodes", Node, NODES_FIRST + NODES_MAX),
    ("edges", Edge, 1 + EDGES_MAX),  # the first one is for what there is no room for
    ("chains", Chain, 1 + CHAINS_MAX),
    ("waiters", Waiter, GROUPS_MAX * ACTIVITIES_MAX),
    ("instances", LockInstance, 1 + INSTANCES_MAX),
)

Entry = _record(
    ("time_ns", i64),
    ("key", i64),  # order << KEY_BITS | kind << ID_BITS | id
)

Queue = _record(
    ("pushes", i64),
    ("entries", i64),  # of the heap
    ("top_is_free", i64),  # 1: the place of the last one that was taken out is not filled yet
    ("free_cpu", i64),  # the CPU whose event was taken out and whose place is not filled yet
    ("chosen", i64),  # the key of the entry that a test lets happen next, or NO_CHOICE
    ("opens_ns", i64),  # nothing of the heap happens before: interrupts wait
    ("leaves", i64),  # of the tree: a power of two; node n is above 2n and 2n + 1
    ("tree", Entry, 2 * CPUS_MAX),
    ("heap", Entry, QUEUE_MAX),
)

Costs = _record(*((f"{name}_ns", i64) for name in COSTS))

# A RetryRule; `vma_lock_on` has the bits 1 << RetryReason.
Rule = _record(
    ("vma_lock_on", i64),
    ("vma_retries_max", i64),
    ("vma_retry_sets_tried", i64),
    ("drop_for_io", i64),
    ("uptodate_direct", i64),
    ("uptodate_killable", i64),
    ("relock_and_map", i64),
)

Config = _record(
    ("seed", u64),
    ("warmup_ns", i64),
    ("horizon_ns", i64),
    ("attempts_max", i64),
    ("record_kind", i64),
    ("sample_every", i64),
    ("slower_than_ns", i64),
    ("page_shift", i64),
    ("table_pages", i64),  # page-table entries in one page table
    ("table_shift", i64),  # log2 of that
    ("fault_around_pages", i64),
    ("jiffy_ns", i64),
    ("preemption", i64),  # Preemption
    ("has_affinities", i64),  # 1: some threads may not run on all CPUs
    ("wakeup_preemption", i64),  # 1: who wakes up may run at once
    ("base_slice_ns", i64),
    ("rr_slice_ns", i64),
    ("rwsem_timeout_jiffies", i64),
    ("vma_lock_design", i64),
    ("vma_path", i64),  # 1: user faults try the VMA lock first
    ("vma_lock_faults", i64),  # VmaLockFaults
    ("vma_access_errors", i64),  # 1: SIGSEGV is decided under the VMA lock as well
    ("anon_vma_trylock", i64),  # 1: __vmf_anon_prepare tries mmap_lock under the VMA lock
    ("major_sets_tried", i64),  # 1: VM_FAULT_MAJOR under the VMA lock sets TRIED
    ("pgfault_per_attempt", i64),
    ("fork_skips", i64),  # ForkSkips
    ("madvise_vma_lock", i64),  # 1: madvise that zaps takes the VMA lock if it can
    ("mmap_killable", i64),  # 1: a fatal signal ends the wait of a fault for mmap_lock
    ("mmap_trylock", i64),  # 1: a fault tries mmap_lock before it waits for it
    ("read_needs_read", i64),
    ("exec_needs_exec", i64),
    ("prot_fault_fails", i64),
    ("fetch_fails_early", i64),
    ("young_bit", i64),  # PTE_YOUNG if an access needs it, or 0 if the hardware sets it
    ("prefaulted", i64),  # PTE_YOUNG if fault-around makes it so, or 0
    ("hugetlb_vma_lock", i64),  # 1: faults on hugetlb can be handled under the VMA lock
    ("hugetlb_restores", i64),  # 1: what is zapped of a private mapping is reserved again
    ("huge_page_pages", i64),  # small pages in a huge page
    ("fault_mutexes", i64),  # a power of two
    ("uffd_vma_lock", i64),  # 1: UFFDIO_COPY takes the VMA lock, if it can
    ("stack_writes", i64),  # 1: a stack grows under mmap_lock for write; else for read
    ("rules", Rule, len(FaultClass)),
    ("cost", Costs),
    ("dirty_limit", i64),  # pages; 0: none
    ("writes_back", i64),  # 1: dirty pages are written back in the background
    ("dirty_background", i64),  # from how many on
    ("dirtied_pause", i64),  # after how many dirtied pages a thread balances
    ("cpus", i64),
    ("cpus_per_cache", i64),  # that share a last-level cache
    ("threads", i64),
    ("processes", i64),
    ("files", i64),
    ("folios", i64),
    ("anon_first", i64),  # the folio of the first page-table entry
    ("limits_memory", i64),  # 1: pages are charged, and stand in LRU lists
    ("memcgs", i64),
    ("frames", i64),  # pages of the machine; 0: without limit
    ("frames_min", i64),  # watermarks
    ("frames_low", i64),
    ("frames_high", i64),
    ("lru_kind", i64),  # LruKind
    ("lru_gen_walks", i64),  # 1: aging walks page tables
    ("lru_gen_nonleaf", i64),  # 1: it skips page tables that were not accessed
    ("lru_gen_around", i64),  # entries that reclaim looks at around one that was accessed
    ("swappiness", i64),
    ("swap_device", i64),  # or NOBODY
    ("swap_pages", i64),
    ("swap_cluster", i64),  # page_cluster: readahead of swap is a power of two
    ("zswap_pages", i64),
)

# How an attempt of the traced thread ended.
TraceRow = _record(
    ("lock", i64),  # FaultLock
    ("tried", i64),
    ("result", i64),
)


def _rows(columns):
    room = ROWS_MAX + ROWS_APART
    return _record(("rows", i64), *((name, np.dtype(kind), room) for name, kind in columns.items()))


FaultRows = _rows(FAULT_COLUMNS)
OperationRows = _rows(OPERATION_COLUMNS)

World = _in_lines(
    ("config", Config),
    ("now_ns", i64),
    ("fingerprint", u64),  # of every event that happened, in order
    ("events", i64),  # that happened
    ("running", i64),  # threads that keep the run alive and have not ended
    ("faults_ended", i64),
    ("recorded", i64),  # completed faults that the recording's rule has looked at
    ("stuck", i64),  # the thread that made no progress, or NOBODY
    ("warm", i64),  # 1: the warm-up is over
    ("closing", i64),  # how many threads were closed when the run ended
    ("vma_ids", i64),  # how many ids of VMAs were given
    ("anon_vmas", i64),  # how many anon_vmas were made
    ("vma_free", i64),  # the first free slot
    ("vma_slots", i64),  # slots that were ever used
    ("regions_used", i64),
    ("idle_first", i64),
    ("times_shut_out", i64),  # how often interrupts had to wait from then on
    ("queued", i64),  # threads in all run queues
    ("real_time_queued", i64),  # of them with real-time priorities
    ("run_order", i64),  # how often a thread was put into one
    ("dirty", i64),  # pages of files on devices
    ("under_writeback", i64),  # pages
    ("written_first", i64),  # who waits for writeback, linked by Thread.behind, or NOBODY
    ("written_last", i64),
    ("flusher_wakes", i64),  # 1: the flusher is waking up
    ("flush_wanted", i64),  # dirty pages that reclaim wants written
    ("flushing", i64),  # requests of background writeback that are under way
    ("flush_file", i64),  # the file from which it goes on
    ("frames_free", i64),
    ("kswapd", i64),  # its thread, or NOBODY
    ("memcg_next", i64),  # where the next global reclaim begins
    ("swap_used", i64),  # slots
    ("zswap_used", i64),  # of them in zswap
    ("swap_line", i64),  # who waits for a read from a synchronous swap device, or NOBODY
    ("traced", i64),  # the thread whose attempts are traced, or NOBODY
    ("trace_rows", i64),
    ("queue", Queue),
    ("cpus", Cpu, CPUS_MAX),
    ("devices", Device, DEVICES_MAX),
    ("mms", Mm, PROCESSES_MAX),
    ("opens", Open, OPENS_MAX),
    ("files", File, FILES_MAX),
    ("threads", Thread, THREADS_MAX + 1),  # and kswapd
    ("run_nodes", RunNode, THREADS_MAX + 1),
    ("affinities", u64, (AFFINITIES_MAX, CPUS_MAX // 64)),  # a bit for each CPU
    ("memcgs", Memcg, MEMCGS_MAX),
    ("hugetlb", HugetlbPool),
    ("batches", u32, CPUS_MAX * BATCH_MAX),
    ("vmas", Vma, VMAS_MAX),
    ("vma_order", u32, VMA_ORDER_MAX),  # slots of each process by address
    ("instructions", Instruction, INSTRUCTIONS_MAX),
    ("regions", Region, REGIONS_MAX),
    ("barriers", Barrier, BARRIERS_MAX),
    ("cursors", i64, CURSORS_MAX),
    ("pages_listed", i64, LIST_MAX),
    ("zipf", u64, ZIPF_MAX),
    ("points", QuantilePoint, QUANTILES_MAX),
    ("tally", Tally),
    ("blame", Blame),
    ("attempts", Attempt, (THREADS_MAX + 1) * ATTEMPTS_KEPT),  # the first ones of each fault
    ("fault_rows", FaultRows),
    ("operation_rows", OperationRows),
    ("traces", TraceRow, TRACE_MAX),
    ("cache_nodes", u8, PAGES_MAX >> CACHE_NODE_SHIFT),  # 1: there is this node of an xarray
    ("tables", u8, PAGES_MAX >> TABLE_SHIFT_MIN),  # 1: there is this page table
    ("ptes", u16, PAGES_MAX),
    ("folios", Folio, PAGES_MAX),
)


def empty_world() -> np.recarray:
    """Return a world of zeros, from a cache line on; its memory is taken when it is touched."""
    room = np.zeros(World.itemsize + CACHE_LINE, u8)
    start = -room.ctypes.data % CACHE_LINE
    return room[start : start + World.itemsize].view(World).view(np.recarray)


def free_rwsem(lock) -> None:
    """Make a rwsem that nobody holds or waits for."""
    for name in (
        *("writer", "owner", "first", "last", "spin_first", "spin_last", "woken"),
        *("holders_first", "holders_last", "slot_read", "slot_write"),
    ):
        lock[name] = 0xFFFFFFFF
