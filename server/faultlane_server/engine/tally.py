"""What is counted, collected and written down while a run goes on.

Nothing here decides anything: a run would go the same way without it.
"""

import numpy as np

from faultlane_server.codes import RecordingKind, VmFault
from faultlane_server.engine.jit import compiled, prefetch_row
from faultlane_server.engine.world import (
    ATTEMPTS_KEPT,
    HISTOGRAM_BUCKETS,
    HISTOGRAM_SUB,
    RETRIES_MAX,
    TRACE_MAX,
    Cause,
    Histograms,
    Locks,
)

SUB_BITS = HISTOGRAM_SUB.bit_length() - 1
ROWS_FETCHED = 8  # at once: as many as have room in one line of each column


@compiled
def count(world, counter, by):
    world.tally.counters[counter] += by


@compiled
def count_most(world, counter, value):
    """Remember the largest value."""
    if value > world.tally.counters[counter]:
        world.tally.counters[counter] = value


@compiled
def bucket_of(value):
    """Return the bucket of a value: exact below 64, then 64 to an octave."""
    if value < HISTOGRAM_SUB:
        return max(value, 0)
    octave = 0
    rest = value >> (SUB_BITS + 1)
    while rest > 0:
        rest >>= 1
        octave += 1
    bucket = ((octave + 1) << SUB_BITS) + ((value >> octave) & (HISTOGRAM_SUB - 1))
    return min(bucket, HISTOGRAM_BUCKETS - 1)


@compiled
def collect(world, histogram, value, finished):
    """Add a length of time to a histogram."""
    row = world.tally.histograms[histogram]
    if row.total == 0 or value < row.least_ns:
        row.least_ns = value
    row.most_ns = max(row.most_ns, value)
    row.total += 1
    row.sum_ns += value
    row.counts[bucket_of(value)] += 1
    if not finished:
        row.censored += 1


@compiled
def acquired(world, lock, waited_ns, contended):
    """Write an acquisition into the lock table."""
    row = world.tally.locks[lock]
    row.acquired += 1
    if contended:
        row.contended += 1
        row.wait_ns += waited_ns
        row.wait_ns_max = max(row.wait_ns_max, waited_ns)


@compiled
def held(world, lock, hold_ns):
    row = world.tally.locks[lock]
    row.hold_ns += hold_ns
    row.hold_ns_max = max(row.hold_ns_max, hold_ns)


@compiled
def trace(world, thread):
    """Note how an attempt ended, if its thread is the one that is traced."""
    if thread != world.traced or world.trace_rows >= TRACE_MAX:
        return
    fault = world.threads[thread]
    row = world.traces[world.trace_rows]
    row.lock = fault.lock
    row.tried = fault.tried
    row.result = fault.result
    world.trace_rows += 1


@compiled
def _duration_of(thread, end_ns):
    """Return how long a fault or an operation took: as long as its causes and CPU time."""
    duration_ns = end_ns - thread.begin_ns
    spent_ns = 0
    for cause in range(len(thread.wait_ns)):
        spent_ns += thread.wait_ns[cause]
    assert spent_ns == duration_ns, "causes and CPU time add up to the duration"
    return duration_ns


@compiled
def fault_ended(world, thread, end_ns, finished):
    """Write a fault down, in the summary and, if it is to be recorded, in the log."""
    fault = world.threads[thread]
    duration_ns = _duration_of(fault, end_ns)
    if fault.begin_ns < world.config.warmup_ns:
        return
    collect(world, Histograms.FAULT, duration_ns, finished)
    collect(world, _histogram_of(fault, finished), duration_ns, finished)
    for cause in range(len(fault.wait_ns)):
        world.tally.waits_ns[cause] += fault.wait_ns[cause]
    _count_retries(world, thread, duration_ns, finished)
    if _is_recorded(world, fault, duration_ns, finished):
        _write_fault(world, thread, duration_ns, finished)


@compiled
def attempt_ended(world, thread, now_ns):
    """Remember how an attempt ended that is not the last one, if it is one of the first."""
    fault = world.threads[thread]
    if fault.attempts > ATTEMPTS_KEPT:
        return
    row = world.attempts[thread * ATTEMPTS_KEPT + fault.attempts - 1]
    row.lock = fault.lock
    row.reason = fault.retry_reason
    row.tried = fault.tried
    row.end_ns = now_ns
    row.device_ns = fault.wait_ns[Cause.DEVICE]
    row.folio_ns = fault.wait_ns[Cause.FOLIO]
    row.mmap_lock_ns = fault.wait_ns[Cause.MMAP_LOCK]


