"""A run is decided by its scenario and by nothing else; its rows and its summary are complete."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faultlane_server.codes import (
    NOBODY,
    Access,
    FaultKind,
    OperationKind,
    Protection,
    RecordingKind,
    StopReason,
    VmFault,
)
from faultlane_server.engine import MODEL_VERSION, Simulator
from faultlane_server.engine.simulator import Columns
from faultlane_server.scenario import (
    Barrier,
    Compute,
    Device,
    Explicit,
    File,
    FileMapping,
    Fixed,
    Kernel,
    Loop,
    Machine,
    Mmap,
    Mprotect,
    Munmap,
    Process,
    Recording,
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
from tests.a_scenario import a_scenario
from tests.engine.recorded import recorded
from tests.engine.some_runs import PAGE, Run, busy_scenarios, run, run_of

pytestmark = pytest.mark.uncompiled_too

BUSY = busy_scenarios()
ROOT = Path(__file__).parent.parent.parent

FAULT_WAITS = [
    "wait_mmap_lock_ns",
    "wait_folio_ns",
    "wait_device_ns",
    "wait_run_queue_ns",
    "wait_lock_word_ns",
]
OPERATION_WAITS = [
    "wait_mmap_lock_ns",
    "wait_vma_ns",
    "wait_run_queue_ns",
    "wait_lock_word_ns",
]

DIGESTS_OF_ALL = """
import json
from tests.engine.some_runs import busy_scenarios, run
print(json.dumps({name: run(scenario).digest() for name, scenario in busy_scenarios().items()}))
"""


@pytest.fixture(scope="module")
def busy_runs() -> dict[str, Run]:
    return {name: run(scenario) for name, scenario in BUSY.items()}


def two_groups(one: tuple[Step, ...], other: tuple[Step, ...]) -> Scenario:
    """Make two threads that run a program each, and touch nothing."""
    groups = (ThreadGroup("one", 1, one), ThreadGroup("other", 1, other))
    return check(
        Scenario(
            workload=Workload(processes=(Process("app", (), groups),)),
            machine=Machine("x86", 2),
            kernel=Kernel(hz=0),
            horizon_ns=10**9,
        )
    )


def touches_of(
    access: Access, *protection: Protection, arch: str = "x86", pages: int = 4
) -> Scenario:
    """Make one thread touch every page of a file's mapping, in its order."""
    data = Vma("data", pages * PAGE, FileMapping("data"), protection=protection)
    program = (Touch("data", Sequential(), access=access, count=pages),)
    return check(
        Scenario(
            workload=Workload(
                files=(File("data", pages * PAGE, "disk"),),
                processes=(Process("app", (data,), (ThreadGroup("one", 1, program),)),),
            ),
            machine=Machine(arch, 1, devices=(Device("disk", Fixed(50_000)),)),
            kernel=Kernel(hz=0, fault_around_bytes=PAGE),
            horizon_ns=10**9,
        )
    )


# The same scenario, the same run.


def test_a_run_is_the_same_compiled_or_not(busy_runs):
    other_way = {**os.environ, "NUMBA_DISABLE_JIT": "0" if _is_uncompiled() else "1"}
    command = [sys.executable, "-c", DIGESTS_OF_ALL]

    answer = subprocess.run(
        command, cwd=ROOT, env=other_way, capture_output=True, text=True, check=True
    )

    assert json.loads(answer.stdout) == {name: r.digest() for name, r in busy_runs.items()}


def _is_uncompiled() -> bool:
    return os.environ.get("NUMBA_DISABLE_JIT") == "1"


@pytest.mark.parametrize("events", [1, 7, 1000])
@pytest.mark.parametrize("name", ["mainline on x86", "every kind of step"])
def test_a_run_is_the_same_in_slices_of_any_size(busy_runs, name, events):
    assert run(BUSY[name], events).digest() == busy_runs[name].digest()


def test_two_runs_side_by_side_are_those_that_each_would_have_been_alone(busy_runs):
    names = ["mainline on x86", "rfc on arm64"]
    simulators = [Simulator(BUSY[name]) for name in names]
    parts: list[list[tuple[Columns, Columns]]] = [[], []]
    ended = [False, False]
    while not all(ended):
        for which, simulator in enumerate(simulators):
            if not ended[which]:
                ended[which] = simulator.advance(5 + which)
                parts[which].append(simulator.take_rows())

    together = [run_of(*pair).digest() for pair in zip(simulators, parts, strict=True)]

    assert together == [busy_runs[name].digest() for name in names]


