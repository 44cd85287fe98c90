"""What happened at an event, told from how a faulting thread was before it and how it is after."""

from collections.abc import Iterator

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock, RetryReason, VmFault
from faultlane_server.engine.waiting import Request, request_of
from faultlane_server.engine.world import LOCKED, Drain, Step, ThreadState
from faultlane_server.explain.kernel_bits import KernelBits, flag_names
from faultlane_server.explain.look import ended_in_retry, leaves_attempt
from faultlane_server.explain.names import Names

WHY_RETRY = {
    RetryReason.F7: "fpin is set: with the lock dropped it cannot map the page",
    RetryReason.F8: "the lock was dropped to read one page",
    RetryReason.KILLED: "a fatal signal has ended the wait for the folio",
    RetryReason.NO_MAP_PAGES: "vmf_can_call_fault: no map_pages, the VMA lock is not enough",
    RetryReason.ANON_VMA: "vmf_anon_prepare: no anon_vma yet, the VMA lock is not enough",
    RetryReason.UNSUPPORTED: "this kernel handles it under mmap_lock only",
    RetryReason.S4: "the lock was dropped to wait for the folio",
    RetryReason.OOM: "no memory for the page, and the lock was dropped",
    RetryReason.USERFAULTFD: "handle_userfault has dropped the lock",
    RetryReason.FALLOC: "the lock was dropped until the hole was punched",
    RetryReason.DEVICE_EXCLUSIVE: "the lock was dropped to wait for the folio",
    RetryReason.DEVICE_PRIVATE: "migrate_to_ram: the VMA lock is not enough",
}


GET_WRITE_LOCK = (Step.WRITE_LOCK, Step.WRITE_QUEUE, Step.WRITE_WOKEN, Step.WRITE_HELD)


