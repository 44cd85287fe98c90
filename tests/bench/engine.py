"""How fast the engine is: `python -m tests.bench.engine` prints a table, `--json` an object.

Every case runs in a process of its own, with recording on, for some seconds. Threads on 64 CPUs
touch pages of their own, one after the other, beside four threads that map and unmap. Nothing is
mapped around a fault, so each first touch of a page is one. Two more cases are short of memory:
20 000 threads touch random pages of 10 000 VMAs, 4 million pages in all, of which a memory cgroup
can have a quarter; a file, and anonymous memory that is swapped to zram. How many pages were
reclaimed is shown as well: a case that never comes to its limit would tell nothing of it.
"""

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

from faultlane_server.codes import Access, DeviceKind, PageState, Protection
from faultlane_server.engine import Simulator, is_cold, warm_up
from faultlane_server.engine.world import Counter
from faultlane_server.scenario import (
    AnonymousMapping,
    Device,
    Exponential,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Kernel,
    Loop,
    Machine,
    Memcg,
    Mmap,
    Munmap,
    Process,
    Scenario,
    Sequential,
    Sleep,
    Step,
    Swap,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    check,
)

PAGE = 4096
PAGES = 3 * 2**20  # of each of the two files
SECONDS = 4.0
THREADS = (100, 10_000, 50_000)
# By name: which files a round touches, and the readahead window in pages.
WORKLOADS = {
    "minor": (("hot",), 1),
    "mixed": (("hot", "cold"), 1),
    "mixed, 32 pages": (("hot", "cold"), 32),
}


VMAS = 10_000
VMA_PAGES = 400
LIMITED_THREADS = 2 * VMAS
REST_NS = 50_000  # after some touches: those that no device makes sleep let others run as well
LIMITED = {"file, limited": False, "swap, limited": True}  # by name: whether it is anonymous


@dataclass(frozen=True, slots=True)
class Figures:
    """What one case has shown."""

    workload: str
    threads: int
    faults: int
    faults_per_s: float
    events_per_fault: float
    events_per_s: float
    load_s: float  # importing is not in it
    compile_s: float  # from the scenario to the record
    memory_mib: float
    reclaimed: int  # pages


def scenario(files: tuple[str, ...], readahead_pages: int, threads: int) -> Scenario:
    """Make readers that touch a page of each file in turn."""
    touches = tuple(Touch(file, Sequential(divided=True)) for file in files)
    pair: tuple[Step, ...] = (Mmap("new", PAGE), Munmap("new"), Sleep(Fixed(50_000)))
    states = {"hot": PageState.CACHED, "cold": PageState.ABSENT}
    disk = Device("disk", Exponential(80_000), channels=64, readahead_bytes=readahead_pages * PAGE)
    return check(
        Scenario(
            workload=Workload(
                files=tuple(
                    File(file, PAGES * PAGE, "disk", (FileRange(states[file]),)) for file in files
                ),
                processes=(
                    Process(
                        "app",
                        tuple(Vma(file, PAGES * PAGE, FileMapping(file)) for file in files),
                        (
                            ThreadGroup("readers", threads, (Loop(PAGES // threads, touches),)),
                            ThreadGroup("mappers", 4, (Loop(0, pair),), daemon=True),
                        ),
                    ),
                ),
            ),
            machine=Machine("x86", 64, devices=(disk,)),
            kernel=Kernel(hz=0, fault_around_bytes=PAGE),
            horizon_ns=10**15,
        )
    )


def limited_scenario(*, anonymous: bool) -> Scenario:
    """Make readers, or writers of anonymous memory, that have a quarter of their pages."""
    length_bytes = VMA_PAGES * PAGE
    access = Access.WRITE if anonymous else Access.READ
    vmas, groups = [], []
    for number in range(VMAS):
        file = FileMapping("file", number * length_bytes)
        backing = AnonymousMapping() if anonymous else file
        vmas.append(
            Vma(f"vma{number}", length_bytes, backing, 0, (Protection.READ, Protection.WRITE))
        )
        touches = Touch(f"vma{number}", Uniform(), access, count=10)
        rounds = Loop(0, (touches, Sleep(Fixed(REST_NS))))
        groups.append(ThreadGroup(f"group{number}", LIMITED_THREADS // VMAS, (rounds,)))
    disk = Device("disk", Exponential(80_000), channels=64, readahead_bytes=PAGE)
    zram = Device("zram", Fixed(3000), kind=DeviceKind.SYNCHRONOUS)
    limit = Memcg("limited", max_bytes=VMAS * length_bytes // 4)
    return check(
        Scenario(
            workload=Workload(
                (Process("app", tuple(vmas), tuple(groups), "limited"),),
                () if anonymous else (File("file", VMAS * length_bytes, "disk"),),
                (limit,),
            ),
            machine=Machine(
                "x86", 64, devices=(disk, zram), swap=Swap("zram", VMAS * length_bytes)
            ),
            kernel=Kernel(hz=0, fault_around_bytes=PAGE, page_cluster=0),
            horizon_ns=10**15,
        )
    )


def scenario_of(workload: str, threads: int) -> Scenario:
    if workload in LIMITED:
        return limited_scenario(anonymous=LIMITED[workload])
    return scenario(*WORKLOADS[workload], threads)


def measure(workload: str, threads: int) -> Figures:
    """Run one case for some seconds of CPU, as a server does: in slices, taking the rows."""
    began = time.process_time()
    warm_up()
    loaded = time.process_time()
    simulator = Simulator(scenario_of(workload, threads))
    started = time.process_time()
    while time.process_time() - started < SECONDS and not simulator.advance():
        simulator.take_rows()
    took_s = time.process_time() - started
    events = int(simulator.world.events)
    return Figures(
        workload=workload,
        threads=threads,
        faults=simulator.faults,
        faults_per_s=simulator.faults / took_s,
        events_per_fault=events / simulator.faults,
        events_per_s=events / took_s,
        load_s=loaded - began,
        compile_s=started - loaded,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        reclaimed=int(simulator.world.tally.counters[Counter.PGSTEAL_DIRECT]),
    )


def measure_apart(workload: str, threads: int) -> Figures:
    """Run one case in a process of its own: its memory is then its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, workload, threads).result()


def table(all_figures: list[Figures]) -> str:
    """Return the figures for people."""
    lines = [
        f"{'workload':16} {'threads':>7} {'kfaults/s':>10} {'Mevents/s':>10} {'events/fault':>13}"
        f" {'load s':>7} {'compile s':>10} {'MiB':>6} {'reclaimed':>10}"
    ]
    for row in all_figures:
        lines.append(
            f"{row.workload:16} {row.threads:7} {row.faults_per_s / 1e3:10.0f}"
            f" {row.events_per_s / 1e6:10.2f} {row.events_per_fault:13.1f}"
            f" {row.load_s:7.2f} {row.compile_s:10.2f} {row.memory_mib:6.0f} {row.reclaimed:10}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    if is_cold():
        print("compiling, which takes some minutes", file=sys.stderr)
        warm_up()
    cases = [(workload, threads) for workload in WORKLOADS for threads in THREADS]
    cases += [(workload, LIMITED_THREADS) for workload in LIMITED]
    all_figures = [measure_apart(workload, threads) for workload, threads in cases]
    if as_json:
        print(json.dumps({"engine": [asdict(row) for row in all_figures]}, indent=2))
    else:
        print(table(all_figures))


if __name__ == "__main__":
    main()
