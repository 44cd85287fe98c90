"""Small scenarios at the edges, each of which once went wrong."""

import pytest

from faultlane_server.codes import Advice, PageState, Protection, StopReason
from faultlane_server.engine import Simulator
from faultlane_server.machines import COSTS
from faultlane_server.scenario import (
    Compute,
    Device,
    Explicit,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Kernel,
    Loop,
    Machine,
    Mmap,
    Mprotect,
    Munmap,
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
from faultlane_server.summary import Latency, Summary

PAGE = 4096
READ = (Protection.READ,)
EXEC = (Protection.READ, Protection.EXEC)
FREE = {**dict.fromkeys(COSTS, 0), "touch": 1}  # nothing costs anything but a touch


def a_run(
    *groups: ThreadGroup,
    vmas: tuple[Vma, ...] | None = None,
    cached: bool = False,
    cpus: int = 4,
    costs_ns: dict[str, int] | None = None,
    warmup_ns: int = 0,
    horizon_ns: int = 10**9,
) -> Simulator:
    """Run a process with a file of 64 pages mapped as `data`, to its end."""
    initial = (FileRange(PageState.CACHED),) if cached else ()
    scenario = Scenario(
        workload=Workload(
            files=(File("file", 64 * PAGE, "disk", initial),),
            processes=(Process("app", vmas or (a_vma("data"),), groups),),
        ),
        machine=Machine(
            "x86", cpus, costs_ns=costs_ns or {}, devices=(Device("disk", Fixed(100_000), 16),)
        ),
        kernel=Kernel(),
        warmup_ns=warmup_ns,
        horizon_ns=horizon_ns,
    )
    simulator = Simulator(check(scenario))
    while not simulator.advance():
        simulator.take_rows()
    return simulator


def a_vma(
    name: str, start: int = 0, pages: int = 64, address: int = 0, advice: Advice = Advice.NORMAL
) -> Vma:
    mapping = FileMapping("file", offset_bytes=start * PAGE)
    return Vma(name, pages * PAGE, mapping, address=address, advice=advice)


def one(name: str, *steps: Step) -> ThreadGroup:
    return ThreadGroup(name, 1, steps)


def touch(*pages: int, vma: str = "data") -> Touch:
    deltas = [after - before for before, after in zip((0, *pages), pages, strict=False)]
    return Touch(vma, Explicit(tuple(deltas)))


def latency(summary: Summary, name: str) -> Latency:
    return next(latency for latency in summary.latencies if latency.name == name)


@pytest.mark.parametrize("cpus", [1, 2, 3])
@pytest.mark.parametrize("hz_sleep_ns", [10_000, 300_000])
def test_spinning_writers_never_starve_the_thread_that_is_promised_the_lock(
    cpus: int, hz_sleep_ns: int
) -> None:
    map_and_unmap = (Mmap("area", PAGE), Munmap("area"), Sleep(Fixed(hz_sleep_ns)))
    writers = ThreadGroup("writers", 9, (Loop(400, map_and_unmap),))
    readers = ThreadGroup("readers", 9, (Touch("data", Sequential(divided=True), count=7),))

    simulator = a_run(writers, readers, cpus=cpus, costs_ns={"munmap_zap": 200_000})

    assert simulator.summary().stop is StopReason.FINISHED


def test_many_mappings_of_one_name_share_one_place() -> None:
    pairs = (Mmap("area", 2**30), Munmap("area")) * 66

    simulator = a_run(one("mapper", *pairs), one("reader", touch(3)), cached=True)

    assert simulator.summary().stop is StopReason.FINISHED
    assert simulator.world.folios[0].holder == 0xFFFFFFFF


def test_a_name_can_be_mapped_again_in_a_loop() -> None:
    loop = Loop(10, (Munmap("area"), Mmap("area", PAGE)))

    simulator = a_run(one("mapper", Mmap("area", 2 * PAGE), loop, Munmap("area")))

    assert simulator.summary().metrics["operations.count"] == 22


def test_neighbours_can_merge_in_whatever_order_they_were_declared() -> None:
    low, high = 2**40, 2**40 + 8 * PAGE
    vmas = (a_vma("high", 8, 8, high), a_vma("low", 0, 8, low))
    change = Mprotect("low", length_bytes=8 * PAGE, protection=EXEC)
    merge = Mprotect("high", length_bytes=8 * PAGE, protection=EXEC)
    touches = (touch(1, 2, vma="low"), touch(1, 2, vma="high"))

    simulator = a_run(one("thread", change, merge, *touches), vmas=vmas, cached=True)

    assert simulator.world.mms[0].order_count == 1, "they merged"
    assert simulator.summary().metrics["faults.count"] == 1, "fault-around mapped all"


def test_mprotect_ends_at_a_hole() -> None:
    low, high = 2**40, 2**40 + 16 * PAGE
    vmas = (a_vma("low", 0, 16, low), a_vma("high", 16, 16, high))
    hole = Munmap("low", offset_bytes=8 * PAGE, length_bytes=4 * PAGE)
    across = Mprotect("low", length_bytes=16 * PAGE, protection=EXEC)

    simulator = a_run(one("thread", hole, across), vmas=vmas)

    order = simulator.world.vma_order[:3]
    execs = [bool(simulator.world.vmas[slot].protection & 1 << Protection.EXEC) for slot in order]
    assert execs == [True, False, False]


@pytest.mark.parametrize(
    "steps",
    [(Munmap("data"),), (Touch("data", Sequential(), count=2),)],
    ids=["a munmap of nothing", "a touch of nothing"],
)
def test_what_finds_nothing_costs_time_all_the_same(steps: tuple[Step, ...]) -> None:
    group = one("thread", Munmap("data"), Loop(0, steps))

    simulator = a_run(group, costs_ns={**FREE, "munmap": 10}, horizon_ns=10_000)

    assert simulator.summary().stop is StopReason.HORIZON


def test_a_warm_up_without_an_event_behind_it_counts_for_nothing() -> None:
    group = one("thread", touch(1, 20, 40), Sleep(Fixed(10**10)))

    simulator = a_run(group, warmup_ns=10**8)

    assert simulator.summary().metrics["faults.count"] == 0
    assert simulator.summary().metrics["touches.count"] == 0
    assert simulator.summary().latencies == ()


def test_waiting_for_another_faults_read_of_one_page_is_waiting_for_the_device() -> None:
    vmas = (a_vma("data", advice=Advice.RANDOM),)
    first = one("first", touch(9))
    second = one("second", Compute(Fixed(500)), touch(9))

    metrics = a_run(first, second, vmas=vmas).summary().metrics

    assert metrics["wait.device_ns"] > 190_000
    assert metrics["wait.folio_ns"] < 10_000


def test_a_sleep_pays_for_its_own_system_call() -> None:
    awake = a_run(one("thread", touch(5)), cached=True, costs_ns={"syscall": 50_000})
    slept = a_run(
        one("thread", Sleep(Fixed(100)), touch(5)), cached=True, costs_ns={"syscall": 50_000}
    )

    fault = latency(awake.summary(), "fault.all")
    assert latency(slept.summary(), "fault.all").max_ns == fault.max_ns


def test_a_fault_that_is_cut_while_it_reads_counts_as_major() -> None:
    simulator = a_run(one("thread", touch(5)), horizon_ns=50_000)

    assert latency(simulator.summary(), "fault.file_read.major").censored == 1
