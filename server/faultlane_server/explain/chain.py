"""Who is in whose way, from a thread that waits down to a device, a CPU or a timer."""

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock, OperationKind
from faultlane_server.engine.waiting import (
    drained_slot,
    file_of,
    folio_of,
    in_the_way,
    request_of,
)
from faultlane_server.engine.world import Cause, ThreadState
from faultlane_server.explain.names import Names
from faultlane_server.explanation import Link

LINKS_MAX = 8
ASLEEP = (ThreadState.BLOCKED, ThreadState.SPINNING)
ENDS_AT_DEVICE = (Cause.DEVICE, Cause.WRITEBACK)

WAITS_FOR = {
    Cause.MMAP_LOCK: "for mmap_lock",
    Cause.FOLIO: "for {folio}",
    Cause.DEVICE: "for the read of {folio}",
    Cause.VMA: "in vma_start_write for the readers of {vma}",
    Cause.PROGRAM: "in user space",
    Cause.INVALIDATE_LOCK: "for invalidate_lock of {file}",
    Cause.WRITEBACK: "for the writeback of {folio}",
    Cause.THROTTLE: "in balance_dirty_pages, or over memory.high",
    Cause.RECLAIM: "for a jiffy, as nothing could be reclaimed",
    Cause.SWAP_CACHE: "as another one reads the same page from swap",
    Cause.USERFAULTFD: "for a userfaultfd",
    Cause.FAULT_MUTEX: "for a fault mutex of hugetlb",
    Cause.FALLOC: "until a hole is punched",
}


