"""From the tables of blame to what the summary says of it: the longest waits first."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from faultlane_server.codes import OperationKind
from faultlane_server.engine.blame_layer import NO_THREADS
from faultlane_server.engine.names import Names
from faultlane_server.engine.world import (
    ACTIVITIES_MAX,
    NODES_DIRECT,
    NODES_UNKNOWN,
    Activity,
    Cause,
    Leaf,
    Locks,
    Waits,
)
from faultlane_server.summary import (
    Blame,
    BlameChain,
    BlameEdge,
    BlameLink,
    LeftOut,
    LockInstanceRow,
    Victim,
    Who,
)

ROWS_MAX = 100  # of each table

WAIT_NAMES = {
    Waits.MMAP_READ: ("mmap_lock", "read"),
    Waits.MMAP_WRITE: ("mmap_lock", "write"),
    Waits.VMA_WRITE: ("vma_lock", "write"),
    Waits.INVALIDATE_READ: ("invalidate_lock", "read"),
    Waits.INVALIDATE_WRITE: ("invalidate_lock", "write"),
    Waits.FOLIO_FILE: ("folio.file", ""),
    Waits.FOLIO_ANON: ("folio.anon", ""),
    Waits.FOLIO_SWAP: ("folio.swap", ""),
    Waits.SWAP_CACHE: ("swap_cache", ""),
    Waits.FALLOC: ("falloc", ""),
    Waits.FAULT_MUTEX: ("fault_mutex", ""),
    Waits.WRITEBACK: ("writeback", ""),
    Waits.THROTTLE: ("throttle", ""),
    Waits.RECLAIM: ("reclaim", ""),
    Waits.USERFAULTFD: ("userfaultfd", ""),
}

LOCK_NAMES = {
    Locks.MMAP_READ: ("mmap_lock", "read"),
    Locks.MMAP_WRITE: ("mmap_lock", "write"),
    Locks.VMA_READ: ("vma_lock", "read"),
    Locks.VMA_WRITE: ("vma_lock", "write"),
}

ACTIVITY_NAMES: dict[int, str] = {
    **{int(Activity.OPERATIONS) + kind: kind.name.lower() for kind in OperationKind},
    **{int(activity): activity.name.lower() for activity in Activity},
}

Row = TypeVar("Row")


def blame_of(world: np.record, names: Names) -> Blame:
    """Return who waited for whom."""
    teller = _Teller(world, names)
    edges, edges_left_out = teller.edges()
    chains, chains_left_out = teller.chains()
    victims, victims_left_out = teller.victims()
    locks, locks_left_out = teller.locks()
    return Blame(
        edges,
        edges_left_out,
        chains,
        chains_left_out,
        victims,
        victims_left_out,
        locks,
        locks_left_out,
        int(world.blame.unfollowed),
    )


class _Teller:
    """Makes rows of the summary from those of the record."""

    def __init__(self, world: np.record, names: Names) -> None:
        self.blame = world.blame
        self.names = names
        self.nodes = world.blame.nodes

        is_direct = self.nodes["key"] != 0  # waits that are told by their chains alone
        is_direct[:NODES_DIRECT] = is_direct[NODES_UNKNOWN:] = False
        chains = world.blame.chains
        self.direct = chains[1:][(chains["key"][1:] != 0) & is_direct[chains["node"][1:]]]

    def edges(self) -> tuple[tuple[BlameEdge, ...], LeftOut]:
        rows = self.blame.edges
        own = np.zeros(len(self.direct), rows.dtype).view(np.recarray)
        for name in ("key", "waiter", "waits", "wait_ns", "wait_ns_max"):
            own[name] = self.direct[name]
        for name in ("kind", "holder"):
            own[name] = self.nodes[name][self.direct["node"]]
        return _longest(np.append(rows, own).view(np.recarray), self._edge, "waits")

    def chains(self) -> tuple[tuple[BlameChain, ...], LeftOut]:
        return _longest(self.blame.chains, self._chain, "waits")

    def victims(self) -> tuple[tuple[Victim, ...], LeftOut]:
        rows = self.blame.waiters.copy()
        for wait in self.direct:
            _add_direct(rows[int(wait.waiter)], wait, self.nodes[int(wait.node)])
        found = np.flatnonzero(rows["waits"])
        order = found[np.argsort(-rows["wait_ns"][found], kind="stable")]
        told = tuple(self._victim(int(number), rows[number]) for number in order[:ROWS_MAX])
        return told, _left_out(rows, order[ROWS_MAX:], "waits")

    def locks(self) -> tuple[tuple[LockInstanceRow, ...], LeftOut]:
        return _longest(self.blame.instances, self._lock, "contended")

    def _edge(self, row: Any) -> BlameEdge:
        return BlameEdge(
            self._who(row.waiter),
            *WAIT_NAMES[Waits(int(row.kind))],
            self._who(row.holder),
            int(row.waits),
            int(row.wait_ns),
            int(row.wait_ns_max),
        )

    def _chain(self, row: Any) -> BlameChain:
        links = []
        node = int(row.node)
        while node >= NODES_DIRECT:
            link = self.nodes[node]
            name = WAIT_NAMES[Waits(int(link.kind))]
            links.append(BlameLink(*name, self._who(link.holder)))
            node = int(link.tail)
        return BlameChain(
            self._who(row.waiter),
            tuple(links),
            _end(node),
            int(row.waits),
            int(row.wait_ns),
            int(row.wait_ns_max),
            int(row.aside_waits),
            int(row.aside_ns),
        )

    def _victim(self, waiter: int, row: Any) -> Victim:
        return Victim(
            self._who(waiter),
            int(row.waits),
            int(row.wait_ns),
            int(row.wait_ns_max),
            int(row.asleep_ns),
            int(row.asleep_ns_max),
            int(row.inverted_ns),
            int(row.inverted_ns_max),
            int(row.inverted_thread),
        )

    def _lock(self, row: Any) -> LockInstanceRow:
        lock, mode = LOCK_NAMES[Locks(int(row.lock))]
        return LockInstanceRow(
            lock,
            mode,
            self._instance(Locks(int(row.lock)), int(row.instance)),
            int(row.contended),
            int(row.wait_ns),
            int(row.wait_ns_max),
        )

    def _instance(self, lock: Locks, number: int) -> str:
        """Return the process of an mmap_lock, or the id of a VMA and its name, if it has one."""
        if lock in (Locks.MMAP_READ, Locks.MMAP_WRITE):
            return self.names.processes[number]
        name = self.names.vmas[number] if number < len(self.names.vmas) else ""
        return f"{number} {name}".rstrip()

    def _who(self, number: int) -> Who:
        group, activity = divmod(int(number), ACTIVITIES_MAX)
        has_group = group != NO_THREADS and activity != Activity.KSWAPD
        return Who(ACTIVITY_NAMES[activity], self.names.groups[group] if has_group else "")


def _add_direct(row: Any, wait: Any, node: Any) -> None:
    """Add waits that no thread is to blame for to what all waits were to who waited."""
    row.waits += wait.waits
    row.wait_ns += wait.wait_ns
    row.wait_ns_max = max(row.wait_ns_max, wait.wait_ns_max)
    if node.kind != Waits.USERFAULTFD:
        row.asleep_ns += wait.wait_ns
        row.asleep_ns_max = max(row.asleep_ns_max, wait.wait_ns_max)


def _end(leaf: int) -> str:
    """Return the name of where a chain ends."""
    return (Leaf(leaf) if leaf in tuple(Leaf) else Cause(leaf)).name.lower()


def _longest(
    rows: np.ndarray, tell: Callable[[Any], Row], count: str
) -> tuple[tuple[Row, ...], LeftOut]:
    """Return the rows with the longest waits; the first row is for what there was no room for."""
    found = 1 + np.flatnonzero(rows["key"][1:])
    order = found[np.argsort(-rows["wait_ns"][found], kind="stable")]
    told = tuple(tell(rows[number]) for number in order[:ROWS_MAX])
    return told, _left_out(rows, np.append(order[ROWS_MAX:], 0), count)


def _left_out(rows: np.ndarray, numbers: np.ndarray, count: str) -> LeftOut:
    left = rows[numbers]
    return LeftOut(
        int(np.count_nonzero(left[count])), int(left[count].sum()), int(left["wait_ns"].sum())
    )