class Noter:
    """Tells what happened to a fault of one run."""

    def __init__(self, world: np.record, names: Names, bits: KernelBits) -> None:
        self._world = world
        self._names = names
        self._bits = bits

    def notes(
        self, thread: int, before: np.record, did: Step | None, had_folio: bool
    ) -> tuple[str, ...]:
        """Return what happened when a thread did a step, or when others did something to it."""
        after = self._world.threads[thread]
        told = [
            *self._of_being_woken(before, after),
            *self._of_the_lock_taken(thread, before, after, did),
            *self._of_the_attempt(before, after),
            *self._of_the_page(thread, before, after, had_folio),
            *self._of_the_lock_dropped(before, after),
            *self._of_the_result(before, after),
            *self._of_the_lock_released(before, after),
        ]
        return tuple(told)

    def _of_being_woken(self, before: np.record, after: np.record) -> Iterator[str]:
        """Tell of a lock that somebody gave to a thread that slept."""
        if before.state != ThreadState.BLOCKED or after.state == ThreadState.BLOCKED:
            return
        if before.held == 0 and after.held == FaultLock.MMAP:
            yield "woken as the owner of mmap_lock, for read"
        elif after.killed and not before.killed:
            yield "woken by a fatal signal"
        elif after.signalled and not before.signalled:
            yield "woken by a signal"

    def _of_the_lock_taken(
        self, thread: int, before: np.record, after: np.record, did: Step | None
    ) -> Iterator[str]:
        if did is None:
            return
        if did == Step.LOCK_VMA and after.lock == FaultLock.MMAP and not ended_in_retry(after):
            yield f"VMA_LOCK_ABORT: {self._why_no_vma_lock(after)}"
        took = after.attempts > before.attempts or did in (Step.RELOCK, Step.RELOCKED)
        if after.attempts > before.attempts and after.lock == FaultLock.VMA:
            yield f"vma_start_read: locks {self._names.vma(int(after.vma))} for read"
        elif before.held == 0 and after.held == FaultLock.VMA:
            yield "takes the VMA lock for read again"
        elif took and after.lock == FaultLock.MMAP and did == Step.LOCK_MMAP:
            yield "mmap_read_lock: at once"
        elif before.held == 0 and after.held == FaultLock.MMAP:
            yield "takes mmap_lock for read"
        if did in GET_WRITE_LOCK and self._world.mms[int(after.mm)].mmap_lock.writer == thread:
            yield "has mmap_lock for write"

    def _of_the_attempt(self, before: np.record, after: np.record) -> Iterator[str]:
        if after.attempts > before.attempts:
            flags = flag_names(self._bits.fault_flags(after, bool(before.tried)))
            yield f"attempt {int(after.attempts)}: handle_mm_fault, {flags}"

    def _of_the_page(
        self, thread: int, before: np.record, after: np.record, had_folio: bool
    ) -> Iterator[str]:
        if after.mmap_reads > before.mmap_reads and after.held == FaultLock.VMA:
            yield "vmf_anon_prepare: mmap_read_trylock succeeds, and makes the anon_vma"
        if after.reads_lost > before.reads_lost:
            yield "the page that it has waited for is gone again"
        if after.result & VmFault.MAJOR and not before.result & VmFault.MAJOR:
            yield "the page is not there: PGMAJFAULT, VM_FAULT_MAJOR"
        if after.reads > before.reads:
            yield f"submits {self._read(after)}"
        folio = self._world.folios[int(after.folio)]
        has_folio = bool(folio.state & LOCKED) and int(folio.holder) == thread
        if has_folio and not had_folio:
            yield f"locks the folio of {self._names.page(int(after.folio))}"
        if had_folio and not has_folio and not _is_locked_for_io(folio):
            yield "unlocks the folio"

    def _read(self, fault: np.record) -> str:
        request = request_of(self._world, int(fault.folio))
        if request is None:
            return "a read, which is done at once"
        return f"{self._which(request)} to {self._names.device(request.device)}"

    def _which(self, request: Request) -> str:
        kind = "a write" if request.is_write else "a read"
        return f"{kind} of {self._names.pages(request.first, request.pages)}"

    def _of_the_lock_dropped(self, before: np.record, after: np.record) -> Iterator[str]:
        if _is_let_go(before, after) and after.dropped:
            yield f"{_lets_go(before, after)}: drops the lock"

    def _of_the_lock_released(self, before: np.record, after: np.record) -> Iterator[str]:
        if _is_let_go(before, after) and not after.dropped:
            yield f"{_lets_go(before, after)}: releases the lock"
        if leaves_attempt(before, after) and after.lock == FaultLock.VMA:
            is_retry = after.result & VmFault.RETRY
            yield f"count_vm_vma_lock_event(VMA_LOCK_{'RETRY' if is_retry else 'SUCCESS'})"
        if after.tried and not before.tried:
            yield "flags |= FAULT_FLAG_TRIED"

    def _of_the_result(self, before: np.record, after: np.record) -> Iterator[str]:
        if not leaves_attempt(before, after):
            return
        names = self._bits.result_names(self._bits.result(after))
        if after.result & VmFault.RETRY:
            yield f"returns {names}: {WHY_RETRY[RetryReason(int(after.retry_reason))]}"
        else:
            yield f"returns {names}"

    def _why_no_vma_lock(self, fault: np.record) -> str:
        slot = self._vma_at(int(fault.mm), int(fault.page))
        if slot == NOBODY:
            return "no VMA covers the address"
        vma, mm = self._world.vmas[slot], self._world.mms[int(fault.mm)]
        name = self._names.vma(slot)
        if vma.seq == mm.seq:
            return f"{name} is write-locked by {self._names.thread(int(mm.mmap_lock.writer))}"
        if vma.drain == Drain.EXCLUDING:
            return f"{self._names.thread(int(vma.drainer))} waits to write-lock {name}"
        return f"this kernel cannot handle the fault on {name} under its lock"

    def _vma_at(self, mm: int, page: int) -> int:
        row = self._world.mms[mm]
        first, count = int(row.order_first), int(row.order_count)
        slots = self._world.vma_order[first : first + count].astype(np.int64)
        vmas = self._world.vmas[slots]
        covers = np.flatnonzero((vmas["start"] <= page) & (page < vmas["end"]))
        return int(slots[covers[0]]) if len(covers) else NOBODY


def _is_locked_for_io(folio: np.record) -> bool:
    """Whether a folio stays locked until a read has filled it."""
    return bool(folio.state & LOCKED) and int(folio.holder) == NOBODY


def _is_let_go(before: np.record, after: np.record) -> bool:
    """Whether the fault lock was held, or was taken and let go within one event."""
    return bool((before.held or after.attempts > before.attempts) and not after.held)


def _lets_go(before: np.record, after: np.record) -> str:
    lock = int(before.held) or int(after.lock)
    return "vma_end_read" if lock == FaultLock.VMA else "mmap_read_unlock"
