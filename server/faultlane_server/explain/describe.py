"""What a faulting thread is about, in words, from its record."""

import numpy as np

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import NOBODY, Access, Activity, FaultKind, FaultLock, VmFault
from faultlane_server.engine.waiting import folio_of, step_of
from faultlane_server.engine.world import LOCKED, Cause, Step, ThreadState
from faultlane_server.explain.chain import wants_write
from faultlane_server.explain.names import Names
from faultlane_server.explain.words import (
    FOLIO_WAITS,
    INVALIDATE_WAITS,
    RUNNING,
    WAITING,
    Words,
    fault_function,
    in_fault_method,
)
from faultlane_server.kernels import KERNELS
from faultlane_server.scenario import Scenario

FINDS_VMA_SINCE = (6, 5)  # lock_mm_and_find_vma()
BEGINS_ATTEMPT = (Step.LOCK_VMA, Step.LOCK_MMAP, Step.MMAP_GRANTED, Step.APPLY)


class Describer:
    """Finds the words for one run."""

    def __init__(self, scenario: Scenario, world: np.record, names: Names) -> None:
        self._world = world
        self._names = names
        self._handler = ARCHITECTURES[scenario.machine.arch].handler
        self._finds_vma = KERNELS[scenario.kernel.generation].release >= FINDS_VMA_SINCE

    def words(self, thread: int, did: Step | None) -> Words:
        """Return what a thread does from now on; `did` is the step that it has just done."""
        row = self._world.threads[thread]
        if activity_of(row) == Activity.RUNNABLE:
            return Words("schedule", self._waits_for_cpu(row))
        if activity_of(row) == Activity.RUNNING:
            words = RUNNING[step_of(row)]
            return Words(*(self._filled(part, row, did) for part in words))
        return self._waits(thread, row)

    def holds(self, thread: int) -> tuple[str, ...]:
        """Return what a thread has locked."""
        row, world = self._world.threads[thread], self._world
        found = []
        if row.held == FaultLock.VMA:
            found.append(f"the VMA lock of {self._names.vma(int(row.vma))} for read")
        elif row.held == FaultLock.MMAP:
            found.append("mmap_lock for read")
        if world.mms[int(row.mm)].mmap_lock.writer == thread:
            found.append("mmap_lock for write")
        if row.invalidate_held and row.cause != Cause.INVALIDATE_LOCK:
            found.append(f"invalidate_lock of {self._names.file(int(row.file))}, shared")
        folio = int(row.folio)
        if self.has_folio(thread):
            found.append(f"the folio lock of {self._names.page(folio)}")
        if row.walks_mm != NOBODY:
            found.append("mmap_lock for read, for a walk of page tables")
        return tuple(found)

    def has_folio(self, thread: int) -> bool:
        """Whether a thread holds the lock of the folio that its fault is about."""
        row = self._world.threads[thread]
        folio = self._world.folios[int(row.folio)]
        return bool(row.in_fault and folio.state & LOCKED and int(folio.holder) == thread)

    def _waits_for_cpu(self, row: np.record) -> str:
        cpu = int(row.cpu)
        if row.state == ThreadState.RUNNING:
            return f"is woken, and CPU {cpu} switches to it"
        others = int(self._world.cpus[cpu].queued) - 1
        behind = f", where {others} others wait" if others > 0 else ""
        return f"runnable: waits for CPU {cpu}{behind}, or for any that is idle before"

    def _waits(self, thread: int, row: np.record) -> Words:
        cause, step = Cause(int(row.cause)), Step(int(row.step))
        words = WAITING.get(cause, Words("schedule", "sleeps"))
        if cause in (Cause.FOLIO, Cause.DEVICE):
            function = FOLIO_WAITS.get(step, words.function)
        elif cause == Cause.INVALIDATE_LOCK:
            function = INVALIDATE_WAITS.get(step, words.function)
        elif cause == Cause.MMAP_LOCK and wants_write(row):
            spins = row.state == ThreadState.SPINNING
            function = "rwsem_optimistic_spin" if spins else "rwsem_down_write_slowpath"
            words = Words("", "waits for mmap_lock for write")
        elif cause == Cause.THROTTLE and step != Step.BALANCE:
            function = "mem_cgroup_handle_over_high"
            words = Words("", "is over memory.high: sleeps as a penalty")
        else:
            function = words.function
        text = words.text
        if "{folio}" in text:
            text = text.format(folio=self._names.page(folio_of(self._world, thread)))
        if cause == Cause.MMAP_LOCK:
            text += self._place_in_queue(thread, row)
        return Words(self._filled(function, row, None), text)

    def _place_in_queue(self, thread: int, row: np.record) -> str:
        """Say how many are before a thread in the queue for mmap_lock."""
        at, ahead = int(self._world.mms[int(row.mm)].mmap_lock.first), 0
        while at not in (NOBODY, thread):
            at, ahead = int(self._world.threads[at].behind), ahead + 1
        if at == NOBODY or ahead == 0:
            return ""
        return f", behind {ahead} in its queue"

    def _filled(self, part: str, row: np.record, did: Step | None) -> str:
        """Fill in what depends on the run, or on the fault."""
        end = self._end(row, did)
        is_copied = row.kind == FaultKind.FILE_COW
        filled = part.format(
            handler=self._handler,
            find_vma="lock_mm_and_find_vma" if self._finds_vma else "mmap_read_lock",
            fault=fault_function(row),
            goes=_goes(row, did),
            around=self._around(row, did),
            window=self._window(row) if "{window}" in part else "",
            anon=_anon(row),
            young=_young(row),
            ends_in=end.function,
            ends=end.text,
            maps="copies the page, and maps the copy" if is_copied else "maps the page",
            leaves=_leaves(row),
        )
        return in_fault_method(row, filled)

    def _around(self, row: np.record, did: Step | None) -> str:
        """Say what comes before the page cache is searched."""
        is_tried = did in BEGINS_ATTEMPT and self._world.config.fault_around_pages > 1
        if row.kind == FaultKind.FILE_READ and is_tried:
            return "do_fault_around does not find it ready; "
        if row.kind == FaultKind.FILE_COW and did in BEGINS_ATTEMPT:
            return "allocates the page to copy to; "
        return ""

    def _window(self, row: np.record) -> str:
        first = int(self._world.files[int(row.file)].first)
        start, end = int(row.ra_start), int(row.ra_end)
        return self._names.pages(first + start, max(end - start, 1))

    def _end(self, row: np.record, did: Step | None) -> Words:
        """Say how an attempt ends that needs nothing more."""
        if did not in BEGINS_ATTEMPT:
            return Words("handle_mm_fault", "returns")
        if row.result & VmFault.NOPAGE:
            function = "do_read_fault > do_fault_around > filemap_map_pages"
            return Words(function, "maps the page, and what is ready around it")
        return Words("handle_pte_fault", "the entry is set: another thread has mapped the page")