def test_another_seed_is_another_run(busy_runs):
    other = run(a_scenario(mappers=2, protectors=1, seed=8))

    assert other.summary.fingerprint != busy_runs["mainline on x86"].summary.fingerprint


@pytest.mark.parametrize("name", BUSY)
def test_a_model_version_stands_for_its_fingerprints(busy_runs, name):
    kept = recorded()
    fingerprint = f"{busy_runs[name].summary.fingerprint:#018x}"
    advice = "raise MODEL_VERSION and record anew: python -m tests.engine.recorded"

    assert kept["model_version"] == MODEL_VERSION, "record anew: python -m tests.engine.recorded"
    assert fingerprint == kept["fingerprints"].get(name), advice


# Rows and summaries are complete.


@pytest.mark.parametrize("name", BUSY)
def test_cpu_time_and_waits_add_up_to_the_duration_of_every_row(busy_runs, name):
    for rows, waits in (
        (busy_runs[name].faults, FAULT_WAITS),
        (busy_runs[name].operations, OPERATION_WAITS),
    ):
        spent_ns = rows["cpu_ns"] + sum(rows[wait] for wait in waits)

        assert np.array_equal(spent_ns, rows["duration_ns"])


@pytest.mark.parametrize("name", BUSY)
def test_rows_stand_in_the_order_in_which_they_ended(busy_runs, name):
    for rows in (busy_runs[name].faults, busy_runs[name].operations):
        ends_ns = rows["start_ns"] + rows["duration_ns"]

        assert np.all(np.diff(ends_ns.astype(np.int64)) >= 0)


@pytest.mark.parametrize("name", BUSY)
def test_the_summary_counts_what_the_rows_tell(busy_runs, name):
    told, metrics = busy_runs[name], busy_runs[name].metrics
    faults = {
        column: values[told.faults["finished"] == 1] for column, values in told.faults.items()
    }
    operations = told.operations["finished"]
    good = faults["result"] & (VmFault.SIGSEGV | VmFault.SIGBUS) == 0

    assert told.latency("fault.all").count == len(told.faults["finished"])
    assert told.latency("fault.all").mean_ns == pytest.approx(told.faults["duration_ns"].mean())
    if BUSY[name].warmup_ns == 0:
        assert metrics["faults.count"] == len(good)
        assert metrics["operations.count"] == operations.sum()
        assert metrics["perf.major_faults"] == faults["major"].sum()
        assert metrics["perf.minor_faults"] == (good & (faults["major"] == 0)).sum()
        assert metrics["faults.vma_retries"] == told.faults["vma_retries"].sum()


def test_what_has_not_ended_at_the_horizon_is_written_down_and_censored():
    stopped = run(a_scenario(latency=Fixed(10**9), mappers=1, horizon_ns=5_000_000))

    assert stopped.stop == StopReason.HORIZON
    assert stopped.summary.end_ns == 5_000_000
    assert stopped.faults["thread"].tolist() == [0, 1, 2, 3]
    assert stopped.faults["finished"].tolist() == [0] * 4
    assert np.all(stopped.faults["start_ns"] + stopped.faults["duration_ns"] == 5_000_000)
    assert np.all(stopped.faults["wait_device_ns"] > 4_500_000)
    assert stopped.latency("fault.all").censored == 4
    assert stopped.latency("fault.all").count == 4
    assert stopped.metrics["faults.count"] == 0


def test_what_has_not_ended_adds_up_wherever_the_horizon_strikes():
    for horizon_ns in range(100_000, 140_000, 1_700):
        rows = run(a_scenario(mappers=2, protectors=1, horizon_ns=horizon_ns, seed=1)).operations
        unfinished = rows["finished"] == 0

        spent_ns = rows["cpu_ns"] + sum(rows[wait] for wait in OPERATION_WAITS)
        assert np.array_equal(spent_ns, rows["duration_ns"])
        assert np.all((rows["start_ns"] + rows["duration_ns"])[unfinished] == horizon_ns)


def test_the_warm_up_counts_for_nothing_and_changes_nothing():
    warmup_ns = 800_000
    cold = run(a_scenario(mappers=2, protectors=1, seed=1))
    warm = run(a_scenario(mappers=2, protectors=1, seed=1, warmup_ns=warmup_ns))

    for all_rows, rows in ((cold.faults, warm.faults), (cold.operations, warm.operations)):
        late = all_rows["start_ns"] >= warmup_ns
        assert 0 < late.sum() < len(late)
        for column, values in all_rows.items():
            assert np.array_equal(values[late], rows[column])
    assert warm.summary.fingerprint == cold.summary.fingerprint
    assert warm.summary.measured_ns == cold.summary.end_ns - warmup_ns
    assert warm.latency("fault.all").count == len(warm.faults["thread"])
    assert warm.latency("fault.all").min_ns == warm.faults["duration_ns"].min()
    assert warm.metrics["faults.count"] < cold.metrics["faults.count"]
    assert warm.metrics["touches.count"] < cold.metrics["touches.count"]


