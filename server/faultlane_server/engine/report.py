"""From the record of a run that has ended to its summary."""

import numpy as np

from faultlane_server.codes import FaultKind, OperationKind, StopReason
from faultlane_server.engine.blame_report import LOCK_NAMES, blame_of
from faultlane_server.engine.diagnosis import diagnose
from faultlane_server.engine.names import Names
from faultlane_server.engine.retry_report import retries_of, retry_metrics
from faultlane_server.engine.world import (
    HISTOGRAM_SUB,
    Cause,
    Counter,
    Histograms,
)
from faultlane_server.summary import Latency, LockRow, Summary

COUNTER_NAMES = {
    Counter.TOUCHES: "touches.count",
    Counter.FAULTS: "faults.count",
    Counter.OPERATIONS: "operations.count",
    Counter.PERF_PAGE_FAULTS: "perf.page_faults",
    Counter.MAJOR: "perf.major_faults",
    Counter.MINOR: "perf.minor_faults",
    Counter.PGFAULT: "vmstat.pgfault",
    Counter.PGMAJFAULT: "vmstat.pgmajfault",
    Counter.VMA_LOCK_SUCCESS: "vmstat.vma_lock_success",
    Counter.VMA_LOCK_ABORT: "vmstat.vma_lock_abort",
    Counter.VMA_LOCK_RETRY: "vmstat.vma_lock_retry",
    Counter.VMA_LOCK_MISS: "vmstat.vma_lock_miss",
    Counter.VMA_RETRIES: "faults.vma_retries",
    Counter.ATTEMPTS: "faults.attempts",
    Counter.FAULTS_VIA_MMAP_LOCK: "faults.via_mmap_lock",
    Counter.SIGSEGV: "faults.sigsegv",
    Counter.SIGBUS: "faults.sigbus",
    Counter.DEVICE_READS: "device.reads",
    Counter.DEVICE_PAGES: "device.pages",
    Counter.CONTEXT_SWITCHES: "cpu.context_switches",
    Counter.PREEMPTIONS: "cpu.nonvoluntary_switches",
    Counter.INTERRUPTS_NS: "cpu.interrupts_ns",
    Counter.MMAP_DOWNGRADES: "mmap_lock.downgrades",
    Counter.KERNEL_FAULTS: "faults.kernel_mode",
    Counter.REFUSED_EARLY: "faults.refused_early",
    Counter.INTERRUPTED: "faults.interrupted",
    Counter.COMPLETED: "faults.completed",
    Counter.ATTEMPTS_MOST: "faults.attempts_max",
    Counter.SIGNALS: "signals.handled",
    Counter.DEVICE_WRITES: "device.writes",
    Counter.DEVICE_PAGES_WRITTEN: "device.pages_written",
    Counter.READ_ERRORS: "device.read_errors",
    Counter.TRUNCATED: "page_cache.truncated",
    Counter.DIRTIED: "vmstat.nr_dirtied",
    Counter.THROTTLED: "balance_dirty_pages.pauses",
    Counter.PGSCAN_DIRECT: "vmstat.pgscan_direct",
    Counter.PGSCAN_KSWAPD: "vmstat.pgscan_kswapd",
    Counter.PGSTEAL_DIRECT: "vmstat.pgsteal_direct",
    Counter.PGSTEAL_KSWAPD: "vmstat.pgsteal_kswapd",
    Counter.WORKINGSET_REFAULT_ANON: "vmstat.workingset_refault_anon",
    Counter.WORKINGSET_REFAULT_FILE: "vmstat.workingset_refault_file",
    Counter.WORKINGSET_ACTIVATE_ANON: "vmstat.workingset_activate_anon",
    Counter.WORKINGSET_ACTIVATE_FILE: "vmstat.workingset_activate_file",
    Counter.WORKINGSET_RESTORE_ANON: "vmstat.workingset_restore_anon",
    Counter.WORKINGSET_RESTORE_FILE: "vmstat.workingset_restore_file",
    Counter.PSWPIN: "vmstat.pswpin",
    Counter.PSWPOUT: "vmstat.pswpout",
    Counter.SWAP_RA: "vmstat.swap_ra",
    Counter.SWAP_RA_HIT: "vmstat.swap_ra_hit",
    Counter.PGACTIVATE: "vmstat.pgactivate",
    Counter.PGDEACTIVATE: "vmstat.pgdeactivate",
    Counter.MEMCG_HIGH: "memory.events.high",
    Counter.MEMCG_MAX: "memory.events.max",
    Counter.MEMCG_OOM: "memory.events.oom",
    Counter.MEMCG_OOM_KILL: "memory.events.oom_kill",
    Counter.HIGH_DELAYS: "memory.high_delays",
    Counter.READS_LOST: "faults.reads_lost",
    Counter.READS_TWICE: "faults.reads_twice",
    Counter.FAULTS_OOM: "faults.oom",
    Counter.SWAP_COLLISIONS: "swap.collisions",
    Counter.READAHEAD_STOPPED: "readahead.stopped",
    Counter.AGING_WALKS: "lru_gen.walks",
    Counter.AGING_SKIPPED: "lru_gen.walks_skipped",
    Counter.STACKS_GROWN: "stacks.grown",
    Counter.MIGRATED: "migration.pages",
    Counter.NOT_MIGRATED: "migration.pages_in_use",
    Counter.USERFAULTS: "userfaultfd.faults",
    Counter.USERFAULTS_RESOLVED: "userfaultfd.resolved",
    Counter.USERFAULTFD_ABORTS: "userfaultfd.vma_lock_abort",
    Counter.NUMA_HINT_FAULTS: "vmstat.numa_hint_faults",
    Counter.YOUNG_FAULTS: "faults.young",
    Counter.HUGE_PAGES: "vmstat.thp_collapse_alloc",
    Counter.NUMA_HINTS: "vmstat.numa_pte_updates",
    Counter.PAGED_OUT: "madvise.pages_out",
    Counter.MADVISE_ABORTS: "madvise.vma_lock_aborts",
    Counter.ADDRESS_SPACES_ENDED: "address_spaces.ended",
    Counter.HUGETLB_ALLOCATED: "hugetlb.pages_allocated",
    Counter.HUGETLB_EMPTY: "hugetlb.sigbus",
    Counter.HUGETLB_REFUSED: "hugetlb.mmaps_refused",
    Counter.HUGETLB_TAKEN_BACK: "hugetlb.pages_taken_from_children",
}

