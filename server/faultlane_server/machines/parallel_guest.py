"""The parallel guest: two emulated CPUs that run at the same time, in real time.

Linux 6.12.117, x86-64, 250 Hz, the same kernel as in the guest that counts instructions. What each
step costs is taken from there, times how much slower the same primitive was here, and times a
factor fitted to rows: those without writers and I/O (S6), those without writers (S1), and those of
the sets `tcg2a` and `tcg2c` with writers (S2), swap (S4) and short of memory (S5). All that was
fitted stands in this file. A CPU of this guest works at full speed only on what it has done just
before: costs grow with the time since (`cold`). While both work, the emulator's thread that sends
interrupts has no CPU of the host, which has two: measured reads of a device that takes 4 ms take
0.1 ms longer when a CPU of the guest is idle, and 15 to 30 ms when none is (`interrupt_wait`).
"""

from faultlane_server.machines.icount_guest import ICOUNT_GUEST
from faultlane_server.machines.profile import Cost, Lateness, MachineProfile

FIT = "fitted to S1, S6, and what tcg2a and tcg2c have of S2, S4 and S5"
FITTED = f"derived: {FIT}"
CROSS = "derived: futex_wake_to_run_cross_cpu less same_cpu is 30 us, half of it on either CPU"


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
            3.01,
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
        **_times(2.132, FIT, "retry"),
        **_times(2.755, f"file_hit_fault_around_off, {FIT}", "cache_lookup", "map_page"),
        **_times(1.687, f"file_hit_fault_around16, {FIT}", "fault_around", "fault_around_page"),
        **_times(
            2.368, f"odirect_read4k_nullb_0ns 4207/3458, {FIT}", "submit", "sync_read", "folio_wait"
        ),
        **_times(2.724, FIT, "page_table", "cache_node"),
        **_times(
            3.132,
            f"anon_write_fault less anon_read_fault_zero_page, {FIT}",
            "swap_page",
            "swap_lookup",
        ),
        **_times(
            1.611,
            f"anon_write_fault less anon_read_fault_zero_page, {FIT}",
            "anon_page",
            "clear_page",
            "copy_page",
        ),
        **_times(1.401, FIT, "lru_add"),
        **_times(4.836, f"odirect_read4k_nullb_0ns, {FIT}", "irq"),
        **_times(1.877, FIT, "timer", "tick"),
        **_times(
            3.754, f"futex_wake_to_run_same_cpu 12990/4642, {FIT}", "wake", "switch", "run_queue"
        ),
        **_times(3.882, f"futex_wake_to_run_same_cpu 12990/4642, {FIT}", "sleep", "dequeue"),
        **_times(1.705, f"mmap_munmap_pair 12449/10414, {FIT}", "mmap", "munmap", "munmap_zap"),
        **_times(1.881, f"mprotect_split 8603/6533, {FIT}", "mprotect", "vma_split"),
        **_times(1.994, f"mprotect_merge 6840/4919, {FIT}", "vma_merge"),
        **_times(1.997, FIT, "vma_file"),
        **_times(1.864, f"madvise_normal_mmap_write_noop 1172/906, {FIT}", "madvise"),
        **_times(2.766, FIT, "reclaim", "reclaim_page", "reference_page"),
        **_times(3.257, FIT, "unmap_page", "evict_page"),
        "reclaim_far": Cost(11749, FITTED),
        "ipi": Cost(15000, CROSS),
        "ipi_irq": Cost(15000, CROSS),
        "interrupt_wait": Cost(27000000, FITTED),
        "idle_exit": Cost(7023, FITTED),
        "cold": Cost(96049, FITTED),
        "cold_work": Cost(25516, FITTED),
        "word_local": Cost(20, "assumed"),
        "word_remote": Cost(169, FITTED),
    },
    timers=Lateness(
        21000,
        (
            (0, 1329),
            (10000, 2482),
            (100000, 6536),
            (250000, 11475),
            (500000, 21444),
            (750000, 40073),
            (900000, 70352),
            (990000, 185247),
            (999000, 376130),
            (1000000, 603482),
        ),
        "derived: drift from odirect_read4k_nullb of 0.1 to 16 ms; the rest log-normal, " + FIT,
    ),
)
