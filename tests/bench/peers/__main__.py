"""How fast other simulators are: `python -m tests.bench.peers`, with `--json` as an object.

One workload, in our engine as it is shipped and in twins that were written for nothing else: in
C++ with `std::priority_queue` and with a flat heap, and in SimPy (the extra `bench`). All write a
row for each fault and each write. First their means are compared: if they differ by more than
chance allows, the exit code is 1. Then come the speeds, from the same runs: in rounds with a seed
each, in which the simulators take turns, and in CPU time after a warm-up.

Threads think, and touch pages of their own of a file of which every other page is cached. A fault
takes its VMA's lock for read, or mmap_lock if the VMA is write-locked; lets go of it to read a page
that is not there, through the channels of a device; and tries again under mmap_lock. Four writers
take mmap_lock for write, each to change a VMA: it is write-locked once its readers have left, until
mmap_lock is released. A released mmap_lock goes to the writer that spins for it, and else to all
readers that wait. A spinning writer keeps nobody out: not from mmap_lock, not from the VMA.

The twins leave out what cannot be felt here. CPUs: there are more than threads that want one, and
switches and interrupts cost nothing. Pages: nobody shares one. Readahead: windows have one page.
The end of a writer's patience: it spins on readers for 10 us at least, and they leave within 1 or
2. Handoff after 4 ms in the line for mmap_lock: it is held for 3 us, in 6 % of the time. So only
chance is left to tell the means apart, and the twins do less for a fault than we do.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from faultlane_server.engine import is_cold, warm_up
from tests.bench.peers import ours
from tests.bench.peers.agreement import FIGURES, Comparison, compare
from tests.bench.peers.load import Batch, Load, make_load

THREADS = (100, 10_000, 50_000)
ROUNDS = 3
WARM_BATCHES = 2
SOURCE = Path(__file__).with_name("twin.cpp")
COMPILE = ("-O3", "-march=native", "-std=c++20")
OURS = "faultlane"


@dataclass(frozen=True, slots=True)
class Peer:
    """A simulator of the workload."""

    name: str
    batches: int  # in a round
    run: Callable[[Load], list[Batch]]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a peer was, beside ours."""

    threads: int
    peer: str
    faults_per_s: float  # in the median round
    ours_to_theirs: tuple[float, ...]  # of each round


Runs = dict[tuple[int, str], list[list[Batch]]]  # by threads and peer; a list for each round


@contextmanager
def peers() -> Iterator[list[Peer]]:
    """Yield ours and those twins that can be had here."""
    found = [Peer(OURS, 40, partial(run_apart, ours.run))]
    with TemporaryDirectory() as folder:
        program = str(Path(folder) / "twin")
        if shutil.which("g++") is None:
            print("no g++, so no twin in C++", file=sys.stderr)
        else:
            subprocess.run(["g++", *COMPILE, str(SOURCE), "-o", program], check=True)
            for name, queue in (("C++ priority_queue", "std"), ("C++ flat heap", "heap")):
                found.append(Peer(name, 160, partial(run_cpp, program, queue)))
        if find_spec("simpy") is None:
            print("no SimPy (the extra `bench`), so no twin in it", file=sys.stderr)
        else:
            from tests.bench.peers import twin_simpy

            found.append(Peer("SimPy", 8, partial(run_apart, twin_simpy.run)))
        yield found


def run_cpp(program: str, queue: str, load: Load) -> list[Batch]:
    command = [program, queue, *(str(value) for value in astuple(load))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in printed.splitlines()]
    return [Batch(float(cpu_s), *(int(value) for value in sums)) for cpu_s, *sums in rows]