@compiled
def _count_retries(world, thread, duration_ns, finished):
    """Count a fault by how often it was tried again."""
    fault = world.threads[thread]
    retries = min(max(fault.attempts - 1, 0), RETRIES_MAX - 1)
    world.tally.retries[fault.kind * RETRIES_MAX + retries] += 1
    if fault.attempts > max(world.tally.longest.attempts, 1):
        _keep_longest(world, thread, duration_ns, finished)


@compiled
def _keep_longest(world, thread, duration_ns, finished):
    """Keep how the attempts of a fault ended: no other one has made so many."""
    fault = world.threads[thread]
    longest = world.tally.longest
    longest.attempts = fault.attempts
    longest.vma_retries = fault.vma_retries
    longest.thread = thread
    longest.touch = fault.touches
    longest.kind = fault.kind
    longest.lock = fault.lock
    longest.finished = finished
    longest.begin_ns = fault.begin_ns
    longest.duration_ns = duration_ns
    for cause in range(len(fault.wait_ns)):
        longest.wait_ns[cause] = fault.wait_ns[cause]
    for number in range(min(fault.attempts - 1, ATTEMPTS_KEPT)):
        _copy_attempt(longest.first[number], world.attempts[thread * ATTEMPTS_KEPT + number])


@compiled
def _copy_attempt(row, other):
    row.lock = other.lock
    row.reason = other.reason
    row.tried = other.tried
    row.end_ns = other.end_ns
    row.device_ns = other.device_ns
    row.folio_ns = other.folio_ns
    row.mmap_lock_ns = other.mmap_lock_ns


@compiled
def _histogram_of(fault, finished):
    """Return where a fault is collected: by its kind, minor and major apart."""
    if finished and fault.result & VmFault.RETRY:
        return np.int64(Histograms.FAULT_INTERRUPTED)
    is_major = fault.major or fault.tried or fault.result & VmFault.MAJOR
    return Histograms.FAULT_KINDS + 2 * fault.kind + (1 if is_major else 0)


@compiled
def _is_recorded(world, fault, duration_ns, finished):
    """Whether the log keeps a fault. One that did not end is kept unless nothing is."""
    kind = world.config.record_kind
    if kind == RecordingKind.SUMMARY_ONLY:
        return False
    if not finished or kind == RecordingKind.ALL:
        return True
    if kind == RecordingKind.SAMPLED:
        world.recorded += 1
        return world.recorded % world.config.sample_every == 0
    if kind == RecordingKind.SLOWER_THAN:
        return duration_ns >= world.config.slower_than_ns
    assert kind == RecordingKind.RETRIED, "a recording of no known kind"
    return fault.attempts > 1


@compiled
def _address(world, row, page):
    """Return the address of a page: a huge page of hugetlb has the number of one small page."""
    if row.huge_base >= 0:
        page = row.huge_base + (page - row.huge_base) * world.config.huge_page_pages
    return page << world.config.page_shift


@compiled
def _write_fault(world, thread, duration_ns, finished):
    fault = world.threads[thread]
    rows = world.fault_rows
    row = rows.rows
    if row % ROWS_FETCHED == 0:
        prefetch_row(rows, row + ROWS_FETCHED)
    rows.thread[row] = thread
    rows.touch[row] = fault.touches
    rows.process[row] = fault.mm
    rows.cpu[row] = fault.cpu
    rows.vma[row] = fault.vma_id
    rows.address[row] = _address(world, fault, fault.page)
    rows.access[row] = fault.access
    rows.kind[row] = fault.kind
    rows.start_ns[row] = fault.begin_ns
    rows.duration_ns[row] = duration_ns
    rows.finished[row] = finished
    rows.lock[row] = fault.lock
    rows.attempts[row] = fault.attempts
    rows.vma_retries[row] = fault.vma_retries
    rows.retry_reasons[row] = fault.reasons
    rows.result[row] = fault.result
    rows.major[row] = fault.major
    rows.reads[row] = fault.reads
    rows.mmap_reads[row] = fault.mmap_reads
    rows.cpu_ns[row] = fault.wait_ns[Cause.CPU]
    rows.wait_mmap_lock_ns[row] = fault.wait_ns[Cause.MMAP_LOCK]
    rows.wait_folio_ns[row] = fault.wait_ns[Cause.FOLIO]
    rows.wait_device_ns[row] = fault.wait_ns[Cause.DEVICE]
    rows.wait_run_queue_ns[row] = fault.wait_ns[Cause.RUN_QUEUE]
    rows.wait_lock_word_ns[row] = fault.wait_ns[Cause.LOCK_WORD]
    rows.blocker[row] = fault.blocker
    rows.wait_invalidate_lock_ns[row] = fault.wait_ns[Cause.INVALIDATE_LOCK]
    rows.wait_writeback_ns[row] = fault.wait_ns[Cause.WRITEBACK]
    rows.wait_throttle_ns[row] = fault.wait_ns[Cause.THROTTLE]
    rows.wait_reclaim_ns[row] = fault.wait_ns[Cause.RECLAIM]
    rows.wait_swap_cache_ns[row] = fault.wait_ns[Cause.SWAP_CACHE]
    rows.wait_userfaultfd_ns[row] = fault.wait_ns[Cause.USERFAULTFD]
    rows.wait_falloc_ns[row] = fault.wait_ns[Cause.FALLOC]
    rows.reads_lost[row] = fault.reads_lost
    rows.wait_vma_ns[row] = fault.wait_ns[Cause.VMA]
    rows.wait_fault_mutex_ns[row] = fault.wait_ns[Cause.FAULT_MUTEX]
    rows.rows += 1


