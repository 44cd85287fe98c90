"""A neutral machine: round numbers of a current server, for comparisons of designs."""

from faultlane_server.machines.profile import Cost, MachineProfile

ASSUMED = "assumed"


def _assumed(ns: int) -> Cost:
    return Cost(ns, ASSUMED)


NEUTRAL = MachineProfile(
    name="neutral",
    description="no machine in particular: round numbers of the order of a current server",
    costs={
        "touch": _assumed(5),
        "trap": _assumed(150),
        "vma_find": _assumed(50),
        "handle": _assumed(150),
        "fault_around": _assumed(200),
        "fault_around_page": _assumed(25),
        "cache_lookup": _assumed(50),
        "readahead": _assumed(200),
        "readahead_page": _assumed(150),
        "submit": _assumed(1000),
        "sync_read": _assumed(1200),
        "folio_wait": _assumed(150),
        "map_page": _assumed(150),
        "anon_page": _assumed(250),
        "clear_page": _assumed(150),
        "map_anon": _assumed(100),
        "copy_page": _assumed(250),
        "anon_vma": _assumed(300),
        "zero_page": _assumed(150),
        "page_mkwrite": _assumed(1500),
        "dirty": _assumed(250),
        "make_writable": _assumed(100),
        "retry": _assumed(100),
        "fault_exit": _assumed(100),
        "mmap_lock": _assumed(20),
        "irq": _assumed(1500),
        "irq_page": _assumed(50),
        "timer": _assumed(800),
        "wake": _assumed(700),
        "sleep": _assumed(500),
        "switch": _assumed(1200),
        "idle_exit": _assumed(1500),
        "syscall": _assumed(100),
        "mmap": _assumed(900),
        "mmap_file": _assumed(300),
        "munmap": _assumed(900),
        "munmap_zap": _assumed(400),
        "munmap_page": _assumed(5),
        "mremap": _assumed(900),
        "mremap_page": _assumed(25),
        "brk": _assumed(500),
        "mprotect": _assumed(500),
        "mprotect_page": _assumed(15),
        "madvise": _assumed(300),
        "madvise_page": _assumed(5),
        "fork": _assumed(30000),
        "fork_vma": _assumed(300),
        "fork_page": _assumed(20),
        "vma_split": _assumed(700),
        "vma_merge": _assumed(600),
        "ftruncate": _assumed(2000),
        "punch_hole": _assumed(3000),
        "truncate_page": _assumed(100),
        "sync_file_range": _assumed(500),
        "writeback_page": _assumed(200),
        "fadvise_dontneed": _assumed(300),
        "kill": _assumed(500),
        "signal": _assumed(1000),
        # The serialised part of taking and releasing mmap_lock for read is about 155 ns on the
        # Ice Lake server of the pft table (two atomics).
        "word_local": _assumed(10),
        "word_remote": Cost(75, "derived: half of 155 ns, mmap_lock read on an Ice Lake server"),
    },
)
