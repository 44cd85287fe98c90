"""The parallel guest: two emulated CPUs that run at the same time, in real time.

Linux 6.12.117, x86-64, 250 Hz, the same kernel as in the guest that counts instructions. What each
step costs is taken from there, times how much slower the same primitive was here, and times a
factor fitted to cold file faults without writers (S1), anonymous memory (S6), and the first set
of rows with writers (S2, `tcg2a`); reclaim to six rows of that set that are short of memory. All that was fitted stands in this file. A CPU of this guest
works at full speed only on what it has done just before: costs grow with the time since (`cold`).
"""

from faultlane_server.machines.icount_guest import ICOUNT_GUEST
from faultlane_server.machines.profile import Cost, Lateness, MachineProfile

FIT = "fitted to S1, S6 and tcg2a's S2"


def _times(ratio: float, source: str, *names: str) -> dict[str, Cost]:
    """Return costs of the guest that counts instructions, times a ratio."""
    costs = ICOUNT_GUEST.costs
    return {
        name: Cost(round(costs[name].ns * ratio), f"derived: icount-guest x {ratio}: {source}")
        for name in names
    }


PARALLEL_GUEST = MachineProfile(
    name="parallel-guest",
    description="an emulated x86-64 guest with two CPUs, 3 to 7 times slower than its host",
    costs={
        **_times(1.4, "assumed: as primitives on average", *ICOUNT_GUEST.costs),
        **_times(0.91, "clock_read_pair 60/66", "touch"),
        **_times(1.37, "syscall_getppid 291/212", "syscall"),
        **_times(
            1.744,
            f"anon_read_fault_zero_page 1623/1022, {FIT}",
            "trap",
            "vma_find",
            "handle",
            "map_anon",
            "fault_exit",
            "mmap_lock",
            "readahead",
            "readahead_page",
        ),
        **_times(2.889, FIT, "retry"),
        **_times(1.597, f"file_hit_fault_around_off, {FIT}", "cache_lookup", "map_page"),
        **_times(0.978, f"file_hit_fault_around16, {FIT}", "fault_around", "fault_around_page"),
        **_times(
            1.372, f"odirect_read4k_nullb_0ns 4207/3458, {FIT}", "submit", "sync_read", "folio_wait"
        ),
        **_times(1.579, FIT, "page_table", "cache_node"),
        **_times(
            1.815,
            f"anon_write_fault less anon_read_fault_zero_page, {FIT}",
            "swap_page",
            "swap_lookup",
        ),
        **_times(
            1.61,
            f"anon_write_fault less anon_read_fault_zero_page, {FIT}",
            "anon_page",
            "clear_page",
            "copy_page",
        ),
        **_times(1.4, FIT, "lru_add"),
        **_times(1.266, f"odirect_read4k_nullb_0ns, {FIT}", "irq"),
        **_times(1.456, FIT, "timer", "tick"),
        **_times(2.912, f"futex_wake_to_run_same_cpu 12990/4642, {FIT}", "wake", "switch", "sleep"),
        **_times(1.46, f"mmap_munmap_pair 12449/10414, {FIT}", "mmap", "munmap", "munmap_zap"),
        **_times(1.611, f"mprotect_split 8603/6533, {FIT}", "mprotect", "vma_split"),
        **_times(1.708, f"mprotect_merge 6840/4919, {FIT}", "vma_merge"),
        **_times(1.71, FIT, "vma_file"),
        **_times(1.596, f"madvise_normal_mmap_write_noop 1172/906, {FIT}", "madvise"),
        **_times(
            2.876,
            "fitted to six rows of tcg2a's S5",
            "reclaim",
            "reclaim_page",
            "unmap_page",
            "evict_page",
        ),
        "reclaim_far": Cost(9295, "fitted to six rows of tcg2a's S5"),
        "idle_exit": Cost(6703, FIT),
        "cold": Cost(141243, FIT),
        "cold_work": Cost(25000, FIT),
        "word_local": Cost(20, "assumed"),
        "word_remote": Cost(176, FIT),
    },
    timers=Lateness(
        21000,
        (
            (0, 1034),
            (10000, 2014),
            (100000, 5659),
            (250000, 10318),
            (500000, 20109),
            (750000, 39192),
            (900000, 71458),
            (990000, 200813),
            (999000, 427616),
            (1000000, 708243),
        ),
        "derived: drift from odirect_read4k_nullb of 0.1 to 16 ms; the rest log-normal, " + FIT,
    ),
)
