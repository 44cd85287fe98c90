"""What a machine profile is: one cost for everything that the engine charges."""

from typing import NamedTuple

COSTS: dict[str, str] = {
    "touch": "an access to a page that is mapped",
    "trap": "from the exception to the first lock: entry, decoding, PERF page-faults",
    "vma_find": "finding the VMA of an address, under RCU or mmap_lock",
    "page_table": "allocating and clearing a page table (pte_alloc)",
    "handle": "handle_mm_fault up to the page-table entry: checks, accounting, page walk",
    "fault_around": "fault-around, its fixed part",
    "fault_around_page": "fault-around, for each page that it maps",
    "cache_lookup": "looking a page up in the page cache",
    "readahead": "setting a readahead window up",
    "readahead_page": "allocating one page and adding it to the page cache",
    "cache_node": "allocating a node of the page cache's xarray, for 64 pages",
    "submit": "submitting one request to a device",
    "sync_read": "setting up and submitting a synchronous read of one page (page_not_uptodate)",
    "folio_wait": "preparing to sleep on a folio, and cleaning up after it",
    "map_page": "mapping one page under its folio lock (finish_fault)",
    "lru_add": "moving one new page from the batch of a CPU to its LRU list (lru_add)",
    "anon_page": "allocating and charging a page for a private write",
    "clear_page": "zeroing a page of anonymous memory",
    "map_anon": "mapping one page of anonymous memory (do_anonymous_page)",
    "copy_page": "copying a page for a private write",
    "anon_vma": "giving a VMA its anon_vma (__vmf_anon_prepare)",
    "zero_page": "zeroing a page of the page cache that no device has",
    "page_mkwrite": "page_mkwrite of the file system: journal, block allocation",
    "dirty": "marking a page dirty and accounting for it (fault_dirty_shared_page)",
    "make_writable": "making a page-table entry writable (wp_page_reuse)",
    "retry": "leaving handle_mm_fault with VM_FAULT_RETRY and getting ready to try again",
    "fault_exit": "from the end of the last attempt to user mode",
    "mmap_lock": "mmap_lock for read: taking and releasing it, beyond its lock words",
    "irq": "the interrupt for a completed request, charged to the CPU it strikes",
    "irq_page": "the same, for each page of the request",
    "timer": "the interrupt of a timer, charged to the CPU it strikes",
    "interrupt_wait": "what interrupts of timers and devices wait on average while all CPUs work:"
    " in a guest whose emulator has no CPU of its own to send them",
    "tick": "the tick of a CPU that is not idle, charged to what it strikes",
    "wake": "waking one thread, charged to the waker",
    "ipi": "the same, if it runs on a CPU with another cache, on top: sending that an interrupt",
    "ipi_irq": "the interrupt that tells a CPU of such a wake-up, charged to the CPU it strikes",
    "sleep": "going to sleep: from the decision until the scheduler looks at the clock",
    "dequeue": "from there until the CPU is free, charged to who comes next",
    "switch": "switching a CPU to another thread",
    "run_queue": "switching, on top: for each level of the tree that the run queue is",
    "idle_exit": "from the wake-up of an idle CPU until it begins to switch",
    "cold": "work that a CPU did last 1 ms ago, on top: what cold caches cost, as the fourth root"
    " of the time since",
    "cold_work": "for how long work runs cold: the part of a fault or operation that pays `cold`",
    "syscall": "entering and leaving a system call",
    "mmap": "mmap of new memory, under the write lock",
    "mmap_file": "mmap of a file, on top: its mmap method, and i_mmap",
    "munmap": "munmap up to the downgrade, under the write lock",
    "munmap_zap": "munmap after the downgrade, its fixed part",
    "munmap_page": "munmap after the downgrade, for each page of the range",
    "mremap": "mremap without its pages, under the write lock",
    "mremap_page": "mremap that moves, for each page that is mapped: moving its entry",
    "brk": "brk that grows the heap, under the write lock",
    "mlock": "mlock without splitting or merging, under the write lock",
    "munlock": "munlock without splitting or merging, under the write lock",
    "mlock_page": "mlock and munlock, for each page that is mapped in the range",
    "mbind": "mbind without splitting or merging, under the write lock",
    "mbind_page": "mbind, for each page of the range: looking at its entry",
    "migrate_page": "migrating one page",
    "prctl": "prctl that names memory, without splitting or merging, under the write lock",
    "exec": "execve without its address space",
    "exit": "the end of an address space, its fixed part",
    "exit_vma": "the end of an address space, for each VMA",
    "exit_page": "the end of an address space, for each page that is mapped",
    "read_smaps": "reading smaps, for each VMA",
    "smaps_page": "reading smaps, for each page of the VMA",
    "read_maps": "reading maps, for each VMA",
    "clear_refs": "clear_refs, for each VMA",
    "clear_refs_page": "clear_refs, for each page that is mapped",
    "khugepaged": "looking at what may become a huge page: its fixed part",
    "khugepaged_page": "the same, for each of its page-table entries",
    "huge_page": "allocating and charging a huge page",
    "collapse_page": "making a huge page, for each of its pages: copying or clearing it",
    "numa_scan": "a scan of NUMA balancing, its fixed part",
    "numa_scan_page": "the same, for each page of the range",
    "cold_page": "MADV_COLD, for each page that is mapped: making it old",
    "pageout_page": "MADV_PAGEOUT, for each page that is mapped: reclaiming it",
    "mprotect": "mprotect without splitting or merging, under the write lock",
    "mprotect_page": "mprotect, for each page that is mapped in the range",
    "madvise": "madvise without splitting or merging, under its lock",
    "madvise_page": "MADV_DONTNEED, for each page of the range",
    "fork": "fork without its VMAs, under the write lock",
    "fork_vma": "fork, for each VMA: duplicating it",
    "fork_page": "fork, for each page of anonymous memory: copying its entry",
    "vma_split": "splitting one VMA in two",
    "vma_merge": "merging one VMA into its neighbour",
    "vma_file": "splitting or merging a VMA of a file, on top: i_mmap_lock and its interval tree",
    "swap_lookup": "looking a page up in the swap cache",
    "swap_page": "adding one page to the swap cache, for its read",
    "compress_page": "compressing a page for zswap",
    "decompress_page": "decompressing a page out of zswap",
    "reclaim": "one round of reclaim, its fixed part",
    "reclaim_page": "reclaim, for each page that it looks at",
    "reference_page": "reclaim, for each entry that maps a page: was it used (folio_referenced)",
    "unmap_page": "reclaim, for each page-table entry that it clears (try_to_unmap)",
    "evict_page": "reclaim, for each page that it frees",
    "reclaim_far": "the same, if it is far from the one freed before: nothing of it is in a cache",
    "walk_table": "an aging walk, for each page table",
    "walk_page": "an aging walk, for each entry of a table that is looked into",
    "ftruncate": "ftruncate, its fixed part",
    "punch_hole": "fallocate that punches a hole, its fixed part",
    "truncate_page": "taking one page out of the page cache",
    "sync_file_range": "sync_file_range, its fixed part",
    "writeback_page": "preparing one page for its writeback",
    "fadvise_dontneed": "posix_fadvise(POSIX_FADV_DONTNEED), its fixed part",
    "stack_grow": "letting a stack grow down to a fault, under the write lock",
    "young": "making the entry of a mapped page young",
    "numa_hint": "a NUMA hint fault, beyond what all faults cost",
    "migrate": "moving pages, its fixed part",
    "migrate_to_ram": "bringing one page back from the memory of a device",
    "device_exclusive": "making the entry of a page normal that a device has for itself",
    "userfaultfd": "handing a fault to a userfaultfd",
    "userfaultfd_read": "reading of one fault from a userfaultfd",
    "userfaultfd_register": "UFFDIO_REGISTER without splitting or merging, under the write lock",
    "userfaultfd_copy": "UFFDIO_COPY of one page, under its lock",
    "userfaultfd_writeprotect": "UFFDIO_WRITEPROTECT, its fixed part, under mmap_lock",
    "userfaultfd_page": "UFFDIO_WRITEPROTECT, for each page of the range",
    "userfaultfd_close": "closing a userfaultfd: for each VMA, under the write lock",
    "hugetlb": "a fault on hugetlb, beyond what all faults cost: fault mutex, reservations",
    "hugetlb_page": "taking one huge page out of the pool; to zero or to copy it comes on top",
    "hugetlb_unmap": "taking one huge page away from a child (unmap_ref_private)",
    "kill": "sending a signal to one thread or process",
    "signal": "entering a signal handler and coming back from it",
    "word_local": "an atomic on a lock word that this CPU touched last",
    "word_remote": "an atomic on a lock word that another CPU touched last",
}