def run_apart(run: Callable[[Load], list[Batch]], load: Load) -> list[Batch]:
    """Run in a process of its own, which nobody else has warmed up or filled."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, load).result()


def run_all(them: list[Peer]) -> Runs:
    """Run all rounds, the peers in turns."""
    runs: Runs = {(threads, peer.name): [] for threads in THREADS for peer in them}
    for seed in range(ROUNDS):
        for threads in THREADS:
            for peer in them:
                load = make_load(threads, seed, WARM_BATCHES + peer.batches)
                runs[threads, peer.name].append(peer.run(load)[WARM_BATCHES:])
    return runs


def comparisons_of(runs: Runs) -> list[Comparison]:
    pooled = {key: [batch for one in rounds for batch in one] for key, rounds in runs.items()}
    return [
        comparison
        for (threads, peer), batches in pooled.items()
        if peer != OURS
        for comparison in compare(threads, pooled[threads, OURS], peer, batches)
    ]


def speeds_of(runs: Runs) -> list[Speed]:
    speeds = []
    for (threads, peer), rounds in runs.items():
        theirs = [faults_per_s(batches) for batches in rounds]
        mine = [faults_per_s(batches) for batches in runs[threads, OURS]]
        ratios = tuple(left / right for left, right in zip(mine, theirs, strict=True))
        speeds.append(Speed(threads, peer, median(theirs), ratios))
    return speeds


def faults_per_s(batches: list[Batch]) -> float:
    return sum(batch.faults for batch in batches) / sum(batch.cpu_s for batch in batches)


def table_of_means(comparisons: list[Comparison]) -> str:
    """Return the means for people: ours, and by how many per cent each twin's are off."""
    twins = list(dict.fromkeys(row.twin for row in comparisons))
    lines = [f"{'threads':>7} {'mean':27} {OURS:>10}" + "".join(f" {twin:>24}" for twin in twins)]
    for threads in THREADS:
        for figure in FIGURES:
            row = [it for it in comparisons if (it.threads, it.figure) == (threads, figure)]
            cells = "".join(f" {_cell(comparison):>24}" for comparison in row)
            lines.append(f"{threads:7} {figure:27} {row[0].ours:10.5g}{cells}")
    return "\n".join([*lines, "In brackets by how many per cent it is off, and may be by chance."])


def _cell(row: Comparison) -> str:
    off = 100 * (row.theirs / row.ours - 1)
    return f"{row.theirs:.5g} ({off:+.1f}, {100 * row.margin / row.ours:.1f})"


def table_of_speeds(speeds: list[Speed]) -> str:
    """Return the speeds for people."""
    lines = [
        f"{'threads':>7} {'':18} {'kfaults/s':>9} {'ours to theirs':>14} {'from':>7} {'to':>7}"
    ]
    for row in speeds:
        ratios = (median(row.ours_to_theirs), min(row.ours_to_theirs), max(row.ours_to_theirs))
        lines.append(
            f"{row.threads:7} {row.peer:18} {row.faults_per_s / 1e3:9.0f}"
            f" {ratios[0]:14.3g} {ratios[1]:7.3g} {ratios[2]:7.3g}"
        )
    return "\n".join([*lines, f"Medians of {ROUNDS} rounds, of CPU time."])


def main() -> None:
    """Run all peers, compare what they mean, and then how fast they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    if is_cold():
        print("compiling, which takes some minutes", file=sys.stderr)
        warm_up()
    with peers() as them:
        if len(them) == 1:
            sys.exit("there is nobody to compare with")
        runs = run_all(them)
    comparisons, speeds = comparisons_of(runs), speeds_of(runs)
    if as_json:
        means = [{**asdict(row), "agrees": row.agrees} for row in comparisons]
        rows = [asdict(row) for row in speeds]
        print(json.dumps({"peers": {"means": means, "speeds": rows}}, indent=2))
    else:
        print(table_of_means(comparisons), table_of_speeds(speeds), sep="\n\n")
    wrong = [f"{it.twin}: {it.figure}, {it.threads} threads" for it in comparisons if not it.agrees]
    if wrong:
        sys.exit("The means do not agree, so the speeds compare nothing: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
