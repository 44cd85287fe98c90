"""Who is in whose way: what a thread waits for, who has it, and which request that is.

Looks at the record between two events, and changes nothing. What a thread has taken down of whom
it waits for may have left since, so locks are asked who holds them.
"""

from typing import NamedTuple

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock, OperationKind
from faultlane_server.engine.queue import ID_BITS, KIND_BITS, Kind
from faultlane_server.engine.world import HELD_BACK, WRITEBACK, Cause, Step

WHAT_FOR = {
    Cause.MMAP_LOCK: "mmap_lock",
    Cause.FOLIO: "a folio lock",
    Cause.DEVICE: "a read",
    Cause.VMA: "the readers of a VMA",
    Cause.PROGRAM: "a barrier",
    Cause.INVALIDATE_LOCK: "an invalidate_lock",
    Cause.WRITEBACK: "the writeback of a page",
    Cause.THROTTLE: "dirty pages to be written",
    Cause.USERFAULTFD: "a userfaultfd",
    Cause.FALLOC: "a hole to be punched",
    Cause.FAULT_MUTEX: "a fault mutex of hugetlb",
}

# What a fault does next when it waits for the page that its entry had before.
OF_THE_OLD_PAGE = (Step.ANON_CHARGE, Step.COPY_CHARGE, Step.WP_CHARGE)


class Request(NamedTuple):
    """A request to a device, as far as it is."""

    device: int
    first: int  # its first folio
    pages: int
    is_write: bool
    until_ns: int | None  # when it is done, or let through to the device; None: it is queued
    ahead: int  # how many requests are before it in the device's line
    is_held_back: bool


def in_the_way(world: np.record, thread: int) -> list[int]:
    """Return whom a thread waits for: all who hold what it wants to have."""
    row = world.threads[thread]
    others = world.threads[: int(world.config.threads)]
    if row.cause == Cause.VMA:
        holds = (others["held"] == FaultLock.VMA) & (others["vma"] == drained_slot(row))
    elif row.cause == Cause.MMAP_LOCK:
        return _in_the_way_of_mmap_lock(world, row, others)
    elif row.cause == Cause.INVALIDATE_LOCK:
        return _holders_of_invalidate_lock(world, row, others)
    elif row.cause == Cause.FALLOC:
        holds = others["in_operation"] != 0
        holds &= others["op_kind"] == OperationKind.PUNCH_HOLE
        holds &= others["op_file"] == row.file
    else:
        return _taken_down(world, thread, row)
    return _numbers(holds)


def step_of(row: np.record) -> Step:
    """Return what a thread does next, at the end of the burst that it was cut off in if it was."""
    step = Step(int(row["step"]))
    return Step(int(row["cut_step"])) if step == Step.RESUME else step


def drained_slot(writer: np.record) -> int:
    """Return the slot of the VMA whose readers a writer waits for."""
    return int(writer.locks[writer.locks_count - 1])


def file_of(row: np.record) -> int:
    """Return the file that a thread's fault or operation is about."""
    return int(row.file if row.in_fault else row.op_file)


def folio_of(world: np.record, thread: int) -> int:
    """Return the folio that a thread waits for."""
    row = world.threads[thread]
    if row.cause == Cause.WRITEBACK:
        return int(row.written_folio)
    if row.in_fault and row.step in OF_THE_OLD_PAGE:
        vma = world.vmas[int(row.vma)]
        return int(world.config.anon_first + vma.pte + row.page - vma.start)
    if row.in_operation and row.op_kind == OperationKind.MIGRATE:
        return int(row.op_folio)
    return int(row.folio)


def request_of(world: np.record, folio: int) -> Request | None:
    """Return the request that reads or writes a folio, or None if there is none."""
    first_entry = int(world.queue.top_is_free)
    entries = world.queue.heap[first_entry : first_entry + int(world.queue.entries)]
    kinds = entries["key"] >> ID_BITS & ((1 << KIND_BITS) - 1)
    firsts = entries["key"] & ((1 << ID_BITS) - 1)
    for entry in np.flatnonzero((kinds == Kind.READ) | (kinds == Kind.WRITE)):
        if _covers(world, int(firsts[entry]), folio):
            device = int(world.folios[int(firsts[entry])].io_device)
            until_ns = max(int(entries[entry].time_ns), int(world.queue.opens_ns))
            return _request(world, device, int(firsts[entry]), until_ns, 0)
    return _queued_request_of(world, folio)


def _queued_request_of(world: np.record, folio: int) -> Request | None:
    for device in np.flatnonzero(world.devices["channels"] > 0):
        first, ahead = int(world.devices[device].first), 0
        while first >= 0:
            if _covers(world, first, folio):
                return _request(world, int(device), first, None, ahead)
            first, ahead = int(world.folios[first].io_next), ahead + 1
    return None


def _request(
    world: np.record, device: int, first: int, until_ns: int | None, ahead: int
) -> Request:
    row = world.folios[first]
    state = int(row.state)
    is_write, is_held_back = bool(state & WRITEBACK), bool(state & HELD_BACK)
    return Request(device, first, int(row.io_pages), is_write, until_ns, ahead, is_held_back)


def _covers(world: np.record, first: int, folio: int) -> bool:
    return first <= folio < first + int(world.folios[first].io_pages)


def _taken_down(world: np.record, thread: int, row: np.record) -> list[int]:
    if row.cause == Cause.FOLIO and (row.in_fault or row.in_operation):
        holder = int(world.folios[folio_of(world, thread)].holder)
        if holder not in (NOBODY, thread):
            return [holder]
    return [int(row.waits_for)] if row.waits_for != NOBODY else []


def _in_the_way_of_mmap_lock(world: np.record, row: np.record, others: np.ndarray) -> list[int]:
    """Return who holds mmap_lock, or the head of its queue, if it is free but for those."""
    lock = world.mms[int(row.mm)].mmap_lock
    if lock.writer != NOBODY:
        return [int(lock.writer)]
    holds = (others["held"] == FaultLock.MMAP) & (others["mm"] == row.mm)
    holds |= others["walks_mm"] == row.mm
    holders = _numbers(holds)
    if world.kswapd != NOBODY and world.threads[int(world.kswapd)].walks_mm == row.mm:
        holders.append(int(world.kswapd))
    if holders or lock.first == NOBODY:
        return holders
    return [int(lock.first)]


def _holders_of_invalidate_lock(world: np.record, row: np.record, others: np.ndarray) -> list[int]:
    file = file_of(row)
    lock = world.files[file].invalidate_lock
    if lock.writer != NOBODY:
        return [int(lock.writer)]
    holds = (others["invalidate_held"] == 1) & (others["file"] == file)
    holds &= others["cause"] != Cause.INVALIDATE_LOCK
    return _numbers(holds)


def _numbers(chosen: np.ndarray) -> list[int]:
    return [int(number) for number in np.flatnonzero(chosen)]
