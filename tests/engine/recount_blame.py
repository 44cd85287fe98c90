"""Finds out anew who is to blame for each wait, and what is in the way of whom.

The engine follows every change; here the locks, lines and threads of one moment are looked at.
"""

from collections import Counter
from types import SimpleNamespace as Row

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock
from faultlane_server.engine.world import (
    ACTIVITIES_MAX,
    NODES_DIRECT,
    NODES_FIRST,
    Activity,
    Cause,
    Leaf,
    ThreadState,
    Waits,
)
from faultlane_server.summary import Summary

FOLLOWED = {
    Cause.MMAP_LOCK: {Waits.MMAP_READ, Waits.MMAP_WRITE},
    Cause.VMA: {Waits.VMA_WRITE},
    Cause.INVALIDATE_LOCK: {Waits.INVALIDATE_READ, Waits.INVALIDATE_WRITE},
    Cause.FOLIO: {Waits.FOLIO_FILE, Waits.FOLIO_ANON, Waits.FOLIO_SWAP},
    Cause.SWAP_CACHE: {Waits.SWAP_CACHE},
    Cause.FALLOC: {Waits.FALLOC},
    Cause.FAULT_MUTEX: {Waits.FAULT_MUTEX},
}
THREAD = (
    "state cause since_ns slot blamed_first shares_seen held mm vma held_since_ns held_next"
    " pending_cause wants_write folio op_folio in_fault invalidate_held file"
)
SLOT = (
    "kind instance waiters since_ns blamed instead node below next_blamed shares clock_ns"
    " above_first above_next"
)
RWSEM = "writer readers first holders_first slot_read slot_write"


def assert_blamed(world: np.record) -> None:
    """Assert that each wait is followed, and that those who are to blame are."""
    has_kswapd = world.kswapd != NOBODY
    threads = _rows(world.threads[: int(world.config.threads) + has_kswapd], THREAD)
    slots = _slots_in_use(world)
    _assert_followed(world, threads, slots)
    _assert_holders(world, threads)
    _assert_clocks(world, threads, slots)
    _assert_lists(threads, slots)
    _assert_in_the_way(world, threads, slots)
    _assert_tails(world, threads, slots)


def assert_blame_adds_up(world: np.record, *logs: dict[str, np.ndarray]) -> None:
    """Assert that all waits in the logs, and nothing else, is somebody's or something's fault."""
    chains = world.blame.chains[world.blame.chains["key"] != 0]
    links = world.blame.nodes[chains["node"]]
    is_device = links["holder"] % ACTIVITIES_MAX == Activity.DEVICE
    for cause, wanted_ns in _waits_in(logs).items():
        kinds = FOLLOWED[cause] if cause in FOLLOWED else {Waits[cause.name]}
        chosen = np.isin(links["kind"], list(kinds))
        if cause == Cause.FOLIO:
            chosen &= ~is_device
        assert int(chains["wait_ns"][chosen].sum()) == wanted_ns, f"they add up to {cause.name}"
    whole_ns = int(chains["wait_ns"].sum())
    named = [name for name in logs[0] if name.startswith("wait_") and name not in NOT_BLAMED]
    whole_ns -= int(chains["wait_ns"][links["kind"] == Waits.RECLAIM].sum())
    all_ns = sum(int(log[name].sum()) for log in logs for name in named if name in log)
    assert whole_ns == all_ns, "all waits are there but those for a CPU"


# Of reclaim only the sleeps are waits, and events have them together with its work.
NOT_BLAMED = ("wait_run_queue_ns", "wait_lock_word_ns", "wait_reclaim_ns")


def _waits_in(logs: tuple[dict[str, np.ndarray], ...]) -> dict[Cause, int]:
    """Return how long was waited for each cause, but for devices: they are asked for by name."""
    causes = (*FOLLOWED, Cause.WRITEBACK, Cause.THROTTLE, Cause.USERFAULTFD)
    names = {cause: f"wait_{cause.name.lower()}_ns" for cause in causes}
    return {
        cause: sum(int(log[name].sum()) for log in logs if name in log)
        for cause, name in names.items()
    }


