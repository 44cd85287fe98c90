"""Readers whom a writer lets in together are a Markov chain that can be solved exactly.

R threads think for an exponential time of mean Z, then read a page with mmap_lock held for read,
in an exponential time of mean S. One writer thinks for an exponential time of mean Zw, then holds
the lock for write for a time D. While it waits nobody else gets in; when it is done all readers
that have queued get in at once (batch service). Between two ends of writes

* nobody waits, and each reader thinks or reads, until the writer comes;
* then who reads comes to an end, and who has thought queues, until nobody reads;
* then the writer writes, and each reader that thinks queues with a chance of 1 - exp(-D / Z).

How many queue at the end of a write is a Markov chain. By the renewal reward theorem (Ross,
Introduction to Probability Models, chapter 7) the writer waits on average for as long as the second
part, and a reader for the time that readers queue over the number that read, both in one cycle.

The writer is a real-time thread: others spin for some microseconds before they queue.
"""

from functools import cache
from math import comb, exp
from typing import NamedTuple

import numpy as np
import pytest

from faultlane_server.codes import Advice, DropForIo, Protection, SchedPolicy
from faultlane_server.machines import COSTS
from faultlane_server.policy import RetryPolicy, RetryRule
from faultlane_server.scenario import (
    Device,
    Exponential,
    File,
    FileMapping,
    Kernel,
    Loop,
    Machine,
    Mprotect,
    Process,
    Scenario,
    Scheduling,
    Sequential,
    Sleep,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)
from tests.engine.some_runs import run
from tests.theory.net import agrees

RUNS = 24
PAGE = 4096
THINK_NS = 400_000
READ_NS = 100_000
WRITER_THINK_NS = 300_000
WRITE_NS = 50_000
HORIZON_NS = 24_000_000_000  # divided by the readers
QUICK = 0.03  # of the theory's value: how wide the net may be
LONG = 0.01
HOLDS_ACROSS_IO = RetryPolicy(mmap_lock_only=True, file=RetryRule(drop_for_io=DropForIo.NEVER))

READERS = [2, 8]


class Waits(NamedTuple):
    """How long the lock is waited for, on average."""

    reader_ns: float
    writer_ns: float


class Cycle(NamedTuple):
    """What is expected between two ends of writes, by how many readers get in at first."""

    drain_ns: np.ndarray  # the writer waits
    queued_ns: np.ndarray  # readers queue, added up
    reads: np.ndarray
    moves: np.ndarray  # chances of how many readers queue at the end


def waits_in_theory(readers: int, read_ns: float = READ_NS) -> Waits:
    """Average over all cycles, by how often readers get in with how many others."""
    cycle = cycle_in_theory(readers, read_ns)
    often = np.linalg.matrix_power(cycle.moves, 1 << 20)[0]
    return Waits(
        float(often @ cycle.queued_ns / (often @ cycle.reads)), float(often @ cycle.drain_ns)
    )


def cycle_in_theory(readers: int, read_ns: float) -> Cycle:
    free_ns = time_free_ns(readers, read_ns)
    found = free_ns / WRITER_THINK_NS  # by the writer: how many read when it comes
    drain_ns, queued_ns, drained = drain_in_theory(readers, read_ns)
    thinking = readers - np.arange(readers + 1)
    late = 1 - exp(-WRITE_NS / THINK_NS)
    while_written_ns = (readers - thinking) * WRITE_NS + thinking * (WRITE_NS - late * THINK_NS)
    return Cycle(
        drain_ns=found @ drain_ns,
        queued_ns=found @ (queued_ns + drained @ while_written_ns),
        reads=np.arange(readers + 1) + free_ns @ (thinking / THINK_NS),
        moves=found @ drained @ joined(readers, late),
    )


def time_free_ns(readers: int, read_ns: float) -> np.ndarray:
    """Return for how long how many read before the writer comes, by how many do at first."""
    out = np.diag(np.full(readers + 1, 1 / WRITER_THINK_NS))
    for reading in range(readers + 1):
        begin, end = (readers - reading) / THINK_NS, reading / read_ns
        out[reading, reading] += begin + end
        if reading < readers:
            out[reading, reading + 1] -= begin
        if reading > 0:
            out[reading, reading - 1] -= end
    return np.linalg.inv(out)


