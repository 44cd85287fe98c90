"""The instruction-count guest: one emulated CPU whose clock counts instructions, 1 ns each.

Linux 6.12.117, x86-64, 250 Hz. Its primitives were measured in the guest itself; the numbers
here split them among the steps of the model so that they add up again: `derived` names the
primitive. Clock reads of the measuring program (66 ns) stand in `touch`.
"""

from faultlane_server.machines.profile import Cost, MachineProfile

MINOR = "derived: anon_read_fault_zero_page 1088"
HIT = "derived: file_hit_fault_around_off 1696, less the minor fault"
AROUND = "derived: file_hit_fault_around16 7011, less the minor fault"
READ = "derived: odirect_read4k_nullb_1000000ns 1006862"
SLEEP = "derived: nanosleep_1ms_overshoot 3923"
PAIR = "derived: mmap_munmap_pair 10414 and write holds of 3.5 to 4 us"
SPLIT = "derived: mprotect_split 6533"
MERGE = "derived: mprotect_merge 4919"
DROP = "derived: cold file faults of one thread, mainline less hold, 1.1 to 1.4 us"
WRITE = "derived: anon_write_fault 5940 less anon_read_fault_zero_page 1088, in two halves"
NOOP = "derived: madvise_normal_mmap_write_noop 906, less the system call and the clock reads"
BUSY = "derived: CPU time of a cold file fault, 11 to 13 us, less what its latency shows"
RECLAIM = "derived: CPU time per page of two rows that thrash (16 and 64 threads, mainline)"

