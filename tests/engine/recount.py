"""Counts over again what a run keeps count of, at any moment between two events.

What the record of a run says of locks, lines and pages is derived here anew: from the
threads, the page tables, and what is scheduled.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace as Row

import numpy as np

from faultlane_server.codes import (
    NOBODY,
    FaultClass,
    FaultLock,
    FileKind,
    LruKind,
    OperationKind,
    Protection,
    RelockAndMap,
    SchedPolicy,
)
from faultlane_server.engine.compile import FRAMES_WITHOUT_LIMIT
from faultlane_server.engine.queue import Kind, id_of, kind_of
from faultlane_server.engine.world import (
    ACTIVE,
    BACKGROUND,
    BATCH_MAX,
    BUSY,
    COMING,
    DIRTY,
    IN_BATCH,
    LISTS,
    LOCKED,
    PRESENT,
    PTE_ANON,
    PTE_DEVICE_EXCLUSIVE,
    PTE_DEVICE_PRIVATE,
    PTE_DIRTY,
    PTE_EXEC,
    PTE_MIGRATION,
    PTE_PRESENT,
    PTE_READ,
    PTE_SHARED,
    PTE_SWAP,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_ZERO,
    RESERVED,
    SWAP_CACHE,
    SWAPPED,
    UFFD_WP,
    UPTODATE,
    VM_NORESERVE,
    WRITEBACK,
    ZSWAP,
    Cause,
    Lru,
    Step,
    ThreadState,
)
from tests.engine.recount_blame import assert_blamed

PTES = 8192  # more than any scenario here has
DEVICES = 4

# What a thread does next while it refers to the folio of its fault.
WITH_A_REFERENCE = {
    Step.HIT_LOCKED,
    Step.READAHEAD_ASYNC,
    Step.FOLIO_WOKEN,
    Step.FOLIO_KILLED,
    Step.SYNC_READ,
    Step.SYNC_READ_DONE,
    Step.SYNC_READ_KILLED,
    Step.MAP_PAGE,
    Step.RELOCK,
    Step.RELOCKED,
    Step.RELOCK_FAILED,
    Step.ZEROED,
    Step.MKWRITE,
    Step.MKWRITE_FOLIO,
    Step.MKWRITE_WOKEN,
    Step.MKWRITE_STABLE,
    Step.EXCLUSIVE_WAITED,
    Step.EXCLUSIVE_WOKEN,
    Step.EXCLUSIVE_KILLED,
    Step.EXCLUSIVE_RESTORED,
    Step.SHMEM_READ,
    Step.SWAP_WAITED,
    Step.SWAP_WOKEN,
    Step.SWAP_KILLED,
    Step.SWAP_MAP,
}
# What it does next when it was woken in the line of a folio, to lock it.
WOKEN_FOR_A_FOLIO = {
    Step.FOLIO_WOKEN,
    Step.MKWRITE_WOKEN,
    Step.SWAP_WOKEN,
    Step.TRUNCATE,
    Step.WRITE_BACK_WOKEN,
    Step.EXCLUSIVE_WOKEN,
    Step.MIGRATE_WOKEN,
}
ON_CPU = (ThreadState.RUNNING, ThreadState.SPINNING)
# What an entry says of a page that is elsewhere: one of these.
ELSEWHERE = PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_PRIVATE | PTE_DEVICE_EXCLUSIVE


THREAD = (
    "step cut_step state cpu behind mm cause timer in_fault in_operation vma held invalidate_held"
    " file folio generation ra_step ra_gap ra_at written_folio op_kind op_file op_at op_folio page"
    " process walks_mm in_hand copy_in_hand in_swap_line fault_mutex huge_in_hand"
    " policy weight virtual_ns virtual_deadline_ns is_late is_delayed stays"
)
RWSEM = "writer readers first spin_first"
VMA = "mm start end open private anon_vma offset pte protection uffd lowest traits seq readers"


def assert_recounted(world: np.record) -> None:
    """Assert that everything that is counted and linked is what there is."""
    has_kswapd = world.kswapd != NOBODY
    threads = _rows(world.threads[: int(world.config.threads) + has_kswapd], THREAD)
    for row in threads:
        if row.step == Step.RESUME:  # it goes on with what it was cut off in
            row.step = row.cut_step
    _assert_apart(world)
    _assert_at_home(threads)
    _assert_mapped(world)
    _assert_in_swap(world, threads)
    _assert_charged(world, threads)
    _assert_lists(world)
    _assert_allowed(world, threads)
    _assert_lock_order(world, threads)
    _assert_referred_to(world, threads)
    _assert_dirty(world)
    _assert_at_devices(world, threads)
    _assert_folio_lines(world, threads)
    _assert_fault_locks(world, threads)
    _assert_queues(world, threads)
    _assert_written_line(world, threads)
    _assert_on_cpus(world, threads)
    _assert_ended(world, threads)
    _assert_elsewhere(world, threads)
    _assert_userfaults(world, threads)
    _assert_punched(world, threads)
    _assert_huge_pages(world, threads)
    _assert_fault_mutexes(world, threads)
    assert_blamed(world)


def _rows(records: np.ndarray, fields: str) -> list[Row]:
    """Return records as plain objects: to look into the record of a run takes long."""
    names = fields.split()
    columns = [records.view(np.ndarray)[name].tolist() for name in names]
    return [Row(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _vmas(world: np.record) -> list[Row]:
    return _rows(world.vmas[: int(world.vma_slots)], VMA)


def _files(world: np.record) -> list[Row]:
    return _rows(world.files[: int(world.config.files)], "first pages kind dirty")


def _folios(world: np.record) -> np.ndarray:
    folios: np.ndarray = world.folios[: int(world.config.folios)].view(np.ndarray)
    return folios


def _live_vmas(world: np.record) -> Iterator[Row]:
    """Go through the VMAs of all processes, each with its file."""
    vmas, files = _vmas(world), _files(world)
    order = world.vma_order.view(np.ndarray)
    opens = world.opens.view(np.ndarray)["file"]
    for mm in _rows(world.mms[: int(world.config.processes)], "order_first order_count"):
        for slot in order[mm.order_first : mm.order_first + mm.order_count].tolist():
            vma = vmas[slot]
            vma.file = int(opens[vma.open]) if vma.open != NOBODY else NOBODY
            vma.of = files[vma.file] if vma.open != NOBODY else None
            yield vma


def _is_huge(vma: Row) -> bool:
    """Whether a VMA has huge pages of hugetlb."""
    return bool(vma.open != NOBODY and vma.of.kind == FileKind.HUGETLB)


def _assert_apart(world: np.record) -> None:
    """Assert that VMAs are in order and share neither addresses nor page-table entries."""
    vmas = list(_live_vmas(world))
    assert all(vma.start < vma.end for vma in vmas), "a VMA has a page"
    for left, right in pairwise(vmas):
        assert left.mm != right.mm or left.end <= right.start, "VMAs are in order and apart"
    vmas.sort(key=lambda vma: vma.pte)
    for left, right in pairwise(vmas):
        assert left.pte + left.end - left.start <= right.pte, "an entry belongs to one VMA"


def _assert_at_home(threads: list[Row]) -> None:
    """Assert that only who looks at another process has another address space than its own."""
    for row in threads:
        if row.mm == NOBODY:
            continue  # kswapd has none
        assert row.mm == row.process or row.in_operation, "a thread runs in its own address space"


def _assert_mapped(world: np.record) -> None:
    folios = _folios(world)
    own = int(world.config.anon_first)
    mapcounts = np.zeros(len(folios), np.int64)
    mapped = np.zeros(int(world.config.processes), np.int64)
    present = 0
    for vma in _live_vmas(world):
        ptes = world.ptes[vma.pte : vma.pte + vma.end - vma.start]
        is_own = ptes & (PTE_PRESENT | PTE_ANON | PTE_ZERO) == PTE_PRESENT | PTE_ANON
        present += int((ptes & PTE_PRESENT).sum())
        mapped[vma.mm] += 0 if _is_huge(vma) else np.count_nonzero(is_own)
        away = ptes[ptes & PTE_PRESENT == 0]
        if vma.private:
            mapcounts[own + vma.pte : own + vma.pte + len(ptes)] += is_own
            away = away[away & PTE_ANON == 0]
        away = away[away & PTE_MIGRATION == 0]
        assert not away.any(), "an entry that is not present is clear, or its own page is elsewhere"
        if vma.open == NOBODY:
            here = ptes[ptes & PTE_PRESENT != 0]
            assert (here & PTE_ANON != 0).all(), "anonymous memory has no page of a file"
            continue
        first = vma.of.first + vma.offset
        is_mapped = ptes & (PTE_PRESENT | PTE_ANON) == PTE_PRESENT
        mapcounts[first : first + len(ptes)] += is_mapped
        mapped[vma.mm] += 0 if _is_huge(vma) else np.count_nonzero(is_mapped)
    assert np.array_equal(mapcounts, folios["mapcount"]), "mapcount is the number of entries"
    there = folios["state"][mapcounts > 0] & (PRESENT | UPTODATE)
    assert (there == PRESENT | UPTODATE).all(), "what is mapped is in memory and up to date"
    everywhere = np.concatenate([world.ptes[:PTES], world.ptes[-PTES:]])
    assert present == np.count_nonzero(everywhere & PTE_PRESENT), "only VMAs have pages"
    counted = world.mms["pages"][: len(mapped)]
    assert np.array_equal(counted, mapped), "a process counts the pages that it maps"


def _assert_in_swap(world: np.record, threads: list[Row]) -> None:
    states = _folios(world)["state"]
    in_swap = np.count_nonzero(states & SWAPPED)
    assert in_swap == world.swap_used, "each page in swap has a slot"
    assert np.count_nonzero(states & ZSWAP) == world.zswap_used, "the pages in zswap are counted"
    assert not (states[states & ZSWAP != 0] & SWAPPED == 0).any(), "zswap is a part of swap"
    both = PRESENT | SWAPPED
    cached = states[states & SWAP_CACHE != 0]
    assert (cached & both == both).all(), "the swap cache has what is in memory and in swap"
    own = int(world.config.anon_first)
    entries = np.flatnonzero(world.ptes[: len(states) - own] & PTE_SWAP)
    assert (states[own + entries] & SWAPPED != 0).all(), "an entry in swap has a slot"
    loose = np.flatnonzero(states[own:] & SWAPPED)
    bits = world.ptes[loose] & (PTE_SWAP | PTE_PRESENT)
    there = states[own + loose] & PRESENT
    assert ((bits != 0) | (there != 0)).all(), "a slot is kept for an entry, or what is left of it"
    line = _line(threads, int(world.swap_line))
    assert all(row.in_swap_line for row in line), "who waits for a read of zram stands in line"
    assert len(line) == sum(row.in_swap_line for row in threads), "and nobody else does"


def _assert_charged(world: np.record, threads: list[Row]) -> None:
    """Assert that each page is paid for by one memcg, and is taken from one free frame."""
    if not world.config.limits_memory:
        return
    folios = _folios(world)
    is_free = np.zeros(len(folios), bool)
    for file in _files(world):
        if file.kind in (FileKind.SPECIAL, FileKind.HUGETLB):
            is_free[file.first : file.first + file.pages] = True
    for vma in filter(_is_huge, _live_vmas(world)):
        if vma.private:
            first = int(world.config.anon_first) + vma.pte
            is_free[first : first + vma.end - vma.start] = True
    is_present = (folios["state"] & PRESENT != 0) & ~is_free
    assert np.array_equal(folios["memcg"] > 0, is_present), "what is in memory is charged"
    memcgs = int(world.config.memcgs)
    usage = np.bincount(folios["memcg"], minlength=memcgs + 1)[1:]
    frames = int(usage.sum())
    for row in threads:
        if row.mm != NOBODY:
            usage[world.mms[row.mm].memcg] += row.in_hand + row.copy_in_hand
            frames += row.in_hand + row.copy_in_hand
    for cpu in world.cpus[: int(world.config.cpus)]:
        usage[int(cpu["stock_memcg"])] += int(cpu["stock"])
    counted = world.memcgs["usage"][:memcgs]
    assert np.array_equal(counted, usage), "a memcg is charged for pages, stocks and pages in hand"
    all_frames = int(world.config.frames) or FRAMES_WITHOUT_LIMIT
    assert world.frames_free == all_frames - frames, "a frame is free or has a page"


def _assert_lists(world: np.record) -> None:
    """Assert that each page that is charged stands in one list of its memcg, or in a batch."""
    if not world.config.limits_memory:
        return
    folios = _folios(world)
    batched: set[int] = set()
    for number, cpu in enumerate(world.cpus[: int(world.config.cpus)]):
        first = number * BATCH_MAX
        batched.update(world.batches[first : first + int(cpu["batched"])].tolist())
    listed: set[int] = set()
    for memcg in range(int(world.config.memcgs)):
        for kind in range(LISTS):
            listed |= _assert_list(world, folios, memcg, kind)
    charged = set(np.flatnonzero(folios["memcg"]).tolist())
    waiting = set(np.flatnonzero(folios["lru"] == IN_BATCH).tolist())
    assert waiting <= batched, "a page waits in the batch of a CPU"
    assert listed | waiting == charged, "what is charged stands in a list, or in a batch"
    assert not listed & waiting, "and not in both"


def _assert_list(world: np.record, folios: np.ndarray, memcg: int, kind: int) -> set[int]:
    """Walk through a list, both ways at once; returns the pages in it."""
    row = world.memcgs[memcg].lists[kind]
    found: set[int] = set()
    before, at = NOBODY, int(row.first)
    while at != NOBODY:
        folio = folios[at]
        assert at not in found, "a list has an end"
        found.add(at)
        assert folio["lru_before"] == before, "who stands before a page is known to it"
        assert folio["lru"] == memcg * LISTS + kind + 1, "a page knows its list"
        assert folio["memcg"] == memcg + 1, "a list is that of the memcg that pays"
        if kind < Lru.CLASSIC:
            is_active = bool(folio["state"] & ACTIVE)
            assert is_active == (kind % 2 == 1), "an active page stands in an active list"
            assert world.config.lru_kind == LruKind.CLASSIC
        before, at = at, int(folio["lru_next"])
    assert row.last == before, "a list knows its tail"
    assert row.pages == len(found), "a list counts its pages"
    return found


def _assert_allowed(world: np.record, threads: list[Row]) -> None:
    """Assert that entries allow what their VMA allows, and writes that were made known."""
    shrinking = {row.op_file for row in threads if _is_truncating(row)}
    seqs = world.mms["seq"]
    for vma in _live_vmas(world):
        is_stamped = vma.seq == seqs[vma.mm]
        assert vma.seq & 1 or not is_stamped, "a VMA is write-locked while mmap_lock is written"
        ptes = world.ptes[vma.pte : vma.pte + vma.end - vma.start]
        for bit, right in ((PTE_WRITE, Protection.WRITE), (PTE_EXEC, Protection.EXEC)):
            may = vma.protection >> right & 1
            assert may or not (ptes & bit).any(), "an entry allows no more than its VMA"
        is_copy = ptes & (PTE_ANON | PTE_SWAP) != 0
        if vma.private:
            assert (is_copy | (ptes & PTE_WRITE == 0)).all(), "only copies are written to"
            is_own = is_copy & (ptes & PTE_ZERO == 0)
            assert vma.anon_vma or not is_own.any(), "only a VMA with an anon_vma has its own pages"
            is_everybodys = ptes & (PTE_ZERO | PTE_SHARED) != 0
            assert not (ptes[is_everybodys] & PTE_WRITE).any(), "what is shared is not written to"
        elif vma.of.kind == FileKind.REGULAR:
            first = vma.of.first + vma.offset
            clean = _folios(world)["state"][first : first + len(ptes)] & DIRTY == 0
            written = ptes & (PTE_WRITE | PTE_DIRTY) != 0
            assert not (written & clean).any(), "a page that can be written to is dirty"
        if vma.open != NOBODY and vma.file not in shrinking:
            beyond = ptes[max(vma.of.pages - vma.offset, 0) :]
            mapped = beyond & (PTE_PRESENT | PTE_ANON) == PTE_PRESENT
            assert not mapped.any(), "nothing is mapped beyond the end of a file"


def _is_truncating(row: Row) -> bool:
    return bool(row.in_operation and row.op_kind == OperationKind.FTRUNCATE)


def _assert_lock_order(world: np.record, threads: list[Row]) -> None:
    """Assert that who sleeps for a lock holds none that comes behind it."""
    if world.config.rules[FaultClass.FILE].relock_and_map == RelockAndMap.BLOCKING:
        return
    holders = set(_folios(world)["holder"].tolist())
    for number, row in enumerate(threads):
        if _sleeps_for(row, Cause.MMAP_LOCK) or _sleeps_for(row, Cause.INVALIDATE_LOCK):
            assert number not in holders, "who sleeps for it holds no folio lock"
        if _sleeps_for(row, Cause.MMAP_LOCK):
            assert row.held == 0, "who sleeps for mmap_lock holds no fault lock"
            assert row.invalidate_held == 0, "nor an invalidate_lock"


def _assert_referred_to(world: np.record, threads: list[Row]) -> None:
    referred: Counter[int] = Counter()
    for row in threads:
        if row.in_fault and _refers(row):
            is_same = _folios(world)["generation"][row.folio] == row.generation
            referred[row.folio] += bool(is_same)
    refs = _folios(world)["refs"]
    counted = {int(folio): int(refs[folio]) for folio in np.flatnonzero(refs)}
    assert counted == +referred, "refs is the number of faults that refer to a folio"


def _refers(row: Row) -> bool:
    """Whether a thread refers to the folio of its fault, by what it does next."""
    if row.step == Step.READAHEAD_LOCKED:
        return bool(row.ra_step == Step.READAHEAD_ASYNC)
    return row.step in WITH_A_REFERENCE


def _assert_dirty(world: np.record) -> None:
    states = _folios(world)["state"]
    dirty_all = 0
    files = _files(world)
    ends = [file.first for file in files[1:]] + [int(world.config.anon_first)]
    for file, end in zip(files, ends, strict=True):
        if file.kind != FileKind.REGULAR:
            continue
        dirty = int(np.count_nonzero(states[file.first : end] & DIRTY))
        assert dirty == file.dirty, "the dirty pages of a file are counted"
        dirty_all += dirty
    assert dirty_all == world.dirty, "the dirty pages of all files are counted"
    written = np.count_nonzero(states & WRITEBACK)
    assert written == world.under_writeback, "the pages under writeback are counted"
    flushed = np.count_nonzero(states & BACKGROUND)
    assert flushed == world.flushing, "the requests of background writeback are counted"
    of_files = states[: int(world.config.anon_first)]
    absent = of_files[of_files & PRESENT == 0]
    assert not (absent & (UPTODATE | LOCKED | DIRTY | WRITEBACK)).any(), "what is absent is nothing"


def _requests(world: np.record) -> Iterator[int]:
    """Go through the requests at all devices: those under way, and those that wait."""
    queue = world.queue
    first = int(queue.top_is_free)
    heap = queue.heap.view(np.ndarray)["key"]
    for key in heap[first : int(queue.entries) + first].tolist():
        if kind_of(key) in (Kind.READ, Kind.WRITE):
            yield id_of(key)
    for device in _rows(world.devices[:DEVICES], "first channels"):
        folio = device.first if device.channels else -1
        while folio >= 0:
            yield folio
            folio = int(_folios(world)["io_next"][folio])


def _assert_at_devices(world: np.record, threads: list[Row]) -> None:
    folios = _folios(world)
    expected = np.zeros(len(folios), np.int64)
    for request in _requests(world):
        pages = slice(request, request + int(folios["io_pages"][request]))
        expected[pages] += WRITEBACK if folios["state"][request] & WRITEBACK else LOCKED
    for row in threads:
        if row.ra_gap >= 0:
            first = int(world.files[row.file].first)
            expected[first + row.ra_gap : first + row.ra_at] += LOCKED
    is_read = (folios["state"] & LOCKED != 0) & (folios["holder"] == NOBODY)
    is_written = folios["state"] & WRITEBACK != 0
    assert np.array_equal(expected == LOCKED, is_read), "a read locks the pages that it fills"
    assert np.array_equal(expected == WRITEBACK, is_written), "writeback is what is being written"
    held = folios["holder"] != NOBODY
    is_held = folios["state"][held] & (LOCKED | BUSY) != 0
    assert is_held.all(), "what a thread holds is locked, or claimed to be read from swap"


def _line(threads: list[Row], first: int) -> list[Row]:
    """Return who stands in a line."""
    line: list[Row] = []
    while first != NOBODY:
        line.append(threads[first])
        assert len(line) <= len(threads), "a line has an end"
        first = threads[first].behind
    return line


def _sleepers(threads: list[Row], *causes: Cause) -> int:
    return sum(row.state == ThreadState.BLOCKED and row.cause in causes for row in threads)


def _assert_folio_lines(world: np.record, threads: list[Row]) -> None:
    folios = _folios(world)
    in_line = 0
    for folio in np.flatnonzero(folios["first"] != NOBODY):
        line = _line(threads, int(folios["first"][folio]))
        in_line += len(line)
        assert all(row.state == ThreadState.BLOCKED for row in line), "who waits in line sleeps"
        is_locked = folios["state"][folio] & LOCKED
        woken = [row for row in threads if _is_woken_for(world, row, int(folio))]
        assert is_locked or woken, "nobody sleeps in line for an unlocked folio for ever"
    sleepers = _sleepers(threads, Cause.FOLIO, Cause.DEVICE)
    assert in_line == sleepers, "who waits for a folio stands in its line"


def _is_woken_for(world: np.record, row: Row, folio: int) -> bool:
    """Whether a thread was woken in the line of a folio, and has yet to lock it."""
    if row.state == ThreadState.BLOCKED or row.step not in WOKEN_FOR_A_FOLIO:
        return False
    if row.in_fault:
        return bool(row.folio == folio)
    if row.step == Step.MIGRATE_WOKEN:
        return bool(row.op_folio == folio)
    first = int(world.files["first"][row.op_file]) if row.in_operation else NOBODY
    return bool(row.in_operation and first + row.op_at == folio)


def _assert_fault_locks(world: np.record, threads: list[Row]) -> None:
    holders = Counter((row.held, row.mm) for row in threads)
    holders += Counter((FaultLock.MMAP, row.walks_mm) for row in threads)
    for mm, lock in enumerate(_mmap_locks(world)):
        assert lock.readers == holders[FaultLock.MMAP, mm], "mmap_lock counts its readers"
        is_odd = bool(world.mms["seq"][mm] & 1)
        assert is_odd == (lock.writer != NOBODY), "seq is odd while mmap_lock is written"
    inside = Counter(row.vma for row in threads if row.held == FaultLock.VMA)
    for slot, vma in enumerate(_vmas(world)):
        assert vma.readers == inside[slot], "a VMA counts its readers"


def _mmap_locks(world: np.record) -> list[Row]:
    return _rows(world.mms[: int(world.config.processes)]["mmap_lock"], RWSEM)


def _invalidate_locks(world: np.record) -> list[Row]:
    return _rows(world.files[: int(world.config.files)]["invalidate_lock"], RWSEM)


def _assert_queues(world: np.record, threads: list[Row]) -> None:
    _assert_rwsems(threads, _mmap_locks(world), Cause.MMAP_LOCK)
    _assert_rwsems(threads, _invalidate_locks(world), Cause.INVALIDATE_LOCK)
    sharing = Counter(
        row.file
        for row in threads
        if row.invalidate_held and not _sleeps_for(row, Cause.INVALIDATE_LOCK)
    )
    for number, lock in enumerate(_invalidate_locks(world)):
        assert lock.readers == sharing[number], "invalidate_lock counts those who share it"


def _sleeps_for(row: Row, cause: Cause) -> bool:
    return bool(row.state == ThreadState.BLOCKED and row.cause == cause)


def _assert_rwsems(threads: list[Row], locks: list[Row], cause: Cause) -> None:
    asleep = 0
    for lock in locks:
        line = _line(threads, lock.first)
        asleep += sum(_sleeps_for(row, cause) for row in line)
        is_held = lock.readers > 0 or lock.writer != NOBODY
        assert not (lock.readers > 0 and lock.writer != NOBODY), "read or written, not both"
        if line and not is_held:
            assert line[0].state != ThreadState.BLOCKED, "nobody sleeps for a free lock for ever"
    assert asleep == _sleepers(threads, cause), "who waits for a lock stands in its queue"


def _assert_written_line(world: np.record, threads: list[Row]) -> None:
    line = _line(threads, int(world.written_first))
    assert len(line) == _sleepers(threads, Cause.WRITEBACK), "who waits for a write is in line"
    states = _folios(world)["state"]
    for row in line:
        assert states[row.written_folio] & WRITEBACK, "nobody waits for a write that is not"


def _assert_on_cpus(world: np.record, threads: list[Row]) -> None:
    runs = world.cpus.view(np.ndarray)["thread"]
    for number, row in enumerate(threads):
        if row.state in ON_CPU:
            assert runs[row.cpu] == number, "who runs has a CPU"
        if _sleeps_for(row, Cause.THROTTLE):
            assert row.timer >= 0, "a pause has its end"
    for cpu in range(int(world.config.cpus)):
        _assert_run_queue(world, threads, cpu)
    for lock in (*_mmap_locks(world), *_invalidate_locks(world)):
        spins = any(row.state == ThreadState.SPINNING for row in _line(threads, lock.spin_first))
        if spins and lock.writer != NOBODY:
            assert threads[lock.writer].state in ON_CPU, "nobody watches an owner that sleeps"
    runnable = [n for n, row in enumerate(threads) if row.state == ThreadState.RUNNABLE]
    assert len(runnable) == world.queued, "who is ready to run is in a run queue"
    urgent = [n for n in runnable if _is_real_time(threads[n])]
    assert len(urgent) == world.real_time_queued, "those with real-time priorities among them"
    idle = [cpu for cpu in range(int(world.config.cpus)) if world.cpus[cpu].is_idle]
    for n in runnable:
        if threads[n].stays:
            continue
        assert not any(_may_run(world, n, cpu) for cpu in idle), (
            "no CPU is idle while a thread waits that may run there"
        )


def _assert_run_queue(world: np.record, threads: list[Row], cpu: int) -> None:
    row = world.cpus[cpu]
    here = {n for n, thread in enumerate(threads) if thread.cpu == cpu}
    queued = {n for n in here if threads[n].state == ThreadState.RUNNABLE}
    delayed = {n for n in here if threads[n].is_delayed}
    assert all(threads[n].state == ThreadState.BLOCKED for n in delayed), "who is delayed sleeps"
    ready, late = _heap(world, int(row.ready)), _heap(world, int(row.late))
    assert len(queued) == row.queued, "who waits for a CPU is counted"
    assert {*ready, *late} == queued | delayed, "who waits for a CPU is in its queue"
    assert all(threads[n].is_late for n in late), "who had too much knows it"
    assert not any(threads[n].is_late for n in ready), "and nobody else does"
    runs = {int(row.thread)} - {NOBODY}
    sharing = [threads[n] for n in queued | delayed | runs if not _is_real_time(threads[n])]
    load = sum(thread.weight for thread in sharing)
    assert load == row.load, "the load of a CPU is the weights of its threads"
    sums = sum(t.weight * (t.virtual_ns - int(row.origin_ns)) for t in sharing)
    assert not load or sums == row.weighted_ns, "its time is the average of theirs"


def _may_run(world: np.record, thread: int, cpu: int) -> bool:
    affinity = int(world.threads[thread].affinity)
    return not affinity or bool(int(world.affinities[affinity][cpu // 64]) >> cpu % 64 & 1)


def _is_real_time(row: Row) -> bool:
    return row.policy in (SchedPolicy.FIFO, SchedPolicy.RR)


def _heap(world: np.record, top: int) -> list[int]:
    """Return who stands in a heap; nobody stands above somebody who comes first."""
    nodes = world.run_nodes
    found: list[int] = []
    under = [top] if top != NOBODY else []
    while under:
        thread = under.pop()
        found.append(thread)
        child = int(nodes[thread].child)
        while child != NOBODY:
            keys = [(int(nodes[n].key), int(nodes[n].order)) for n in (thread, child)]
            assert keys[0] < keys[1], "who stands above comes first"
            under.append(child)
            child = int(nodes[child].beside)
    return found


def _assert_ended(world: np.record, threads: list[Row]) -> None:
    ended = {n for n, row in enumerate(threads) if row.state == ThreadState.DONE}
    assert all(threads[n].held == 0 for n in ended), "who has ended holds no fault lock"
    assert all(threads[n].invalidate_held == 0 for n in ended), "nor an invalidate_lock"
    holders = _folios(world)["holder"]
    assert not ended & set(holders.tolist()), "nor a folio"
    writers = {lock.writer for lock in (*_mmap_locks(world), *_invalidate_locks(world))}
    assert not ended & writers, "nor mmap_lock or an invalidate_lock for write"


def _assert_elsewhere(world: np.record, threads: list[Row]) -> None:
    """Assert that a page that is elsewhere is in one place, and locked while it migrates."""
    migrating = {row.op_folio for row in threads if row.step == Step.MIGRATE_COPIED}
    rights = PTE_READ | PTE_WRITE | PTE_EXEC
    anon_first = int(world.config.anon_first)
    for vma in _live_vmas(world):
        assert vma.lowest < 0 or vma.lowest <= vma.start, "a VMA grows down to its lowest page"
        ptes = world.ptes[vma.pte : vma.pte + vma.end - vma.start]
        present = ptes & PTE_PRESENT != 0
        elsewhere = ptes & ELSEWHERE
        assert not elsewhere[present].any(), "a page is in one place"
        assert not (ptes[~present] & rights).any(), "what is elsewhere cannot be accessed"
        assert not (elsewhere & (elsewhere - 1)).any(), "it is in one place only"
        told = ptes & PTE_UFFD_WP != 0
        assert not (ptes[told] & PTE_WRITE).any(), "a userfaultfd is told of each write"
        assert vma.uffd & UFFD_WP or not told.any(), "only a VMA that is registered is protected"
        for number in np.flatnonzero(ptes & PTE_MIGRATION):
            is_own = vma.open == NOBODY or ptes[number] & PTE_ANON
            first = int(anon_first + vma.pte if is_own else vma.of.first + vma.offset)
            assert first + int(number) in migrating, "a page migrates while somebody copies it"
    holders = _folios(world)["holder"]
    for thread, row in enumerate(threads):
        if row.step == Step.MIGRATE_COPIED:
            assert holders[row.op_folio] == thread, "who copies a folio has it locked"


def _assert_userfaults(world: np.record, threads: list[Row]) -> None:
    """Assert that who waits for a userfaultfd stands in one of its lines."""
    asleep = 0
    for mm in _rows(world.mms[: int(world.config.processes)], "uffd_first uffd_readers_first"):
        faults, readers = _line(threads, mm.uffd_first), _line(threads, mm.uffd_readers_first)
        assert all(row.in_fault and row.held == 0 for row in faults), "who waits holds no lock"
        assert all(row.in_operation for row in readers), "only an operation reads of faults"
        asleep += len(faults) + len(readers)
    assert asleep == _sleepers(threads, Cause.USERFAULTFD), "who waits for one stands in line"


def _assert_punched(world: np.record, threads: list[Row]) -> None:
    """Assert that who waits for a hole to be punched waits for one that is."""
    asleep = 0
    for file in _rows(
        world.files[: int(world.config.files)], "falloc_start falloc_end falloc_first"
    ):
        line = _line(threads, file.falloc_first)
        assert not line or file.falloc_end > file.falloc_start, "nobody waits for nothing"
        asleep += len(line)
    assert asleep == _sleepers(threads, Cause.FALLOC), "who waits for a hole stands in line"


def _assert_huge_pages(world: np.record, threads: list[Row]) -> None:
    """Assert that each huge page is free or somewhere, and that what is reserved is free."""
    states = _folios(world)["state"]
    somewhere = sum(row.huge_in_hand for row in threads)
    somewhere += int(world.mms["huge_with_children"].sum())
    for file in _files(world):
        if file.kind == FileKind.HUGETLB:
            there = states[file.first : file.first + file.pages] & PRESENT
            somewhere += int(np.count_nonzero(there))
    reserved = np.flatnonzero(states & RESERVED)
    of_entries = reserved[reserved >= world.config.anon_first] - int(world.config.anon_first)
    for vma in filter(_is_huge, _live_vmas(world)):
        ptes = world.ptes[vma.pte : vma.pte + vma.end - vma.start]
        somewhere += int(np.count_nonzero(ptes & PTE_ANON))
        is_here = (of_entries >= vma.pte) & (of_entries < vma.pte + len(ptes))
        assert not is_here.any() or (vma.private and not vma.traits & VM_NORESERVE)
        of_entries = of_entries[~is_here]
        if _has_all_reserved(world, vma):
            own = int(np.count_nonzero(ptes & PTE_ANON))
            in_hand = sum(row.huge_in_hand and row.mm == vma.mm for row in threads)
            assert own + is_here.sum() >= len(ptes) - in_hand, "what is not there is reserved"
    coming = int(np.count_nonzero(states & COMING))
    assert coming <= sum(row.huge_in_hand for row in threads), "somebody has what is coming"
    pool = world.hugetlb
    assert len(of_entries) == 0, "huge pages are reserved for VMAs that are there, and for files"
    assert pool.free == pool.pages - somewhere, "a huge page is free or somewhere"
    assert pool.reserved == len(reserved), "the huge pages that are reserved are counted"
    assert pool.reserved <= pool.free, "a huge page that is reserved is free"
    assert not (states[reserved] & PRESENT).any(), "what is there needs no reservation"


def _has_all_reserved(world: np.record, vma: Row) -> bool:
    """Whether a VMA has a reservation for each page that is not there."""
    if not vma.private or vma.traits & VM_NORESERVE:
        return False
    return bool(world.mms["children_until_ns"][vma.mm] == 0 and world.config.hugetlb_restores)


def _assert_fault_mutexes(world: np.record, threads: list[Row]) -> None:
    """Assert that who waits for a fault mutex stands in its line, and that somebody has it."""
    asleep = 0
    mutexes = _rows(world.hugetlb.mutexes[: int(world.config.fault_mutexes)], "holder first")
    for number, mutex in enumerate(mutexes):
        line = _line(threads, mutex.first) if mutex.holder != NOBODY else []
        asleep += len(line)
        assert all(row.fault_mutex == number + 1 for row in line), "who waits is in one line"
        if mutex.holder != NOBODY:
            assert threads[mutex.holder].fault_mutex == number + 1, "who has a mutex knows it"
            assert threads[mutex.holder] not in line, "and does not wait for it"
    assert asleep == _sleepers(threads, Cause.FAULT_MUTEX), "who waits for one stands in line"
