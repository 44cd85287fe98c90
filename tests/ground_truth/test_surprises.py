"""Thresholds that surprised the measurers, as tests of the mechanism.

Each claim compares runs that differ in one thing, and has its counter-case: where the effect must
not be. What was measured stands beside it; how near the model comes is for the report to tell.
"""

from dataclasses import replace
from functools import cache

import pytest

from faultlane_server.engine import Simulator
from faultlane_server.fidelity.rows import scenario_of
from faultlane_server.scenario import File, FileMapping, Scenario, Touch
from faultlane_server.scenario.tree import Loop, ThreadGroup
from faultlane_server.summary import Summary
from tests.ground_truth.a_row import a_row

LATENCY_NS = 4_000_000


def run(scenario: Scenario) -> Summary:
    simulator = Simulator(scenario)
    while not simulator.advance():
        pass
    return simulator.summary()


@cache
def ran(**columns: object) -> Summary:
    return run(scenario_of(a_row(**columns)))


def reads_per_touch(summary: Summary) -> float:
    return summary.metrics["mmap_lock.read.per_touch"]


def p50_ns(summary: Summary) -> int:
    return next(each.p50_ns for each in summary.latencies if each.name == "touch.all")


# The file's miss counter passes 100, and faults take the synchronous path, which the RFC does not
# cover. Measured: 0.0003 mmap_lock reads per touch with 80 and 96 threads, 0.064 with 112, 0.09 to
# 0.12 with 128, 0.16 to 0.20 with 256.


def in_flight(threads: int) -> Summary:
    return ran(threads=threads, device_latency_ns=LATENCY_NS, variant="rfc")


@pytest.mark.parametrize("threads", [80, 96])
def test_the_rfc_covers_up_to_a_hundred_faults_in_flight_on_a_file(threads):
    assert reads_per_touch(in_flight(threads)) == 0


def test_beyond_a_hundred_the_more_are_in_flight_the_fewer_it_covers():
    shares = [reads_per_touch(in_flight(threads)) for threads in (96, 112, 128, 256)]

    assert shares == sorted(set(shares))


def mapped_at(scenario: Scenario, address: int) -> Scenario:
    workload = scenario.workload
    [process] = workload.processes
    [vma] = process.vmas
    process = replace(process, vmas=(replace(vma, address=address),))
    return replace(scenario, workload=replace(workload, processes=(process,)))


def test_it_recovers_by_what_fault_around_finds_mapped_already():
    """Threads touch one page in each window of the file, but a window of fault-around has two."""
    row = a_row(threads=128, faults_per_thread=60, device_latency_ns=LATENCY_NS, variant="rfc")
    apart, one_in_each = (
        run(mapped_at(scenario_of(row), 0x7F00_0000_0000 + pages * 4096)) for pages in (4, 0)
    )

    assert 0 < reads_per_touch(apart) < 0.2
    assert reads_per_touch(one_in_each) > 0.9


def on_two_open_files(scenario: Scenario) -> Scenario:
    """Let half of the threads touch the same pages by another file, of the same device."""
    workload = scenario.workload
    [file], [process] = workload.files, workload.processes
    [vma], [group] = process.vmas, process.groups
    halves = [_half(group, number) for number in (0, 1)]
    vmas = [
        replace(vma, name=f"vma{number}", backing=FileMapping(f"file{number}"), address=0)
        for number in (0, 1)
    ]
    files = tuple(File(f"file{number}", file.size_bytes, file.device) for number in (0, 1))
    process = replace(process, vmas=tuple(vmas), groups=tuple(halves))
    return replace(scenario, workload=replace(workload, files=files, processes=(process,)))