@compiled
def operation_ended(world, thread, end_ns, finished):
    """Write an operation down, in the summary and in the log."""
    caller = world.threads[thread]
    duration_ns = _duration_of(caller, end_ns)
    if caller.begin_ns < world.config.warmup_ns:
        return
    collect(world, Histograms.OPERATIONS + caller.op_kind, duration_ns, finished)
    if world.config.record_kind != RecordingKind.SUMMARY_ONLY:
        _write_operation(world, thread, duration_ns, finished)


@compiled
def _write_operation(world, thread, duration_ns, finished):
    caller = world.threads[thread]
    rows = world.operation_rows
    row = rows.rows
    rows.thread[row] = thread
    rows.ordinal[row] = caller.operations
    rows.process[row] = caller.process
    rows.cpu[row] = caller.cpu
    rows.kind[row] = caller.op_kind
    rows.address[row] = _address(world, caller, caller.op_start)
    rows.pages[row] = caller.op_end - caller.op_start
    rows.start_ns[row] = caller.begin_ns
    rows.duration_ns[row] = duration_ns
    rows.finished[row] = finished
    rows.wait_mmap_lock_ns[row] = caller.wait_ns[Cause.MMAP_LOCK]
    rows.wait_vma_ns[row] = caller.wait_ns[Cause.VMA]
    rows.wait_run_queue_ns[row] = caller.wait_ns[Cause.RUN_QUEUE]
    rows.wait_lock_word_ns[row] = caller.wait_ns[Cause.LOCK_WORD]
    rows.cpu_ns[row] = caller.wait_ns[Cause.CPU]
    rows.hold_ns[row] = caller.hold_ns
    rows.blocker[row] = caller.blocker
    rows.wait_invalidate_lock_ns[row] = caller.wait_ns[Cause.INVALIDATE_LOCK]
    rows.wait_folio_ns[row] = caller.wait_ns[Cause.FOLIO]
    rows.wait_device_ns[row] = caller.wait_ns[Cause.DEVICE]
    rows.wait_writeback_ns[row] = caller.wait_ns[Cause.WRITEBACK]
    rows.wait_throttle_ns[row] = caller.wait_ns[Cause.THROTTLE]
    rows.wait_reclaim_ns[row] = caller.wait_ns[Cause.RECLAIM]
    rows.wait_swap_cache_ns[row] = caller.wait_ns[Cause.SWAP_CACHE]
    rows.wait_userfaultfd_ns[row] = caller.wait_ns[Cause.USERFAULTFD]
    rows.rows += 1


@compiled
def mmap_read_released(world, thread, now_ns):
    """Write the end of a hold of mmap_lock for read into the lock table."""
    held(world, Locks.MMAP_READ, now_ns - world.threads[thread].held_since_ns)


@compiled
def waited(thread, ns):
    """Remember who was waited for, if this was the longest wait so far."""
    if ns > thread.blocker_ns:
        thread.blocker_ns = ns
        thread.blocker = thread.waits_for


@compiled
def clear(world):
    """Forget what was counted: the warm-up is over."""
    tally = world.tally
    for counter in range(len(tally.counters)):
        tally.counters[counter] = 0
    for cause in range(len(tally.waits_ns)):
        tally.waits_ns[cause] = 0
    for lock in range(len(tally.locks)):
        row = tally.locks[lock]
        row.acquired = 0
        row.contended = 0
        row.wait_ns = 0
        row.wait_ns_max = 0
        row.hold_ns = 0
        row.hold_ns_max = 0