# How runs end.


def test_a_run_is_finished_when_every_thread_but_the_daemons_has_ended():
    ended = run(two_groups((Compute(Fixed(1_000)),), (Compute(Fixed(5_000)),)))

    assert ended.stop == StopReason.FINISHED
    assert 5_000 <= ended.summary.end_ns < 20_000
    assert ended.summary.diagnosis is None


def test_daemons_alone_run_to_the_horizon():
    scenario = a_scenario(mappers=1, program=(Sleep(Fixed(1)),), readers=1, horizon_ns=1_000_000)
    assert run(scenario).stop == StopReason.FINISHED

    daemon = ThreadGroup("one", 1, (Compute(Fixed(1_000)),), daemon=True)
    alone = Scenario(
        workload=Workload(processes=(Process("app", (), (daemon,)),)),
        machine=Machine("x86", 1),
        kernel=Kernel(hz=0),
        horizon_ns=1_000_000,
    )
    still = run(check(alone))

    assert still.stop == StopReason.HORIZON
    assert still.summary.end_ns == 1_000_000


def test_a_barrier_that_never_fills_is_a_deadlock_and_says_who_waits():
    stuck = run(two_groups((Barrier("gate"), Barrier("gate")), (Barrier("gate"),)))

    assert stuck.stop == StopReason.DEADLOCK
    assert stuck.summary.end_ns < 100_000
    assert stuck.summary.diagnosis is not None
    assert stuck.summary.diagnosis.chain == ("thread 0 waits for a barrier",)


def a_marker_is_hit(attempts_max: int) -> Scenario:
    """Make one thread read into a window, and then fault on the page that carries its marker.

    mainline lets the lock go to read the next window, and has to try again though
    the page is there.
    """
    first_page, marker = 40, 48
    program = (
        Touch("data", Explicit((first_page,))),
        Sleep(Fixed(1_000_000)),
        Touch("data", Explicit((marker,))),
    )
    scenario = a_scenario(readers=1, program=program, fault_around_bytes=PAGE)
    return replace(scenario, attempts_max=attempts_max)


def test_a_fault_that_is_tried_again_and_again_without_sleeping_makes_no_progress():
    enough = run(a_marker_is_hit(attempts_max=2))
    assert enough.stop == StopReason.FINISHED
    assert enough.faults["attempts"].tolist() == [2, 2]

    stuck = run(a_marker_is_hit(attempts_max=1))

    assert stuck.stop == StopReason.NO_PROGRESS
    assert stuck.faults["finished"].tolist() == [1, 0]
    assert stuck.summary.diagnosis is not None
    assert "thread 0" in stuck.summary.diagnosis.message
    assert stuck.summary.diagnosis.chain[-1] == (
        f"last result {VmFault.RETRY:#x}, next attempt under mmap_lock for read"
    )


# What is recorded.


@pytest.fixture(scope="module")
def everything() -> Run:
    return run(a_recorded(Recording()))


def a_recorded(recording: Recording) -> Scenario:
    return a_scenario(mappers=1, readers=6, file_pages=512, recording=recording, seed=5)


def kept(rows: Columns, which: np.ndarray) -> list[bytes]:
    return [values[which].tobytes() for values in rows.values()]


def rows_of(columns: Columns) -> list[bytes]:
    return [values.tobytes() for values in columns.values()]


def test_sampled_keeps_every_nth_fault(everything):
    sampled = run(a_recorded(Recording(RecordingKind.SAMPLED, sample_every=3)))

    nth = np.arange(1, len(everything.faults["thread"]) + 1) % 3 == 0
    assert rows_of(sampled.faults) == kept(everything.faults, nth)
    assert rows_of(sampled.operations) == rows_of(everything.operations)


def test_slower_than_keeps_what_took_at_least_as_long(everything):
    bound_ns = int(np.median(everything.faults["duration_ns"]))
    slow = run(a_recorded(Recording(RecordingKind.SLOWER_THAN, slower_than_ns=bound_ns)))

    assert rows_of(slow.faults) == kept(
        everything.faults, everything.faults["duration_ns"] >= bound_ns
    )


