"""What becomes of the faults of a story: as the table writes it, and as a run tells it.

What the table of the kernel model says of a fault stands here as it stands there: `V` and `M`
are attempts under the VMA lock and under mmap_lock, S, R and A the counters vma_lock_success,
retry and abort, PM is PGMAJFAULT, and mm are the acquisitions of mmap_lock for read. A cell ends
in `maj` or `min`, or in what else becomes of a fault: one with an error is `neither`, one that a
signal has ended is `interrupted`, and one that goes on `for ever` is not accounted for either.

`V→RETRY+VMA…` is an attempt that is made over and over again, and `Rn` counts each such loop
once: how often it was gone through depends on how long things take.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from faultlane_server.codes import FaultLock, VmFault
from faultlane_server.engine.world import Counter, Locks
from faultlane_server.scenario import Scenario
from tests.golden.story import Row, Run

ATTEMPT = re.compile(r"([VM])(?:\((!?TRIED)\))?→([^;\s]+)")
NUMBER = re.compile(r"(S|R|A|PM|mm)(\d+|n)")
BITS = {
    "RETRY": VmFault.RETRY,
    "LOCKED": VmFault.LOCKED,
    "NOPAGE": VmFault.NOPAGE,
    "MAJOR": VmFault.MAJOR,
    "VMA": VmFault.RETRY_VMA,
    "COMPLETED": VmFault.COMPLETED,
    "SIGBUS": VmFault.SIGBUS,
}
LOOP = "…"
ACCOUNTED = ("maj", "min", "neither")  # each of them counts PGFAULT
NOT_ACCOUNTED = ("interrupted", "for ever")


class Fault(NamedTuple):
    """What the log tells of one fault. Attempts of a loop count once."""

    account: str
    mmap_reads: int
    last: str = ""  # its last attempt, if that has ended; so with all that follows
    attempts: int = 0
    vma_retries: int = 0


class Counters(NamedTuple):
    """What is counted in a run, summed over its faults."""

    success: int
    retry: int
    abort: int
    pgmajfault: int
    major: int
    minor: int
    mmap_reads: int
    pgfault: int
    page_faults: int
    interrupted: int


class Account(NamedTuple):
    """What became of the faults of a story.

    Only of one thread every attempt is told; of the others the log tells enough.
    """

    attempts: list[str]
    faults: dict[str, list[Fault]]
    counters: Counters


def written(cells: Mapping[str, str | Sequence[str]]) -> Account:
    """Read cells of the table, of which the first is that of the thread with all its attempts.

    A thread with more than one fault has a list of cells, and so has a group of threads.
    """
    each = {name: [cell] if isinstance(cell, str) else list(cell) for name, cell in cells.items()}
    first, *others = each.values()
    attempts = [attempt for cell in first for attempt in _attempts_in(cell)]
    faults = {name: [_fault_in(cell) for cell in group] for name, group in each.items()}
    counted = [_counters_in(cell) for group in (first, *others) for cell in group]
    return Account(attempts, faults, Counters(*map(sum, zip(*counted, strict=True))))


def _attempts_in(cell: str) -> list[str]:
    return [
        f"{lock}{'(TRIED)' if tried == 'TRIED' else ''}→{result}"
        for lock, tried, result in ATTEMPT.findall(cell)
    ]


def _account_in(cell: str) -> str:
    (account,) = [word for word in (*ACCOUNTED, *NOT_ACCOUNTED) if word in cell]
    return account


def _fault_in(cell: str) -> Fault:
    attempts, account = _attempts_in(cell), _account_in(cell)
    mmap_reads = int(_numbers_in(cell)["mm"])
    if account == "for ever":
        return Fault(account, mmap_reads)
    last = attempts[-1].replace("(TRIED)", "")
    vma_retries = sum("+VMA" in attempt for attempt in attempts[:-1])
    return Fault(account, mmap_reads, last, len(attempts), vma_retries)


def _numbers_in(cell: str) -> dict[str, str]:
    return dict(NUMBER.findall(cell))


def _counters_in(cell: str) -> Counters:
    numbers, account = _numbers_in(cell), _account_in(cell)
    if numbers.get("R") == "n":
        numbers["R"] = str(sum(each.startswith("V→RETRY") for each in _attempts_in(cell)))
    return Counters(
        success=int(numbers.get("S", 0)),
        retry=int(numbers.get("R", 0)),
        abort=int(numbers.get("A", 0)),
        pgmajfault=int(numbers["PM"]),
        major=int(account == "maj"),
        minor=int(account == "min"),
        mmap_reads=int(numbers["mm"]),
        pgfault=int(account in ACCOUNTED),
        page_faults=1,
        interrupted=int(account == "interrupted"),
    )


def told(scenario: Scenario, name: str) -> Account:
    """Play a story with all attempts of one thread traced, and tell what became of its faults."""
    return account_of(Run(scenario, traced=name), name)


def account_of(run: Run, name: str) -> Account:
    """Return what became of the faults of a story that was played with a thread traced."""
    world = run.simulator.world
    traced = [_attempt(row) for row in world.traces[: int(world.trace_rows)]]
    attempts = _without_loops(traced)
    again = len(traced) - len(attempts)
    faults: dict[str, list[Fault]] = {name: []}
    for row in run.log:
        repeated = again if run.names[row["thread"]] == name else 0
        faults.setdefault(run.names[row["thread"]], []).append(_fault(row, repeated))
    counters = _counters(world.tally)
    return Account(attempts, faults, counters._replace(retry=counters.retry - again))


def _counters(tally: Any) -> Counters:
    """Return what was counted, without a summary: that takes longer than the run."""
    counted = tally.counters.tolist()
    return Counters(
        success=counted[Counter.VMA_LOCK_SUCCESS],
        retry=counted[Counter.VMA_LOCK_RETRY],
        abort=counted[Counter.VMA_LOCK_ABORT],
        pgmajfault=counted[Counter.PGMAJFAULT],
        major=counted[Counter.MAJOR],
        minor=counted[Counter.MINOR],
        mmap_reads=int(tally.locks[Locks.MMAP_READ].acquired)
        - counted[Counter.ADDRESS_SPACES_ENDED],  # which is nobody's fault
        pgfault=counted[Counter.PGFAULT],
        page_faults=counted[Counter.PERF_PAGE_FAULTS],
        interrupted=counted[Counter.INTERRUPTED],
    )


def _without_loops(traced: Sequence[str]) -> list[str]:
    """Write attempts that are made over and over again once, with a mark."""
    grouped = [(attempt, len(list(same))) for attempt, same in groupby(traced)]
    return [attempt + (LOOP if times > 1 else "") for attempt, times in grouped]


def _attempt(row: Any) -> str:
    tried = "(TRIED)" if row.tried else ""
    return f"{FaultLock(row.lock).name[0]}{tried}→{_result(int(row.result))}"


def _result(result: int) -> str:
    assert result == result & sum(BITS.values()), "a result of which the table does not tell"
    return "+".join(name for name, bit in BITS.items() if result & bit) or "0"


def _fault(row: Row, repeated: int) -> Fault:
    account = _account(row)
    if account == "for ever":
        return Fault(account, row["mmap_reads"])
    return Fault(
        account,
        row["mmap_reads"],
        f"{FaultLock(row['lock']).name[0]}→{_result(row['result'])}",
        row["attempts"] - repeated,
        row["vma_retries"] - repeated,
    )


def _account(row: Row) -> str:
    if not row["finished"]:
        return "for ever"
    if row["result"] & VmFault.RETRY:
        return "interrupted"
    if row["result"] & VmFault.SIGBUS:
        return "neither"
    return "maj" if row["major"] else "min"
