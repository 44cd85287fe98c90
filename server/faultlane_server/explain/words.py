"""What a faulting thread does before each of its steps, in the kernel's words.

A thread's record says what it does next; what it does until then is the way there. `{handler}` is
the function of the architecture, `{find_vma}` the one that takes mmap_lock, and `{fault}` the one
that do_fault calls for the kind of fault.
"""

from typing import NamedTuple

import numpy as np

from faultlane_server.codes import FaultClass, FaultKind
from faultlane_server.engine.world import Cause, Step


class Words(NamedTuple):
    """Which function is at work, and what it does."""

    function: str
    text: str


FILEMAP = "{fault} > filemap_fault"
FOLIO_LOCK = f"{FILEMAP} > lock_folio_maybe_drop_mmap"
SWAP = "do_swap_page"
EXCLUSIVE = "do_swap_page > remove_device_exclusive_entry"
GROWTH = "{find_vma}"
MKWRITE = "do_page_mkwrite"
HUGETLB = "hugetlb_fault"
READAHEAD = "page_cache_ra_unbounded > filemap_invalidate_lock_shared"

# While it runs.
RUNNING: dict[Step, Words] = {
    Step.REFUSED: Words("{handler}", "exception entry; the access is refused before any lock"),
    Step.LOCK_VMA: Words("{handler} > lock_vma_under_rcu", "{goes} the maple tree is searched"),
    Step.LOCK_MMAP: Words("{handler} > {find_vma}", "{goes}"),
    Step.MMAP_GRANTED: Words("{find_vma}", "has mmap_lock, granted while it slept"),
    Step.MMAP_KILLED: Words("mmap_read_lock_killable", "gives up: a fatal signal"),
    Step.LOOKUP: Words(f"{FILEMAP} > filemap_get_folio", "{around}the page cache is searched"),
    Step.READAHEAD_SYNC: Words(
        f"{FILEMAP} > do_sync_mmap_readahead",
        "goes on with {window}: adds what is missing, and submits it",
    ),
    Step.READAHEAD_ASYNC: Words(
        f"{FILEMAP} > do_async_mmap_readahead",
        "goes on with {window}: adds what is missing, and submits it",
    ),
    Step.HIT_LOCKED: Words(FILEMAP, "has invalidate_lock, granted while it slept"),
    Step.READAHEAD_LOCKED: Words(READAHEAD, "has invalidate_lock, granted while it slept"),
    Step.FIND: Words(f"{FILEMAP} (retry_find)", "__filemap_get_folio, or a new folio"),
    Step.FOLIO_WOKEN: Words(f"{FOLIO_LOCK} > folio_wait_bit_common", "woken; tries the folio lock"),
    Step.FOLIO_KILLED: Words(FOLIO_LOCK, "gives up: a fatal signal"),
    Step.SYNC_READ: Words(f"{FILEMAP} > filemap_read_folio", "submits the read of one page"),
    Step.SYNC_READ_DONE: Words(f"{FILEMAP} > filemap_read_folio", "looks whether it was read"),
    Step.SYNC_READ_KILLED: Words(f"{FILEMAP} > filemap_read_folio", "gives up: a fatal signal"),
    Step.RELOCK: Words("{handler}", "takes the fault lock again, with the folio locked"),
    Step.RELOCKED: Words("{handler}", "has mmap_lock again, granted while it slept"),
    Step.RELOCK_FAILED: Words("{handler}", "gives up to take the fault lock again"),
    Step.ZEROED: Words("shmem_fault > shmem_get_folio_gfp", "makes the page's content"),
    Step.SHMEM_READ: Words("shmem_fault > shmem_swapin_folio", "submits the read from swap"),
    Step.FALLOC_OVER: Words("shmem_fault > shmem_falloc_wait", "the hole is punched"),
    Step.MAP_PAGE: Words("{fault} > finish_fault > set_pte_range", "{maps}"),
    Step.MKWRITE: Words(MKWRITE, "has invalidate_lock, granted while it slept"),
    Step.MKWRITE_FOLIO: Words(MKWRITE, "the file system allocates the block"),
    Step.MKWRITE_WOKEN: Words(MKWRITE, "woken; tries the folio lock"),
    Step.MKWRITE_STABLE: Words(MKWRITE, "woken; the folio may change now"),
    Step.BALANCE: Words("fault_dirty_shared_page > balance_dirty_pages", "looks again"),
    Step.WP_COPY: Words("do_wp_page > wp_page_copy", "allocates a page, copies, and maps it"),
    Step.WP_REUSE: Words("do_wp_page > wp_page_reuse", "makes the entry writable"),
    Step.WP_CHARGE: Words("do_wp_page > wp_page_copy", "asks for a page again"),
    Step.ANON_MAP: Words("do_anonymous_page", "{anon}"),
    Step.ANON_CHARGE: Words("do_anonymous_page > alloc_anon_folio", "asks for a page again"),
    Step.COPY_CHARGE: Words("do_cow_fault > folio_prealloc", "asks for a page again"),
    Step.DEVICE_CHARGE: Words("do_swap_page > migrate_to_ram", "asks for a page again"),
    Step.SWAP_LOOKUP: Words(f"{SWAP} > swap_cache_get_folio", "the swap cache is searched"),
    Step.SWAP_READ_AHEAD: Words(f"{SWAP} > swapin_readahead", "submits the reads of the window"),
    Step.SWAP_READ_AT_ONCE: Words(
        f"{SWAP} > swap_read_folio", "reads at once: SWP_SYNCHRONOUS_IO, or zswap"
    ),
    Step.SWAP_COLLIDED: Words(f"{SWAP} > swapcache_prepare", "woken; the access is made again"),
    Step.SWAP_WAITED: Words(f"{SWAP} > folio_lock_or_retry", "woken; the folio was unlocked"),
    Step.SWAP_WOKEN: Words(f"{SWAP} > folio_lock_or_retry", "woken; tries the folio lock"),
    Step.SWAP_KILLED: Words(f"{SWAP} > folio_lock_or_retry", "gives up: a fatal signal"),
    Step.SWAP_MAP: Words(SWAP, "maps the page (set_ptes)"),
    Step.MIGRATION_OVER: Words(f"{SWAP} > migration_entry_wait", "woken; the migration is over"),
    Step.BROUGHT_BACK: Words(f"{SWAP} > migrate_to_ram", "the driver copies the page back"),
    Step.EXCLUSIVE_WAITED: Words(EXCLUSIVE, "woken; the folio was unlocked"),
    Step.EXCLUSIVE_WOKEN: Words(EXCLUSIVE, "woken; tries the folio lock"),
    Step.EXCLUSIVE_KILLED: Words(EXCLUSIVE, "gives up: a fatal signal"),
    Step.EXCLUSIVE_RESTORED: Words(f"{EXCLUSIVE} > restore_exclusive_pte", "restores the entry"),
    Step.UFFD_QUEUE: Words("handle_userfault", "makes the message"),
    Step.UFFD_WOKEN: Words("handle_userfault", "woken"),
    Step.YOUNG: Words("handle_pte_fault", "{young}"),
    Step.HUGETLB_LOCKED: Words(HUGETLB, "has the fault mutex, handed over while it slept"),
    Step.HUGETLB_MAP: Words(f"{HUGETLB} > hugetlb_no_page", "takes a cleared page, and maps it"),
    Step.HUGETLB_COPIED: Words(f"{HUGETLB} > hugetlb_wp", "copies the page, and maps the copy"),
    Step.HUGETLB_REUSE: Words(f"{HUGETLB} > hugetlb_wp", "makes the entry writable"),
    Step.HUGETLB_YOUNG: Words(HUGETLB, "makes the entry young"),
    Step.AGE: Words("try_to_inc_max_seq", "goes to the next mm_struct"),
    Step.AGE_WALKED: Words("walk_mm > walk_page_range", "looks for young entries, under mmap_lock"),
    Step.WRITE_LOCK: Words(f"{GROWTH} > mmap_write_lock_killable", "the stack has to grow"),
    Step.WRITE_QUEUE: Words("rwsem_down_write_slowpath", "has spun enough, and queues"),
    Step.WRITE_WOKEN: Words("rwsem_down_write_slowpath", "woken; tries the lock"),
    Step.WRITE_HELD: Words(GROWTH, "has mmap_lock for write"),
    Step.SPIN_EXPIRED: Words("rwsem_optimistic_spin", "has spun on readers long enough"),
    Step.WRITE_KILLED: Words(GROWTH, "gives up: a fatal signal"),
    Step.DRAIN_EXPIRED: Words("vma_start_write", "has spun on readers long enough"),
    Step.DRAINED: Words("vma_start_write", "the last reader has left the VMA"),
    Step.APPLY: Words(f"{GROWTH} > expand_stack_locked", "lets the stack grow"),
    Step.RELEASE: Words("{ends_in}", "{ends}"),
    Step.FAULT_END: Words("{handler}", "{leaves}"),
}