def summary_adds_up(summary: Summary) -> bool:
    """Whether what the summary tells, and what it leaves out, is the same for all three tables."""
    blame = summary.blame
    sums = {
        sum(row.wait_total_ns for row in rows) + left_out.wait_total_ns
        for rows, left_out in (
            (blame.edges, blame.edges_left_out),
            (blame.chains, blame.chains_left_out),
            (blame.victims, blame.victims_left_out),
        )
    }
    return len(sums) == 1


def _rows(records: np.ndarray, fields: str) -> list[Row]:
    names = fields.split()
    columns = [records.view(np.ndarray)[name].tolist() for name in names]
    return [Row(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _slots_in_use(world: np.record) -> dict[int, Row]:
    rows = _rows(world.blame.slots[: int(world.blame.slots_used)], SLOT)
    return {number: row for number, row in enumerate(rows) if row.waiters > 0}


def _waits(row: Row) -> bool:
    return row.state in (ThreadState.BLOCKED, ThreadState.SPINNING)


def _assert_followed(world: np.record, threads: list[Row], slots: dict[int, Row]) -> None:
    """Assert that who waits for a lock has a slot of its kind, and nobody else has one."""
    for row in threads:
        kinds = FOLLOWED.get(row.cause) if _waits(row) else None
        if kinds is None:
            assert row.slot == NOBODY, "who waits for no thread has no slot"
        else:
            assert row.slot in slots, "who waits for a lock has a slot"
            assert slots[row.slot].kind in kinds, "a slot is for what is waited for"
    counted = Counter(row.slot for row in threads if row.slot != NOBODY)
    assert counted == {number: row.waiters for number, row in slots.items()}
    assert world.blame.unfollowed == 0, "there is room for the locks of a small scenario"


def _assert_holders(world: np.record, threads: list[Row]) -> None:
    """Assert that who reads stands in the list of its lock, who reads for longest in front."""
    inside: dict[tuple[int, int], list[int]] = {}
    for number, row in enumerate(threads):
        if row.held:
            where = row.vma if row.held == FaultLock.VMA else row.mm
            inside.setdefault((row.held, where), []).append(number)
        if row.invalidate_held and not (_waits(row) and row.cause == Cause.INVALIDATE_LOCK):
            inside.setdefault((0, row.file), []).append(number)
    vmas = world.vmas[: int(world.vma_slots)]["holders_first"].tolist()
    mms = [lock.holders_first for lock in _locks(world.mms, world.config.processes, "mmap_lock")]
    files = [
        lock.holders_first for lock in _locks(world.files, world.config.files, "invalidate_lock")
    ]
    for kind, firsts in ((FaultLock.VMA, vmas), (FaultLock.MMAP, mms), (0, files)):
        for place, first in enumerate(firsts):
            line = _line_of_holders(threads, first, 0 if kind else 1)
            readers = inside.get((int(kind), place), [])
            if kind == FaultLock.VMA:
                assert set(line) <= set(readers), "who is listed reads"
                assert all(_runs(threads[number]) for number in set(readers) - set(line))
                continue
            assert sorted(line) == readers, "who reads is in the list"
            since = [threads[number].held_since_ns for number in line]
            assert not kind or since == sorted(since), "who reads for longest stands in front"


def _runs(row: Row) -> bool:
    return row.state in (ThreadState.RUNNING, ThreadState.SPINNING)


def _line_of_holders(threads: list[Row], first: int, which: int) -> list[int]:
    line: list[int] = []
    while first != NOBODY:
        line.append(first)
        assert len(line) <= len(threads), "a list has an end"
        first = threads[first].held_next[which]
    return line


def _locks(rows: np.ndarray, count: int, name: str) -> list[Row]:
    return _rows(rows[: int(count)][name], RWSEM)


def _assert_clocks(world: np.record, threads: list[Row], slots: dict[int, Row]) -> None:
    """Assert that what clocks show to each waiter is how long it has waited."""
    for number, row in enumerate(threads):
        if row.slot == NOBODY:
            continue
        slot = slots[row.slot]
        seen = world.blame.seen[number].clock_ns.tolist()
        shares = [
            clock - (seen[share] if share < row.shares_seen else 0)
            for share, clock in enumerate(slot.clock_ns[: slot.shares])
        ]
        assert min(shares, default=0) >= 0, "clocks do not go back"
        assert sum(shares) == slot.since_ns - row.since_ns, "one clock goes at any time"


def _assert_lists(threads: list[Row], slots: dict[int, Row]) -> None:
    """Assert that threads know where they are to blame, and slots what is below and above them."""
    for number, row in enumerate(threads):
        at, found = row.blamed_first, set()
        while at != NOBODY:
            found.add(at)
            at = slots[at].next_blamed
        assert found == {n for n, slot in slots.items() if slot.blamed == number}
    for number, slot in slots.items():
        below = threads[slot.blamed].slot if slot.blamed != NOBODY else NOBODY
        assert slot.below == below, "a slot is above the one in which its thread waits"
        at, found = slot.above_first, set()
        while at != NOBODY:
            found.add(at)
            at = slots[at].above_next
        assert found == {n for n, other in slots.items() if other.below == number}


def _assert_in_the_way(world: np.record, threads: list[Row], slots: dict[int, Row]) -> None:
    """Assert that who is to blame is in the way."""
    seen = set()
    locks = _locks(world.mms, world.config.processes, "mmap_lock")
    locks += _locks(world.files, world.config.files, "invalidate_lock")
    for lock in locks:
        for number, is_read in ((lock.slot_read, True), (lock.slot_write, False)):
            if number != NOBODY:
                seen.add(number)
                slot = slots[number]
                assert slot.blamed == _blamed_for(lock, threads, is_read)
    for place, vma in enumerate(
        _rows(world.vmas[: int(world.vma_slots)], "drain drainer holders_first")
    ):
        if vma.drain and threads[vma.drainer].slot != NOBODY:
            seen.add(threads[vma.drainer].slot)
            inside = [
                (row.held_since_ns, number)
                for number, row in enumerate(threads)
                if row.held == FaultLock.VMA and row.vma == place
            ]
            longest = min(inside, default=(0, NOBODY))[1]
            if vma.holders_first != NOBODY:
                longest = vma.holders_first
            assert slots[threads[vma.drainer].slot].blamed == longest, "who reads for longest is"
    folios = world.folios[: int(world.config.folios)]
    for folio in np.flatnonzero(folios["first"] != NOBODY):
        number = threads[int(folios["first"][folio])].slot
        if number != NOBODY:
            seen.add(number)
            assert slots[number].blamed == folios["holder"][folio], "who has a folio is to blame"
    others = {slots[number].kind for number in set(slots) - seen}
    assert others <= {Waits.SWAP_CACHE, Waits.FALLOC, Waits.FAULT_MUTEX}, (
        "each slot is that of a lock"
    )


def _blamed_for(lock: Row, threads: list[Row], is_read: bool) -> int:
    """Return the writer; or the writer at the head that readers stand behind; or a reader."""
    head_writes = lock.first != NOBODY and threads[lock.first].wants_write
    if lock.writer != NOBODY:
        return int(lock.writer)
    if lock.readers and not (is_read and head_writes):
        return int(lock.holders_first)
    return int(lock.first) if head_writes else NOBODY


def _assert_tails(world: np.record, threads: list[Row], slots: dict[int, Row]) -> None:
    """Assert that each chain goes on where its thread waits, or ends in what it does."""
    for slot in slots.values():
        node = world.blame.nodes[slot.node]
        if slot.node < NODES_FIRST or slot.blamed == NOBODY:
            continue
        assert node.kind == slot.kind, "a chain begins with its lock"
        tail = int(node.tail)
        if slot.below != NOBODY:
            is_cut = tail in tuple(Leaf)
            assert is_cut or tail == slots[slot.below].node, "a chain goes on below"
        else:
            assert tail < NODES_DIRECT, "who waits for no lock is the end of a chain"
            assert tail == _does(threads[slot.blamed]), "a chain ends in what its thread does"


def _does(row: Row) -> int:
    if row.state == ThreadState.RUNNING and row.pending_cause == Cause.CPU:
        return Cause.CPU
    if row.state in (ThreadState.RUNNING, ThreadState.RUNNABLE):
        return Cause.RUN_QUEUE
    return int(row.cause)