class Chains:
    """Follows chains in one run."""

    def __init__(self, world: np.record, names: Names) -> None:
        self._world = world
        self._names = names

    def chain(self, thread: int) -> tuple[Link, ...]:
        """Return who is in the way of a thread, and who is in that one's way, and so on."""
        links: list[Link] = []
        met = {thread}
        while len(links) < LINKS_MAX:
            row = self._world.threads[thread]
            if row.state == ThreadState.RUNNABLE:
                links.append(self._of_cpu(row))
            elif row.state in ASLEEP and row.cause in ENDS_AT_DEVICE:
                links.append(self._of_device(thread))
            others = self._others(thread, row)
            if not others:
                break
            thread, before = others[0], thread
            links.append(Link(thread, self._of_thread(before, thread)))
            if thread in met:
                links.append(Link(NOBODY, "that closes the circle: a deadlock"))
                break
            met.add(thread)
        return tuple(links)

    def records(self, thread: int) -> list[np.ndarray]:
        """Return the bytes of all records of which the chain of a thread is made."""
        links = self.chain(thread)
        numbers = [thread, *(link.thread for link in links if link.thread != NOBODY)]
        return [part for number in numbers for part in self._records_of(number)]

    def _records_of(self, thread: int) -> list[np.ndarray]:
        """Return the bytes of a thread's record, and of what it waits for."""
        world, row = self._world, self._world.threads[thread]
        found = [_bytes(world.threads, thread), _bytes(world.cpus, int(row.cpu))]
        if row.state not in ASLEEP:
            return found
        if row.cause == Cause.MMAP_LOCK:
            found.append(_bytes(world.mms, int(row.mm)))
        elif row.cause == Cause.VMA:
            found.append(_bytes(world.vmas, drained_slot(row)))
        elif row.cause == Cause.INVALIDATE_LOCK:
            found.append(_bytes(world.files, file_of(row)))
        elif row.cause in (Cause.FOLIO, *ENDS_AT_DEVICE):
            found.append(_bytes(world.folios, folio_of(world, thread)))
        if row.cause in ENDS_AT_DEVICE:
            request = request_of(world, folio_of(world, thread))
            if request is not None:
                found.append(_bytes(world.devices, request.device))
                found.append(_bytes(world.folios, request.first))
        return found

    def _others(self, thread: int, row: np.record) -> list[int]:
        """Return whom a sleeping thread waits for, who has been at it the longest first.

        A reader that queues waits for the writer at the head of the queue, if readers hold the
        lock.
        """
        if row.state not in ASLEEP or row.cause in ENDS_AT_DEVICE:
            return []
        if row.cause == Cause.MMAP_LOCK and not wants_write(row):
            head = self._writer_before(thread, row)
            if head != NOBODY:
                return [head]
        others = [other for other in in_the_way(self._world, thread) if other != thread]
        return sorted(others, key=lambda other: int(self._world.threads[other].held_since_ns))

    def _writer_before(self, thread: int, row: np.record) -> int:
        lock = self._world.mms[int(row.mm)].mmap_lock
        first = int(lock.first)
        if lock.writer != NOBODY or first in (NOBODY, thread):
            return NOBODY
        return first if wants_write(self._world.threads[first]) else NOBODY

    def _of_thread(self, waiter: int, other: int) -> str:
        return f"{self._names.thread(other)} {self._has(waiter, other)}: {self._does(other)}"

    def _has(self, waiter: int, other: int) -> str:
        """Say what a thread has that another one wants."""
        world = self._world
        row, wants = world.threads[other], world.threads[waiter]
        cause = wants.cause
        if cause == Cause.MMAP_LOCK:
            return self._has_mmap_lock(wants, other, row)
        if cause == Cause.VMA:
            return f"holds {self._names.vma(drained_slot(wants))} for read"
        if cause == Cause.FOLIO:
            return f"holds the lock of {self._names.page(folio_of(world, waiter))}"
        if cause == Cause.INVALIDATE_LOCK:
            return f"holds invalidate_lock of {self._names.file(file_of(wants))}"
        if cause == Cause.FAULT_MUTEX:
            return "holds the fault mutex"
        if cause == Cause.SWAP_CACHE:
            return "reads the page"
        if cause == Cause.FALLOC:
            return f"punches a hole into {self._names.file(int(wants.file))}"
        return "is in the way"

    def _has_mmap_lock(self, wants: np.record, other: int, row: np.record) -> str:
        lock = self._world.mms[int(wants.mm)].mmap_lock
        if lock.writer == other:
            return "holds mmap_lock for write"
        if row.walks_mm == wants.mm:
            return "holds mmap_lock for read, to walk page tables"
        if row.held == FaultLock.MMAP and row.mm == wants.mm:
            return "holds mmap_lock for read"
        return f"is first in the queue for mmap_lock, for {_mode(row)}"

    def _does(self, thread: int) -> str:
        """Say what a thread does, and in what. The switch to a thread counts as its running."""
        row = self._world.threads[thread]
        inside = self._inside(thread, row)
        if row.in_fault:
            inside += f" at {self._names.address(int(row.page))}"
        if row.state == ThreadState.RUNNABLE:
            return f"{inside} is runnable"
        if row.state == ThreadState.RUNNING:
            return f"{inside} runs on CPU {int(row.cpu)}"
        if row.state == ThreadState.DONE:
            return "it has ended"
        how = "spins" if row.state == ThreadState.SPINNING else "sleeps"
        return f"{inside} {how} {self._waits_for(thread, row)}"

    def _waits_for(self, thread: int, row: np.record) -> str:
        text = WAITS_FOR.get(Cause(int(row.cause)), "")
        if "{folio}" in text:
            return text.format(folio=self._names.page(folio_of(self._world, thread)))
        if "{vma}" in text:
            return text.format(vma=self._names.vma(drained_slot(row)))
        if "{file}" in text:
            return text.format(file=self._names.file(file_of(row)))
        if row.cause == Cause.MMAP_LOCK:
            return f"{text} for {_mode(row)}"
        return text

    def _inside(self, thread: int, row: np.record) -> str:
        if thread == int(self._world.kswapd):
            return "balance_pgdat"
        if row.in_fault:
            return "a page fault"
        if row.in_operation:
            return OperationKind(int(row.op_kind)).name.lower()
        return "its program"

    def _of_cpu(self, row: np.record) -> Link:
        """Say who runs where a runnable thread would run."""
        cpu = self._world.cpus[int(row.cpu)]
        number, runner = int(row.cpu), int(cpu.thread)
        if runner == NOBODY:
            return Link(NOBODY, f"CPU {number} is about to be given to somebody")
        inside = self._inside(runner, self._world.threads[runner])
        return Link(runner, f"{self._names.thread(runner)} is on CPU {number}, in {inside}")

    def _of_device(self, thread: int) -> Link:
        """Say how far the request is that a thread waits for."""
        request = request_of(self._world, folio_of(self._world, thread))
        if request is None:
            return Link(NOBODY, "the request is about to be submitted")
        name = self._names.device(request.device)
        does = "writes" if request.is_write else "reads"
        what = f"{does} {self._names.pages(request.first, request.pages)}"
        if request.is_held_back:
            return Link(NOBODY, f"{name}: held back by io.max, then {what}")
        if request.until_ns is None:
            channels = int(self._world.devices[request.device].channels)
            return Link(NOBODY, f"{name}: queued, its {channels} channels are busy; then {what}")
        return Link(NOBODY, f"{name}: in service, {what}")


def wants_write(row: np.record) -> bool:
    """Whether a thread that waits for mmap_lock wants it for write. Readers do not spin."""
    return bool(row.state == ThreadState.SPINNING or row.wants_write)


def _mode(row: np.record) -> str:
    return "write" if wants_write(row) else "read"


def _bytes(records: np.ndarray, number: int) -> np.ndarray:
    return np.asarray(records)[number : number + 1].view(np.uint8)