def activity_of(row: np.record) -> Activity:
    """Return whether a thread has a CPU; one that a CPU is being switched to has none yet."""
    if row.state == ThreadState.RUNNING:
        is_switched_to = row.pending_cause == Cause.RUN_QUEUE
        return Activity.RUNNABLE if is_switched_to else Activity.RUNNING
    if row.state == ThreadState.SPINNING:
        return Activity.SPINNING
    return Activity.RUNNABLE if row.state == ThreadState.RUNNABLE else Activity.SLEEPING


def _goes(row: np.record, did: Step | None) -> str:
    """Say why a fault goes for a lock."""
    if step_of(row) == Step.LOCK_VMA:
        return "tries again under the VMA lock:" if row.attempts else "exception entry;"
    if row.result & VmFault.RETRY:
        return "tries again under mmap_lock"
    return "exception entry; goes for mmap_lock" if did is None else "takes mmap_lock instead"


def _anon(row: np.record) -> str:
    if row.access == Access.WRITE:
        return "allocates a page, clears it, and maps it"
    return "maps the zero page"


def _young(row: np.record) -> str:
    if row.kind == FaultKind.NUMA_HINT:
        return "do_numa_page: the hint has done its work"
    return "ptep_set_access_flags: the entry is made young"


def _leaves(row: np.record) -> str:
    if row.result & VmFault.RETRY:
        return "fault_signal_pending: leaves, for a signal; the access is made again"
    if row.kind == FaultKind.BAD_AREA:
        return "SIGSEGV, and back to user mode"
    if row.result & VmFault.SIGBUS:
        return "do_sigbus, and back to user mode"
    if row.result & VmFault.OOM:
        return "pagefault_out_of_memory: the access is made again"
    return "back to kernel mode" if row.kernel_mode else "back to user mode"
