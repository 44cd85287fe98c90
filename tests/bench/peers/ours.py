"""The workload in the engine as it is shipped, in slices and with its logs, as a server runs it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from faultlane_server.codes import PageState, Protection
from faultlane_server.engine import Simulator, warm_up
from faultlane_server.machines import COSTS
from faultlane_server.scenario import (
    Device,
    Exponential,
    File,
    FileMapping,
    FileRange,
    Kernel,
    Loop,
    Machine,
    Mprotect,
    Process,
    Scenario,
    Sequential,
    Sleep,
    Step,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)
from tests.bench.peers.load import WRITERS, Batch, Load

PAGE = 4096
VMA_PAGES = 2**20
VMA_BYTES = VMA_PAGES * PAGE
SLICE_EVENTS = 20_000  # a number of its own: what is simulated does not depend on the clock


def run(load: Load) -> list[Batch]:
    warm_up()
    return list(islice(_batches(scenario(load), load.batch_faults), load.batches))


def scenario(load: Load) -> Scenario:
    """Make the readers' and writers' scenario; what the twins do not know costs nothing.

    A writer splits the first page off its VMA and joins it again; no reader touches that page.
    """
    costs = {"handle": load.find_ns, "map_page": load.map_ns, "mprotect": load.write_ns}
    groups = [_readers(load, part) for part in range(WRITERS)]
    groups += [_writer(load, part) for part in range(WRITERS)]
    vmas = (
        Vma(f"part-{part}", VMA_BYTES, FileMapping("data", part * VMA_BYTES))
        for part in range(WRITERS)
    )
    half = (FileRange(PageState.CACHED, every_pages=2),)
    return check(
        Scenario(
            workload=Workload(
                files=(File("data", WRITERS * VMA_BYTES, "disk", half),),
                processes=(Process("app", tuple(vmas), tuple(groups)),),
            ),
            machine=Machine(
                "x86",
                cpus=64,
                costs_ns=dict.fromkeys(COSTS, 0) | costs,
                devices=(
                    Device("disk", Exponential(load.read_ns), load.channels, readahead_bytes=PAGE),
                ),
            ),
            kernel=Kernel("6.12", "mainline", hz=0, fault_around_bytes=PAGE),
            horizon_ns=10**15,
            seed=load.seed,
        )
    )


def _readers(load: Load, part: int) -> ThreadGroup:
    """Make readers that fault with every touch, in turn on a page that is cached and on one not."""
    touch = Touch(f"part-{part}", Sequential(divided=True), offset_bytes=PAGE)
    threads = load.threads // WRITERS
    turns = Loop((VMA_PAGES - 1) // threads, (Sleep(Exponential(load.think_ns)), touch))
    return ThreadGroup(f"readers-{part}", threads, (turns,))


def _writer(load: Load, part: int) -> ThreadGroup:
    pause = Sleep(Exponential(load.pause_ns))
    steps: list[Step] = []
    for protection in ((Protection.READ, Protection.WRITE), (Protection.READ,)):
        steps += [pause, Mprotect(f"part-{part}", 0, PAGE, protection)]
    return ThreadGroup(f"writer-{part}", 1, (Loop(0, tuple(steps)),))


def _batches(scenario: Scenario, batch_faults: int) -> Iterator[Batch]:
    simulator = Simulator(scenario)
    while True:
        slices: list[Batch] = []
        while sum(part.faults for part in slices) < batch_faults:
            slices.append(_slice(simulator))
        yield Batch(*map(sum, zip(*map(astuple, slices), strict=True)))


def _slice(simulator: Simulator) -> Batch:
    """Go on for a slice and take its rows; adding them up is not in the time."""
    began_ns = simulator.now_ns
    began = time.process_time()
    has_ended = simulator.advance(SLICE_EVENTS)
    faults, writes = simulator.take_rows()
    cpu_s = time.process_time() - began
    assert not has_ended, "there are pages left that nobody has touched"
    sums, write_sums = _sums(faults), _sums(writes)
    elsewhere_ns = sums["wait_run_queue_ns"] + sums["wait_folio_ns"] + sums["wait_lock_word_ns"]
    assert elsewhere_ns == 0, "faults wait for what the twins know, and for nothing else"
    return Batch(
        cpu_s=cpu_s,
        simulated_ns=simulator.now_ns - began_ns,
        faults=len(faults["thread"]),
        fault_ns=sums["duration_ns"],
        device_ns=sums["wait_device_ns"],
        mmap_wait_ns=sums["wait_mmap_lock_ns"],
        mmap_reads=sums["mmap_reads"],
        vma_failures=sums["mmap_reads"] - sums["reads"],
        writes=len(writes["thread"]),
        write_wait_ns=write_sums["wait_mmap_lock_ns"],
        drain_ns=write_sums["wait_vma_ns"],
    )


def _sums(columns: Mapping[str, NDArray[np.unsignedinteger]]) -> dict[str, int]:
    return {name: int(column.sum()) for name, column in columns.items()}