ICOUNT_GUEST = MachineProfile(
    name="icount-guest",
    description="an emulated x86-64 guest with one CPU whose clock counts instructions",
    costs={
        "touch": Cost(66, "measured: clock_read_pair 66"),
        "trap": Cost(250, MINOR),
        "vma_find": Cost(120, MINOR),
        "page_table": Cost(4900, "derived: S6, 1 touch in 512 takes 10.8 us instead of 5.9"),
        "handle": Cost(280, MINOR),
        "fault_around": Cost(350, AROUND),
        "fault_around_page": Cost(353, AROUND),
        "cache_lookup": Cost(250, HIT),
        "readahead": Cost(300, "derived: cold file fault of one thread, less the direct read"),
        "readahead_page": Cost(950, "derived: cold file fault of one thread, less the direct read"),
        "cache_node": Cost(850, "derived: S1 of one thread, p90 less median: 1 page in 4"),
        "submit": Cost(2200, READ),
        "sync_read": Cost(2450, READ),
        "folio_wait": Cost(500, READ),
        "map_page": Cost(430, HIT),
        "lru_add": Cost(315, "derived: S6, 1 touch in 31 takes 15.7 us instead of 5.9"),
        "anon_page": Cost(2400, WRITE),
        "clear_page": Cost(2452, WRITE),
        "map_anon": Cost(138, MINOR),
        "copy_page": Cost(2452, "assumed: as much as clearing one"),
        "anon_vma": Cost(1500, "assumed"),
        "zero_page": Cost(2000, "assumed"),
        "page_mkwrite": Cost(8000, "assumed"),
        "dirty": Cost(1200, "assumed"),
        "make_writable": Cost(400, "assumed"),
        "retry": Cost(550, DROP),
        "fault_exit": Cost(300, MINOR),
        "mmap_lock": Cost(77, DROP),
        "irq": Cost(1400, READ),
        "irq_page": Cost(150, "assumed"),
        "timer": Cost(1905, SLEEP),
        "tick": Cost(3000, "assumed"),
        "wake": Cost(600, READ),
        "sleep": Cost(2000, BUSY),
        "switch": Cost(1374, READ),
        "idle_exit": Cost(300, READ),
        "cold": Cost(0, "derived: an instruction takes 1 ns there, cold or not"),
        "cold_work": Cost(25000, "assumed"),
        "syscall": Cost(212, "measured: syscall_getppid 278, less the clock reads"),
        "mmap": Cost(3700, PAIR),
        "mmap_file": Cost(1500, "assumed"),
        "munmap": Cost(3500, PAIR),
        "munmap_zap": Cost(2400, PAIR),
        "munmap_page": Cost(10, PAIR),
        "mremap": Cost(3700, "assumed: as much as an mmap"),
        "mremap_page": Cost(150, "assumed"),
        "brk": Cost(2000, "assumed"),
        "mlock": Cost(1000, "assumed"),
        "munlock": Cost(1000, "assumed"),
        "mlock_page": Cost(100, "assumed"),
        "mbind": Cost(2000, "assumed"),
        "mbind_page": Cost(30, "assumed"),
        "migrate_page": Cost(8000, "assumed"),
        "prctl": Cost(1000, "assumed"),
        "exec": Cost(500000, "assumed"),
        "exit": Cost(50000, "assumed"),
        "exit_vma": Cost(1000, "assumed"),
        "exit_page": Cost(100, "assumed"),
        "read_smaps": Cost(10000, "assumed"),
        "smaps_page": Cost(85, "assumed"),
        "read_maps": Cost(2000, "assumed"),
        "clear_refs": Cost(1000, "assumed"),
        "clear_refs_page": Cost(60, "assumed"),
        "khugepaged": Cost(3000, "assumed"),
        "khugepaged_page": Cost(50, "assumed"),
        "huge_page": Cost(20000, "assumed"),
        "collapse_page": Cost(2452, "assumed"),
        "numa_scan": Cost(1500, "assumed"),
        "numa_scan_page": Cost(60, "assumed"),
        "cold_page": Cost(150, "assumed"),
        "pageout_page": Cost(1500, "assumed"),
        "mprotect": Cost(800, SPLIT),
        "mprotect_page": Cost(100, "assumed"),
        "madvise": Cost(
            562, "derived: madvise_normal_mmap_write_noop 906, less syscall and clock reads"
        ),
        "madvise_page": Cost(10, "assumed"),
        "fork": Cost(100000, "assumed"),
        "fork_vma": Cost(1500, "assumed"),
        "fork_page": Cost(100, "assumed"),
        "vma_split": Cost(2677, SPLIT),
        "vma_merge": Cost(1870, MERGE),
        "vma_file": Cost(
            2600, "derived: S2, mprotect of a part of a file, less that of anonymous memory"
        ),
        "swap_lookup": Cost(400, "assumed"),
        "swap_page": Cost(1000, "assumed"),
        "compress_page": Cost(12000, "assumed"),
        "decompress_page": Cost(6000, "assumed"),
        "reclaim": Cost(3000, "assumed"),
        "reclaim_page": Cost(1500, RECLAIM),
        "reclaim_far": Cost(0, "derived: an instruction takes 1 ns there, wherever its data are"),
        "unmap_page": Cost(800, "assumed"),
        "evict_page": Cost(1800, RECLAIM),
        "walk_table": Cost(200, "assumed"),
        "walk_page": Cost(10, "assumed"),
        "ftruncate": Cost(8000, "assumed"),
        "punch_hole": Cost(12000, "assumed"),
        "truncate_page": Cost(500, "assumed"),
        "sync_file_range": Cost(2000, "assumed"),
        "writeback_page": Cost(1000, "assumed"),
        "fadvise_dontneed": Cost(1500, "assumed"),
        "stack_grow": Cost(2400, "assumed"),
        "young": Cost(200, "assumed"),
        "numa_hint": Cost(1200, "assumed"),
        "migrate": Cost(6000, "assumed"),
        "migrate_to_ram": Cost(20000, "assumed"),
        "device_exclusive": Cost(6000, "assumed"),
        "userfaultfd": Cost(1600, "assumed"),
        "userfaultfd_read": Cost(2000, "assumed"),
        "userfaultfd_register": Cost(2000, "assumed"),
        "userfaultfd_copy": Cost(3600, "assumed"),
        "userfaultfd_writeprotect": Cost(1600, "assumed"),
        "userfaultfd_page": Cost(60, "assumed"),
        "userfaultfd_close": Cost(2000, "assumed"),
        "hugetlb": Cost(600, "assumed"),
        "hugetlb_page": Cost(1600, "assumed"),
        "hugetlb_unmap": Cost(4000, "assumed"),
        "kill": Cost(1500, "assumed"),
        "signal": Cost(4000, "assumed"),
        "word_local": Cost(5, "assumed: one CPU, so no word is ever transferred"),
        "word_remote": Cost(5, "assumed: one CPU, so no word is ever transferred"),
    },
)