CAUSE_NAMES = {
    Cause.CPU: "faults.cpu_ns",
    Cause.MMAP_LOCK: "wait.mmap_lock_ns",
    Cause.FOLIO: "wait.folio_ns",
    Cause.DEVICE: "wait.device_ns",
    Cause.RUN_QUEUE: "wait.run_queue_ns",
    Cause.LOCK_WORD: "wait.lock_word_ns",
    Cause.INVALIDATE_LOCK: "wait.invalidate_lock_ns",
    Cause.WRITEBACK: "wait.writeback_ns",
    Cause.THROTTLE: "wait.throttle_ns",
    Cause.RECLAIM: "wait.reclaim_ns",
    Cause.SWAP_CACHE: "wait.swap_cache_ns",
    Cause.USERFAULTFD: "wait.userfaultfd_ns",
    Cause.FALLOC: "wait.falloc_ns",
    Cause.FAULT_MUTEX: "wait.fault_mutex_ns",
    Cause.VMA: "wait.vma_ns",
}

HISTOGRAM_NAMES = {
    Histograms.TOUCH: "touch.all",
    Histograms.FAULT: "fault.all",
    Histograms.FAULT_INTERRUPTED: "fault.interrupted",
    Histograms.FAULT_KINDS: "fault.before_its_kind_was_known",
    Histograms.FAULT_KINDS + 2 * FaultKind.BAD_AREA: "fault.bad_area",
    Histograms.FAULT_KINDS + 2 * FaultKind.BAD_AREA + 1: "fault.bad_area.after_retry",
    **{
        Histograms.FAULT_KINDS + 2 * kind + is_major: f"fault.{kind.name.lower()}.{name}"
        for kind in FaultKind
        if kind != FaultKind.BAD_AREA
        for is_major, name in enumerate(("minor", "major"))
    },
    **{Histograms.OPERATIONS + kind: f"operation.{kind.name.lower()}" for kind in OperationKind},
}

PERCENTS = (50.0, 90.0, 99.0, 99.9)