def drain_in_theory(readers: int, read_ns: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how long the last reads take, for how long others queue meanwhile, and how many.

    All by how many read at first; the last one as chances.
    """

    @cache
    def from_here(reading: int, queued: int) -> tuple[float, float, np.ndarray]:
        if reading == 0:
            return 0.0, 0.0, np.eye(readers + 1)[queued]
        ends, joins = reading / read_ns, (readers - reading - queued) / THINK_NS
        stay_ns = 1 / (ends + joins)
        drain_ns, queued_ns, chances = from_here(reading - 1, queued)
        parts = ends * stay_ns * np.array([drain_ns, queued_ns, *chances])
        if joins > 0:
            drain_ns, queued_ns, chances = from_here(reading, queued + 1)
            parts += joins * stay_ns * np.array([drain_ns, queued_ns, *chances])
        return stay_ns + parts[0], queued * stay_ns + parts[1], parts[2:]

    drains = [from_here(reading, 0) for reading in range(readers + 1)]
    return (
        np.array([drain_ns for drain_ns, _, _ in drains]),
        np.array([queued_ns for _, queued_ns, _ in drains]),
        np.array([chances for _, _, chances in drains]),
    )


def joined(readers: int, chance: float) -> np.ndarray:
    """Return the chances that so many queue at last, by how many do at first."""
    chances = np.zeros((readers + 1, readers + 1))
    for queued in range(readers + 1):
        others = readers - queued
        for more in range(others + 1):
            chances[queued, queued + more] = (
                comb(others, more) * chance**more * (1 - chance) ** (others - more)
            )
    return chances


def mean_waits_ns(
    readers: int, *, channels: int, read_ns: int = READ_NS, horizon_ns: int = HORIZON_NS
) -> tuple[list[float], list[float]]:
    """Simulate readers and a writer that cost nothing but what they hold the lock for."""
    means: tuple[list[float], list[float]] = ([], [])
    for seed in range(RUNS):
        ended = run(
            readers_and_a_writer(readers, channels, read_ns, horizon_ns // readers, seed=seed)
        )
        for rows, of_all in zip((ended.faults, ended.operations), means, strict=True):
            waits_ns = rows["wait_mmap_lock_ns"][rows["finished"] == 1]
            of_all.append(float(waits_ns.mean()))
    return means


def readers_and_a_writer(
    readers: int, channels: int, read_ns: int, horizon_ns: int, seed: int
) -> Scenario:
    turns = 2 * horizon_ns // THINK_NS
    length_bytes = readers * turns * PAGE
    vmas = (
        Vma("data", length_bytes, FileMapping("data"), advice=Advice.RANDOM),
        Vma("other", PAGE, FileMapping("data")),
    )
    read = (Sleep(Exponential(THINK_NS)), Touch("data", Sequential(divided=True)))
    write = (
        Sleep(Exponential(WRITER_THINK_NS)),
        Mprotect("other", protection=(Protection.READ,)),
    )
    groups = (
        ThreadGroup("readers", readers, (Loop(turns, read),)),
        ThreadGroup("writer", 1, (Loop(0, write),), True, Scheduling(SchedPolicy.FIFO, 0, 1)),
    )
    return check(
        Scenario(
            workload=Workload(
                (Process("app", vmas, groups),), (File("data", length_bytes, "disk"),)
            ),
            machine=Machine(
                "x86",
                readers + 1,
                costs_ns={**dict.fromkeys(COSTS, 0), "mprotect": WRITE_NS},
                devices=(Device("disk", Exponential(read_ns), channels),),
            ),
            kernel=Kernel(policy=HOLDS_ACROSS_IO, fault_around_bytes=PAGE),
            horizon_ns=horizon_ns,
            warmup_ns=20 * THINK_NS,
            seed=seed,
        )
    )


def agree(
    waits_ns: tuple[list[float], list[float]], theory: Waits, margin_max: float
) -> list[bool]:
    """Whether readers and the writer wait as long as theory says."""
    pairs = zip(waits_ns, theory, strict=True)
    return [agrees(of_all, in_theory, margin_max) for of_all, in_theory in pairs]


def test_a_reader_without_reads_waits_for_the_rest_of_writes_alone():
    """And those come as often as the writer has thought: then nobody is in its way.

    A reader that thinks comes to a write with a chance of 1 - exp(-D / Z), and once to each time
    Z when there is none.
    """
    waits = waits_in_theory(1, read_ns=1e-6)
    late = 1 - exp(-WRITE_NS / THINK_NS)

    assert waits.writer_ns == pytest.approx(0, abs=1e-3)
    assert waits.reader_ns == pytest.approx(
        (WRITE_NS - late * THINK_NS) / (late + WRITER_THINK_NS / THINK_NS)
    )


@pytest.mark.parametrize("readers", READERS)
def test_readers_and_a_writer_wait_as_long_as_theory_says(readers):
    waits_ns = mean_waits_ns(readers, channels=readers)

    assert agree(waits_ns, waits_in_theory(readers), QUICK) == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("readers", READERS)
def test_and_to_one_per_cent_if_there_are_many_waits(readers):
    waits_ns = mean_waits_ns(readers, channels=readers, horizon_ns=10 * HORIZON_NS)

    assert agree(waits_ns, waits_in_theory(readers), LONG) == [True, True]


@pytest.mark.parametrize("readers", READERS)
def test_the_net_catches_reads_that_take_five_per_cent_longer(readers):
    waits_ns = mean_waits_ns(readers, channels=readers, read_ns=READ_NS * 105 // 100)

    assert agree(waits_ns, waits_in_theory(readers), QUICK) == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize("readers", READERS)
def test_the_narrower_net_catches_reads_that_take_two_per_cent_longer(readers):
    waits_ns = mean_waits_ns(
        readers, channels=readers, read_ns=READ_NS * 102 // 100, horizon_ns=10 * HORIZON_NS
    )

    assert agree(waits_ns, waits_in_theory(readers), LONG) == [False, False]


def test_the_net_catches_readers_that_get_in_together_but_read_one_after_the_other():
    waits_ns = mean_waits_ns(2, channels=1)

    assert agree(waits_ns, waits_in_theory(2), QUICK) == [False, False]