# While it sleeps or spins. What for stands in the record.
WAITING: dict[Cause, Words] = {
    Cause.MMAP_LOCK: Words("rwsem_down_read_slowpath", "waits for mmap_lock for read"),
    Cause.FOLIO: Words("folio_wait_bit_common", "waits until {folio} is unlocked"),
    Cause.DEVICE: Words("folio_wait_bit_common", "waits until {folio} is read"),
    Cause.VMA: Words("vma_start_write", "waits for the readers of the stack's VMA"),
    Cause.INVALIDATE_LOCK: Words("rwsem_down_read_slowpath", "waits for invalidate_lock"),
    Cause.WRITEBACK: Words("folio_wait_writeback", "waits until {folio} is written"),
    Cause.THROTTLE: Words("balance_dirty_pages", "has dirtied too much, and pauses"),
    Cause.RECLAIM: Words("reclaim_throttle", "nothing could be reclaimed: sleeps for a jiffy"),
    Cause.SWAP_CACHE: Words("schedule_timeout_uninterruptible", "another one reads the same page"),
    Cause.USERFAULTFD: Words("handle_userfault", "waits until a handler resolves the fault"),
    Cause.FAULT_MUTEX: Words(f"{HUGETLB} > mutex_lock", "waits for the fault mutex of its page"),
    Cause.FALLOC: Words("shmem_falloc_wait", "waits until the hole is punched"),
}