def summarise(world: np.record, names: Names, stop: StopReason, model_version: int) -> Summary:
    """Return what a run found out."""
    config, end_ns = world.config, int(world.now_ns)
    measured_ns = max(end_ns - int(config.warmup_ns), 0)
    return Summary(
        stop=stop,
        end_ns=end_ns,
        measured_ns=measured_ns,
        fingerprint=int(world.fingerprint),
        model_version=model_version,
        metrics=dict(sorted(_metrics(world, measured_ns).items())),
        latencies=tuple(_latencies(world, names.sections)),
        locks=tuple(_lock_rows(world)),
        blame=blame_of(world, names),
        retries=retries_of(world, names),
        diagnosis=diagnose(world, stop),
    )


def _metrics(world: np.record, measured_ns: int) -> dict[str, float]:
    counters, locks = world.tally.counters, world.tally.locks
    metrics = {name: float(counters[counter]) for counter, name in COUNTER_NAMES.items()}
    metrics |= {name: float(world.tally.waits_ns[cause]) for cause, name in CAUSE_NAMES.items()}
    for row, (lock, mode) in LOCK_NAMES.items():
        metrics[f"{lock}.{mode}.acquired"] = float(locks[row].acquired)
        metrics[f"{lock}.{mode}.contended"] = float(locks[row].contended)
    metrics |= retry_metrics(world)
    touches = metrics["touches.count"]
    if touches:
        metrics["mmap_lock.read.per_touch"] = metrics["mmap_lock.read.acquired"] / touches
    if metrics["device.reads"]:
        metrics["touches.per_read"] = touches / metrics["device.reads"]
    for name in ("touches", "faults", "operations"):
        rate = metrics[f"{name}.count"] * 1e9 / measured_ns if measured_ns else 0.0
        metrics[f"{name}.per_second"] = rate
    return metrics


def _latencies(world: np.record, sections: tuple[str, ...]) -> list[Latency]:
    names = {int(histogram): name for histogram, name in HISTOGRAM_NAMES.items()}
    for number, section in enumerate(sections):
        names[Histograms.SECTIONS + number] = f"section.{section}"
    rows = world.tally.histograms
    return [_latency(name, rows[number]) for number, name in names.items() if rows[number].total]


def _latency(name: str, row: np.record) -> Latency:
    least, most = int(row.least_ns), int(row.most_ns)
    edges = np.cumsum(row.counts)
    ranks = [min(int(row.total * percent / 100), int(row.total) - 1) for percent in PERCENTS]
    values = [
        min(max(bucket_middle(int(np.searchsorted(edges, rank, side="right"))), least), most)
        for rank in ranks
    ]
    return Latency(
        name=name,
        count=int(row.total),
        censored=int(row.censored),
        mean_ns=float(row.sum_ns / row.total),
        min_ns=least,
        max_ns=most,
        p50_ns=values[0],
        p90_ns=values[1],
        p99_ns=values[2],
        p999_ns=values[3],
        log2_counts=_log2_counts(row.counts),
    )


def bucket_middle(bucket: int) -> int:
    """Return the value in the middle of a bucket: off by less than 1 % of any value in it."""
    if bucket < 2 * HISTOGRAM_SUB:
        return bucket
    octave, within = divmod(bucket, HISTOGRAM_SUB)
    low = (HISTOGRAM_SUB + within) << (octave - 1)
    return low + (1 << (octave - 1)) // 2


def _log2_counts(counts: np.ndarray) -> tuple[int, ...]:
    """Return how many values there are for each number of leading bits; zero counts as one."""
    sums: list[int] = []
    for bucket in np.flatnonzero(counts):
        power = max(bucket_low(int(bucket)), 1).bit_length() - 1
        sums.extend([0] * (power + 1 - len(sums)))
        sums[power] += int(counts[bucket])
    return tuple(sums)


def bucket_low(bucket: int) -> int:
    """Return the smallest value in a bucket."""
    if bucket < 2 * HISTOGRAM_SUB:
        return bucket
    octave, within = divmod(bucket, HISTOGRAM_SUB)
    return (HISTOGRAM_SUB + within) << (octave - 1)


def _lock_rows(world: np.record) -> list[LockRow]:
    rows = world.tally.locks
    return [
        LockRow(
            lock=lock,
            mode=mode,
            acquired=int(rows[row].acquired),
            contended=int(rows[row].contended),
            wait_total_ns=int(rows[row].wait_ns),
            wait_max_ns=int(rows[row].wait_ns_max),
            hold_total_ns=int(rows[row].hold_ns),
            hold_max_ns=int(rows[row].hold_ns_max),
        )
        for row, (lock, mode) in LOCK_NAMES.items()
    ]
