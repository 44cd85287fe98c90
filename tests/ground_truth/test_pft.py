"""The profile `pft-server` predicts the published pft table as well, and as badly, as it says.

Two of the forty figures are fitted, and thirty-eight are predictions (`machines/pft_server.py` has
which, and the source). The table with all gaps is printed with -rP.
"""

from functools import cache
from typing import NamedTuple

import pytest

from faultlane_server.codes import Access, Protection
from faultlane_server.scenario import (
    AnonymousMapping,
    Kernel,
    Machine,
    Process,
    Scenario,
    Sequential,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)
from tests.engine.some_runs import run

PAGE = 4096
FAULTS = 200  # of each thread
THREADS = (1, 4, 7, 12, 21, 30, 48, 79, 110, 128)


class Column(NamedTuple):
    """A column of the table."""

    generation: str
    one_vma: bool


ONE = Column("6.3", one_vma=True)
ONE_LOCKED = Column("6.4", one_vma=True)
MANY = Column("6.3", one_vma=False)
MANY_LOCKED = Column("6.4", one_vma=False)

# Millions of faults a second, as published.
PUBLISHED: dict[Column, tuple[float, ...]] = {
    ONE: (0.899, 2.966, 4.145, 4.970, 5.814, 6.154, 6.198, 6.167, 6.265, 6.461),
    ONE_LOCKED: (0.894, 2.684, 3.892, 4.830, 5.941, 6.489, 7.216, 7.426, 7.813, 7.876),
    MANY: (0.905, 2.994, 4.177, 4.893, 5.824, 6.247, 6.275, 6.187, 6.455, 6.473),
    MANY_LOCKED: (0.887, 3.154, 4.933, 6.055, 7.638, 8.598, 9.467, 11.919, 15.050, 16.647),
}
FITTED = [(ONE, 1), (ONE, 128)]


@cache
def faults_per_us(column: Column, threads: int) -> float:
    """Simulate threads that each write to pages of their own, once to each."""

    def vma(name: str, pages: int) -> Vma:
        both = (Protection.READ, Protection.WRITE)
        return Vma(name, pages * PAGE, AnonymousMapping(), protection=both)

    def group(name: str, its_threads: int, vma: str) -> ThreadGroup:
        touch = Touch(vma, Sequential(divided=True), Access.WRITE, FAULTS)
        return ThreadGroup(name, its_threads, (touch,))

    names = ["all"] if column.one_vma else [f"of{number}" for number in range(threads)]
    each = threads // len(names)
    vmas = tuple(vma(name, each * FAULTS) for name in names)
    groups = tuple(group(name, each, name) for name in names)
    ended = run(
        check(
            Scenario(
                Workload((Process("pft", vmas, groups),)),
                Machine("x86", cpus=128, profile="pft-server"),
                Kernel(column.generation),
                horizon_ns=10**12,
            )
        )
    ).faults
    assert len(ended["finished"]) == threads * FAULTS
    return threads * FAULTS * 1000 / int((ended["start_ns"] + ended["duration_ns"]).max())


def gap(column: Column, threads: int) -> float:
    """How much more than what was published is predicted, as a part of it."""
    return faults_per_us(column, threads) / PUBLISHED[column][THREADS.index(threads)] - 1


def gaps(column: Column, least: int, most: int = 128) -> list[float]:
    """The gaps of the predictions in a column, by how many threads there are."""
    chosen = [threads for threads in THREADS if least <= threads <= most]
    return [gap(column, each) for each in chosen if (column, each) not in FITTED]


def test_the_table_of_all_gaps():
    heads = ["one VMA, 6.3", "one VMA, 6.4", "VMA each, 6.3", "VMA each, 6.4"]
    print("threads", *(f"{head:>24}" for head in heads))
    for threads in THREADS:
        cells = []
        for column, published in PUBLISHED.items():
            rate, real = faults_per_us(column, threads), published[THREADS.index(threads)]
            fitted = "*" if (column, threads) in FITTED else " "
            cells.append(f"{rate:8.3f} {real:7.3f} {100 * (rate / real - 1):+6.1f}%{fitted}")
        print(f"{threads:7}", *cells)
    print("simulated, published, gap; in millions of faults a second; * fitted")

    assert len(FITTED) == 2


@pytest.mark.parametrize(("column", "threads"), FITTED)
def test_what_is_fitted_fits(column, threads):
    assert abs(gap(column, threads)) < 0.03


@pytest.mark.parametrize("column", PUBLISHED)
def test_a_thread_alone_is_as_quick_as_it_was(column):
    assert all(abs(each) < 0.03 for each in gaps(column, 1, 1))


@pytest.mark.parametrize("column", [ONE, MANY])
def test_where_mmap_lock_is_saturated_its_word_is_what_counts_however_many_vmas(column):
    assert all(0 <= each < 0.12 for each in gaps(column, 21))


@pytest.mark.parametrize("column", [ONE, MANY])
def test_around_the_knee_the_model_is_too_fast_since_it_saturates_at_once(column):
    assert all(0.05 < each < 0.35 for each in gaps(column, 4, 12))


def test_the_word_of_a_hot_vma_was_quicker_than_that_of_mmap_lock_and_is_not_in_the_model():
    assert all(-0.20 < each < 0.01 for each in gaps(ONE_LOCKED, 30))


def test_that_a_finer_lock_loses_at_first_does_not_come_out():
    """It was slower by 9.5 per cent with 4 threads; per-VMA locks cost too little in the model."""
    assert PUBLISHED[ONE_LOCKED][1] < 0.91 * PUBLISHED[ONE][1]
    assert faults_per_us(ONE_LOCKED, 4) > faults_per_us(ONE, 4)


def test_threads_that_share_no_lock_share_nothing_in_the_model_and_go_on_too_far():
    """More than twice as far with 21 threads, more than six times with 128."""
    assert gaps(MANY_LOCKED, 21, 21)[0] > 1
    assert gaps(MANY_LOCKED, 128)[0] > 5


def test_per_vma_locks_help_more_in_many_vmas_than_in_one_as_they_did():
    for threads in (21, 128):
        one = faults_per_us(ONE_LOCKED, threads) / faults_per_us(ONE, threads)
        many = faults_per_us(MANY_LOCKED, threads) / faults_per_us(MANY, threads)
        assert many > one