# Where a wait for a folio is, by the step behind it.
FOLIO_WAITS: dict[Step, str] = {
    Step.FOLIO_WOKEN: f"{FOLIO_LOCK} > __folio_lock_killable",
    Step.SYNC_READ_DONE: f"{FILEMAP} > filemap_read_folio > folio_wait_locked_killable",
    Step.MKWRITE_WOKEN: f"{MKWRITE} > folio_lock",
    Step.SWAP_WAITED: f"{SWAP} > folio_lock_or_retry > folio_wait_locked_killable",
    Step.SWAP_WOKEN: f"{SWAP} > folio_lock_or_retry > __folio_lock_killable",
    Step.EXCLUSIVE_WAITED: f"{EXCLUSIVE} > folio_lock_or_retry > folio_wait_locked_killable",
    Step.EXCLUSIVE_WOKEN: f"{EXCLUSIVE} > folio_lock_or_retry > __folio_lock_killable",
    Step.MIGRATION_OVER: f"{SWAP} > migration_entry_wait > migration_entry_wait_on_locked",
}

INVALIDATE_WAITS: dict[Step, str] = {
    Step.HIT_LOCKED: f"{FILEMAP} > filemap_invalidate_lock_shared",
    Step.FIND: f"{FILEMAP} > filemap_invalidate_lock_shared",
    Step.READAHEAD_LOCKED: READAHEAD,
    Step.MKWRITE: f"{MKWRITE} > filemap_invalidate_lock_shared",
}

_FAULT_FUNCTIONS = {
    FaultKind.FILE_READ: "do_read_fault",
    FaultKind.FILE_COW: "do_cow_fault",
    FaultKind.FILE_SHARED: "do_shared_fault",
}


def fault_function(fault: np.record) -> str:
    """Return which function do_fault calls for a fault."""
    kinds = [kind for kind in _FAULT_FUNCTIONS if kind == fault.kind]
    return _FAULT_FUNCTIONS[kinds[0]] if kinds else "do_fault"


def in_fault_method(fault: np.record, function: str) -> str:
    """Name the fault method of the mapping that a fault is in."""
    if fault.fault_class == FaultClass.SHMEM:
        return function.replace("filemap_fault", "shmem_fault")
    return function