class Cost(NamedTuple):
    """What one thing costs, and how we know."""

    ns: int
    source: str  # `measured: ...`, `published: ...`, `derived: ...` or `assumed`


class Lateness(NamedTuple):
    """How much later than it was set to a timer strikes, where that is not the cost of anything.

    It is for who makes a scenario of something that timers drive, such as a null block device or
    a program that sleeps: the simulator's own timers are exact.
    """

    drift_ppm: int  # of the time that it was set to
    quantiles: tuple[tuple[int, int], ...]  # of what comes on top: ppm and ns, both rising
    source: str


class MachineProfile(NamedTuple):
    """What everything costs on one machine."""

    name: str
    description: str
    costs: dict[str, Cost]  # an entry for each name in COSTS
    timers: Lateness | None = None  # None: they strike when they are set to


def based_on(
    base: MachineProfile,
    name: str,
    description: str,
    costs: dict[str, Cost],
    tenths: int = 10,
) -> MachineProfile:
    """Make a profile with some costs of its own and all others of another.

    Those of the other are `tenths` tenths as high, which is an assumption.
    """
    assert costs.keys() <= base.costs.keys(), "a cost of no known name"
    return MachineProfile(
        name,
        description,
        {each: costs.get(each) or _scaled(cost, tenths, base) for each, cost in base.costs.items()},
    )


def _scaled(cost: Cost, tenths: int, base: MachineProfile) -> Cost:
    if tenths == 10:
        return cost
    return Cost(cost.ns * tenths // 10, f"assumed: {tenths / 10:g} times {base.name}")