def _half(group: ThreadGroup, number: int) -> ThreadGroup:
    [loop] = group.program
    assert isinstance(loop, Loop)
    steps = tuple(
        replace(step, vma=f"vma{number}") if isinstance(step, Touch) else step
        for step in loop.steps
    )
    loop = replace(loop, steps=steps)
    return ThreadGroup(f"readers{number}", group.threads // 2, (loop,))


def test_the_counter_is_that_of_one_open_file():
    row = a_row(threads=128, device_latency_ns=LATENCY_NS, variant="rfc")
    scenario = scenario_of(row)

    assert reads_per_touch(run(scenario)) > 0
    assert reads_per_touch(run(on_two_open_files(scenario))) == 0


# Measured with random-access advice: 0.95 for base and rfc, 0 for rfcx.


def test_under_random_access_advice_the_rfc_is_the_kernel_as_released():
    base, rfc = (
        ran(threads=16, readahead="advise_random", variant=variant) for variant in ("base", "rfc")
    )

    assert reads_per_touch(rfc) == reads_per_touch(base) == 1
    assert rfc.end_ns == base.end_ns


def test_there_the_rfc_covers_all_if_it_covers_the_synchronous_read():
    assert reads_per_touch(ran(threads=16, readahead="advise_random", variant="rfcx")) == 0


def test_without_the_advice_the_rfc_covers_all():
    assert reads_per_touch(ran(threads=16, variant="rfc")) == 0


# A waiting writer makes all later faults on that VMA fail over to mmap_lock, drop it, and retry
# under it: measured 0.82 to 1.00 reads, two for each of such faults.


@pytest.mark.parametrize("threads", [4, 64])
def test_hold_sends_half_of_all_faults_to_mmap_lock_if_a_writer_changes_their_vma(threads):
    summary = ran(
        scenario="S2",
        threads=threads,
        writers=2,
        writer_op="mprotect_same_vma",
        writer_think_us=200,
        variant="hold",
        device_latency_ns=LATENCY_NS,
    )
    retried = summary.metrics["faults.attempts"] - summary.metrics["faults.count"]

    assert 0.35 < retried / summary.metrics["faults.count"] < 0.65
    assert 0.8 < reads_per_touch(summary) <= 1.05


@pytest.mark.parametrize(
    ("writers", "writer_op"), [(0, ""), (2, "mmap_munmap_unrelated"), (2, "mprotect_unrelated")]
)
def test_hold_sends_no_fault_there_if_nobody_changes_its_vma(writers, writer_op):
    summary = ran(
        scenario="S2", writers=writers, writer_op=writer_op, writer_think_us=200, variant="hold"
    )

    assert reads_per_touch(summary) == 0


# 64 threads, readahead of 128 KiB, a memory cgroup of 4 MiB. Measured, major faults less first
# retries: 3103 with writers in base; below 0 without writers, and in rfc.


def thrashing(variant: str, writers: int, memcg_limit_kib: int = 4096) -> Summary:
    return ran(
        scenario="S5",
        faults_per_thread=4000,
        readahead="readahead_128k",
        memcg_limit_kib=memcg_limit_kib,
        file_pages=16384,
        writers=writers,
        writer_op="mmap_munmap_unrelated",
        writer_think_us=1000,
        variant=variant,
    )


def read_twice(summary: Summary) -> float:
    """Return which share of major faults read their page once more: it was gone before."""
    return summary.metrics["faults.reads_twice"] / summary.metrics["vmstat.pgmajfault"]


def test_pages_are_read_twice_if_faults_wait_behind_writers_while_memory_is_short():
    assert read_twice(thrashing("base", writers=2)) > 0.2


def test_who_does_not_wait_behind_writers_seldom_reads_twice():
    assert read_twice(thrashing("rfc", writers=2)) < 0.05
    assert read_twice(thrashing("hold", writers=2)) == 0
    # Interrupts that wait strike together: then a page can be gone before its reader has run.
    assert read_twice(thrashing("base", writers=0)) < 0.002


def test_where_memory_is_not_short_writers_make_nobody_read_twice():
    assert read_twice(thrashing("base", writers=2, memcg_limit_kib=128 << 10)) == 0


# Measured: 4.4 KiB a major fault under hold, 125 under base.


def kib_per_major_fault(summary: Summary) -> float:
    return 4 * summary.metrics["device.pages"] / summary.metrics["vmstat.pgmajfault"]


def test_under_pressure_hold_reads_a_page_for_each_fault_and_base_the_whole_window():
    assert kib_per_major_fault(thrashing("hold", writers=0)) < 6
    assert 100 < kib_per_major_fault(thrashing("base", writers=0)) <= 128


def test_where_memory_is_not_short_hold_reads_as_much_as_base():
    hold, base = (
        kib_per_major_fault(thrashing(variant, writers=0, memcg_limit_kib=128 << 10))
        for variant in ("hold", "base")
    )

    assert hold == pytest.approx(base, rel=0.1)


# All threads wait for one page. Measured: hold is slower by up to a quarter with many; rfcu is rfc.


def same_page(threads: int, variant: str) -> Summary:
    return ran(
        scenario="S3",
        threads=threads,
        faults_per_thread=40,
        device_latency_ns=LATENCY_NS,
        variant=variant,
    )


def test_hold_is_slower_than_base_if_many_wait_for_one_page():
    assert same_page(32, "hold").end_ns > 1.02 * same_page(32, "base").end_ns


def test_hold_is_as_fast_as_base_if_two_do():
    assert same_page(2, "hold").end_ns == pytest.approx(same_page(2, "base").end_ns, rel=0.01)


@pytest.mark.parametrize("threads", [2, 32])
def test_to_keep_the_lock_for_a_page_that_is_up_to_date_changes_nothing(threads):
    rfc, rfcu = same_page(threads, "rfc"), same_page(threads, "rfcu")

    assert rfcu.end_ns == pytest.approx(rfc.end_ns, rel=0.002)
    assert reads_per_touch(rfcu) == reads_per_touch(rfc)


# Writers that never sleep. Measured: 2200 touches a second instead of 14500, with a median of 8 to
# 28 ms in all variants.


def beside_writers(variant: str, think_us: int) -> Summary:
    return ran(
        scenario="S2",
        faults_per_thread=40,
        device_latency_ns=LATENCY_NS,
        writers=2,
        writer_op="mmap_munmap_unrelated",
        writer_think_us=think_us,
        variant=variant,
    )


@pytest.mark.parametrize("variant", ["rfc", "hold"])
def test_writers_that_never_sleep_take_the_cpu_and_no_lock_from_faults(variant):
    restless, asleep = beside_writers(variant, 0), beside_writers(variant, 1000)

    assert restless.metrics["wait.run_queue_ns"] > 1.2 * asleep.metrics["wait.run_queue_ns"]
    assert restless.metrics["wait.mmap_lock_ns"] == 0


def test_writers_that_sleep_cost_faults_less_than_a_tenth():
    alone = ran(faults_per_thread=40, device_latency_ns=LATENCY_NS, variant="rfc")

    assert beside_writers("rfc", 1000).end_ns < 1.1 * alone.end_ns


@pytest.mark.parametrize("variant", ["base", "rfc", "hold"])
def test_beside_them_a_fault_takes_twice_as_long_as_the_device(variant):
    assert p50_ns(beside_writers(variant, 0)) > 2 * LATENCY_NS