def test_retried_keeps_what_made_more_than_one_attempt(everything):
    retried = run(a_recorded(Recording(RecordingKind.RETRIED)))

    assert rows_of(retried.faults) == kept(everything.faults, everything.faults["attempts"] > 1)
    assert 0 < len(retried.faults["thread"]) < len(everything.faults["thread"])


def test_summary_only_keeps_no_rows(everything):
    none = run(a_recorded(Recording(RecordingKind.SUMMARY_ONLY)))

    assert len(none.faults["thread"]) == len(none.operations["thread"]) == 0


@pytest.mark.parametrize("kind", RecordingKind)
def test_what_is_recorded_changes_nothing_but_the_rows(everything, kind):
    recording = Recording(kind, sample_every=2, slower_than_ns=1000)

    assert run(a_recorded(recording)).summary == everything.summary


# Faults that end in a signal.


def truncated(scenario: Scenario, pages: int) -> Scenario:
    """Cut the file of a scenario, which `check` would not have let pass."""
    (file,) = scenario.workload.files
    workload = replace(scenario.workload, files=(replace(file, size_bytes=pages * PAGE),))
    return replace(scenario, workload=workload)


def test_a_page_beyond_the_end_of_the_file_is_sigbus():
    beyond = run(truncated(touches_of(Access.READ, Protection.READ, pages=4), pages=2)).faults

    assert (beyond["result"] & VmFault.SIGBUS != 0).tolist() == [False, False, True, True]
    assert beyond["kind"].tolist() == [FaultKind.FILE_READ] * 4
    assert beyond["major"].tolist() == [1, 0, 0, 0]


def test_a_range_that_was_unmapped_is_sigsegv():
    program = (Munmap("data", PAGE, PAGE), Touch("data", Sequential(), count=3))
    holed = run(a_scenario(readers=1, program=program, file_pages=3, fault_around_bytes=PAGE))

    assert holed.faults["result"][1] == VmFault.SIGSEGV
    assert holed.faults["kind"].tolist()[1] == FaultKind.BAD_AREA
    assert holed.faults["vma"][1] == NOBODY
    assert holed.faults["attempts"][1] == 0
    assert len(holed.faults["thread"]) == 3
    assert holed.metrics["faults.sigsegv"] == 1
    assert holed.metrics["vmstat.pgfault"] == 2
    assert holed.metrics["perf.page_faults"] == 3


@pytest.mark.parametrize("arch", ["x86", "arm64"])
def test_prot_none_is_sigsegv(arch):
    program = (Mprotect("data"), Touch("data", Sequential(), count=3))
    none = run(a_scenario(readers=1, program=program, arch=arch, file_pages=3, cached=True))

    assert none.faults["result"].tolist() == [VmFault.SIGSEGV] * 3
    assert none.metrics["vmstat.vma_lock_success"] == 3
    assert none.metrics["vmstat.pgfault"] == 0


def test_x86_maps_an_absent_page_for_a_fetch_without_prot_exec_and_refuses_the_next():
    fetched = run(touches_of(Access.EXEC, Protection.READ, arch="x86", pages=1)).faults

    assert fetched["kind"].tolist() == [FaultKind.FILE_READ, FaultKind.BAD_AREA]
    assert fetched["touch"].tolist() == [0, 0], "the same access, made again after the first fault"


def test_arm64_refuses_a_fetch_without_prot_exec():
    fetched = run(touches_of(Access.EXEC, Protection.READ, arch="arm64", pages=1))

    assert fetched.faults["kind"].tolist() == [FaultKind.BAD_AREA]
    assert fetched.metrics["device.reads"] == 0


@pytest.mark.parametrize(
    ("arch", "kind"), [("x86", FaultKind.FILE_READ), ("arm64", FaultKind.BAD_AREA)]
)
def test_a_load_from_an_executable_vma_without_prot_read(arch, kind):
    loaded = run(touches_of(Access.READ, Protection.EXEC, arch=arch, pages=1))

    assert loaded.faults["kind"].tolist() == [kind]


# Operations.


def test_an_mmap_and_its_munmap_are_written_down():
    program = (Loop(2, (Mmap("new", 3 * PAGE), Munmap("new"))),)
    rows = run(a_scenario(readers=1, program=program)).operations

    assert rows["kind"].tolist() == [OperationKind.MMAP, OperationKind.MUNMAP] * 2
    assert rows["ordinal"].tolist() == [0, 1, 2, 3]
    assert rows["pages"].tolist() == [3] * 4
    assert len(set(rows["address"].tolist())) == 1
    assert np.all(rows["hold_ns"] <= rows["duration_ns"])
    assert rows["blocker"].tolist() == [NOBODY] * 4
