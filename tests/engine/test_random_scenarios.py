"""What holds in every run, whatever is asked for: held against scenarios made by dice."""

import json
import os
import subprocess
import sys
from math import inf
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from faultlane_server.codes import FaultClass, RelockAndMap, RetryReason, StopReason, VmFault
from faultlane_server.engine import Simulator
from faultlane_server.engine.simulator import BrokenInvariant, Columns
from faultlane_server.engine.world import ThreadState
from faultlane_server.kernels import KERNELS
from faultlane_server.policy import POLICIES, RetryPolicy, RetryRule
from faultlane_server.scenario import (
    Barrier,
    Loop,
    Measure,
    Process,
    Scenario,
    Step,
    UserfaultfdClose,
    UserfaultfdModes,
    UserfaultfdRegister,
)
from tests.engine.random_scenarios import a_random_scenario
from tests.engine.recount import assert_recounted
from tests.engine.recount_blame import assert_blame_adds_up, summary_adds_up
from tests.engine.reduced import reduced, write_scenario
from tests.engine.some_runs import Run, run_of

ROOT = Path(__file__).parent.parent.parent
IS_UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
SEEDS = range(10 if IS_UNCOMPILED else 150)
SEEDS_SLOW = range(1000, 6000)
EVENTS_MAX = 100_000
SLICED_EVENTS_MAX = 20_000
SHORT_EVENTS_MAX = 500
RECOUNTS = 20
NO_TIME = np.uint64(2**63)  # durations are below it

BROKEN = (AssertionError, BrokenInvariant)
BUSY_REASONS = {
    RetryReason.NO_MAP_PAGES,
    RetryReason.ANON_VMA,
    RetryReason.UNSUPPORTED,
    RetryReason.DEVICE_PRIVATE,
}
ERROR = VmFault.OOM | VmFault.SIGBUS | VmFault.SIGSEGV

FINGERPRINTS = """
import json, sys
from tests.engine.random_scenarios import a_random_scenario
from tests.engine.some_runs import run
seeds = json.loads(sys.argv[1])
print(json.dumps([run(a_random_scenario(seed)).summary.fingerprint for seed in seeds]))
"""


def play(scenario: Scenario, events: int, recounts: int = 0) -> tuple[Simulator, Run | None]:
    """Run a scenario, so many events at a time; None if that takes too many.

    After the first slices, and at the end, what was counted is counted again.
    """
    simulator = Simulator(scenario)
    parts = []
    while not simulator.advance(events):
        parts.append(simulator.take_rows())
        if len(parts) <= recounts:
            assert_recounted(simulator.world)
        if simulator.world.events > EVENTS_MAX:
            return simulator, None
    parts.append(simulator.take_rows())
    assert_recounted(simulator.world)
    return simulator, run_of(simulator, parts)


def assert_sound(seed: int) -> None:
    """Assert of one scenario what holds for all; a smaller one that breaks it is kept as a file."""
    scenario = a_random_scenario(seed)
    try:
        _assert_sound(scenario, seed)
    except BROKEN as broken:
        path = Path(mkdtemp(prefix="faultlane-")) / f"seed-{seed}.json"
        write_scenario(reduced(scenario, lambda smaller: _is_broken(smaller, seed)), path)
        raise AssertionError(f"{broken}: faultlane run {path}") from broken


def _is_broken(scenario: Scenario, seed: int) -> bool:
    try:
        _assert_sound(scenario, seed)
    except BROKEN:
        return True
    return False


def _assert_sound(scenario: Scenario, seed: int) -> None:
    simulator, whole = play(scenario, 4096)
    if whole is None:
        return
    assert_ended_as_it_may(scenario, whole)
    assert_rows_add_up(whole)
    assert_counters_agree(scenario, simulator, whole)
    assert_blame_adds_up(simulator.world, whole.faults, whole.operations)
    assert summary_adds_up(whole.summary), "and so does what is told of it"
    if simulator.world.events < SLICED_EVENTS_MAX:
        _, sliced = play(scenario, 1 + seed % 100, RECOUNTS)
        assert sliced is not None
        assert sliced.digest() == whole.digest(), "slices change nothing"


# How a run may end.


def assert_ended_as_it_may(scenario: Scenario, ended: Run) -> None:
    """Assert that only what can be stuck is stuck."""
    if ended.stop == StopReason.DEADLOCK:
        assert may_deadlock(scenario), ended.summary.diagnosis
    if ended.stop == StopReason.NO_PROGRESS:
        assert may_be_busy_for_ever(scenario), ended.summary.diagnosis
    if ended.stop == StopReason.HORIZON:
        assert ended.summary.end_ns == scenario.horizon_ns
    assert ended.summary.end_ns <= scenario.horizon_ns


def columns(scenario: Scenario) -> RetryPolicy:
    policy = scenario.kernel.policy
    return POLICIES[policy].columns if isinstance(policy, str) else policy


def may_be_busy_for_ever(scenario: Scenario) -> bool:
    """Whether the policy goes back to the VMA lock without end where nobody sleeps.

    Who is told that a userfaultfd is being closed does not sleep until that is done.
    """
    if _asks_for(scenario, UserfaultfdClose):
        return True
    policy = columns(scenario)
    return any(_may_be_busy(getattr(policy, each.name.lower())) for each in FaultClass)


def _may_be_busy(rule: RetryRule) -> bool:
    if rule.vma_retries_max > 0:
        return False
    reasons = set(rule.vma_lock_on)
    pg_reclaim = RetryReason.F7 in reasons and not rule.vma_retry_sets_tried
    return pg_reclaim or bool(reasons & BUSY_REASONS)


def may_deadlock(scenario: Scenario) -> bool:
    """Whether the policy deadlocks, or a program waits at a barrier for who does not come.

    Or whether a userfaultfd is told of faults that nobody may resolve.
    """
    vmas = [vma for process in scenario.workload.processes for vma in process.vmas]
    if any(vma.userfaultfd != UserfaultfdModes() for vma in vmas):
        return True
    if _asks_for(scenario, UserfaultfdRegister):
        return True
    policy = columns(scenario)
    if RelockAndMap.BLOCKING in (policy.file.relock_and_map, policy.shmem.relock_and_map):
        return True
    return any(_is_uneven(process) for process in scenario.workload.processes)


def _asks_for(scenario: Scenario, kind: type) -> bool:
    """Whether a program has a step of some kind."""
    groups = [group for process in scenario.workload.processes for group in process.groups]
    return any(_has(group.program, kind) for group in groups)


def _has(steps: tuple[Step, ...], kind: type) -> bool:
    return any(
        isinstance(step, kind) or (isinstance(step, Loop | Measure) and _has(step.steps, kind))
        for step in steps
    )


def _is_uneven(process: Process) -> bool:
    visits = {_visits(group.program) for group in process.groups}
    return len(visits - {0}) > 1


def _visits(steps: tuple[Step, ...]) -> float:
    """Return how often a thread comes to the barrier."""
    return sum(_visits_of(step) for step in steps)


def _visits_of(step: Step) -> float:
    if isinstance(step, Barrier):
        return 1
    if isinstance(step, Loop):
        inner = _visits(step.steps)
        return inner * (step.count or inf) if inner else 0
    return _visits(step.steps) if isinstance(step, Measure) else 0


# What rows and counters tell.


def assert_rows_add_up(ended: Run) -> None:
    """Assert that each row's causes and CPU time add up, and that it ends with the run."""
    for rows in (ended.faults, ended.operations):
        waits = [rows[name] for name in rows if name.startswith("wait_")]
        assert (rows["duration_ns"] < NO_TIME).all(), "no duration is negative"
        assert all((wait < NO_TIME).all() for wait in (*waits, rows["cpu_ns"])), "nor any wait"
        assert np.array_equal(sum(waits) + rows["cpu_ns"], rows["duration_ns"])
        ends_ns = rows["start_ns"] + rows["duration_ns"]
        unfinished = rows["finished"] == 0
        assert (ends_ns <= ended.summary.end_ns).all()
        assert (ends_ns[unfinished] == ended.summary.end_ns).all()
        assert (np.diff(ends_ns[~unfinished].astype(np.int64)) >= 0).all()


def assert_counters_agree(scenario: Scenario, simulator: Simulator, ended: Run) -> None:
    """Assert that every fault is counted as what it was, and once."""
    if scenario.warmup_ns > 0:
        return
    metrics, kernel = ended.metrics, KERNELS[scenario.kernel.generation]
    faults = finished(ended.faults)
    accounted = metrics["perf.minor_faults"] + metrics["perf.major_faults"]
    accounted += metrics["faults.sigbus"] + metrics["faults.oom"]
    if not kernel.pgfault_per_attempt:
        assert metrics["vmstat.pgfault"] == accounted
    assert metrics["faults.count"] == len(faults["thread"])
    assert metrics["operations.count"] == ended.operations["finished"].sum()
    if all_have_ended(simulator):
        assert_counted_once(simulator, ended)
        if kernel.pgfault_per_attempt:
            retried = (faults["result"] & VmFault.RETRY != 0).sum()
            assert metrics["vmstat.pgfault"] >= accounted + retried


def assert_counted_once(simulator: Simulator, ended: Run) -> None:
    """Assert of a run whose threads have all ended that its rows are its counters."""
    metrics, faults = ended.metrics, ended.faults
    result = faults["result"]
    interrupted = result & VmFault.RETRY != 0
    assert metrics["perf.page_faults"] == len(result)
    assert metrics["faults.interrupted"] == interrupted.sum()
    assert metrics["faults.sigsegv"] == (result & VmFault.SIGSEGV != 0).sum()
    assert metrics["faults.sigbus"] == (result & VmFault.SIGBUS != 0).sum()
    assert metrics["faults.completed"] == (result & VmFault.COMPLETED != 0).sum()
    assert metrics["faults.attempts"] == faults["attempts"].sum()
    assert metrics["faults.vma_retries"] == faults["vma_retries"].sum()
    assert metrics["perf.major_faults"] == faults["major"].sum()
    good = (result & ERROR == 0) & ~interrupted
    assert metrics["perf.minor_faults"] == (good & (faults["major"] == 0)).sum()
    config = simulator.world.config
    if config.vma_path and config.vma_access_errors:
        locked = metrics["vmstat.vma_lock_success"] + metrics["vmstat.vma_lock_abort"]
        locked += metrics["vmstat.vma_lock_retry"] - metrics["faults.vma_retries"]
        locked -= metrics["userfaultfd.vma_lock_abort"]
        locked -= metrics["madvise.vma_lock_aborts"]
        elsewhere = metrics["faults.kernel_mode"] + metrics["faults.refused_early"]
        assert locked == metrics["perf.page_faults"] - elsewhere


def all_have_ended(simulator: Simulator) -> bool:
    threads = simulator.world.threads[: int(simulator.world.config.threads)]
    return bool((threads["state"] == ThreadState.DONE).all())


def finished(rows: Columns) -> Columns:
    return {name: values[rows["finished"] == 1] for name, values in rows.items()}


# The tests.


def _chunks(seeds: range) -> list[range]:
    size = max(len(seeds) // 10, 1)
    return [seeds[first : first + size] for first in range(0, len(seeds), size)]


@pytest.mark.uncompiled_too
@pytest.mark.parametrize("seeds", _chunks(SEEDS), ids=str)
def test_every_run_is_sound(seeds):
    for seed in seeds:
        assert_sound(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", _chunks(SEEDS_SLOW), ids=str)
def test_every_run_of_many_is_sound(seeds):
    for seed in seeds:
        assert_sound(seed)


def test_short_runs_are_the_same_compiled_or_not():
    here = {seed: a_short_fingerprint(seed) for seed in range(6 if IS_UNCOMPILED else 30)}
    fingerprints = {seed: found for seed, found in here.items() if found is not None}
    other_way = {**os.environ, "NUMBA_DISABLE_JIT": "0" if IS_UNCOMPILED else "1"}
    command = [sys.executable, "-c", FINGERPRINTS, json.dumps(list(fingerprints))]

    answer = subprocess.run(
        command, cwd=ROOT, env=other_way, capture_output=True, text=True, check=True
    )

    assert json.loads(answer.stdout) == list(fingerprints.values())


def a_short_fingerprint(seed: int) -> int | None:
    """Return the fingerprint of a run, or None if uncompiled code would take long for it."""
    simulator = Simulator(a_random_scenario(seed))
    is_over = simulator.advance(SHORT_EVENTS_MAX)
    return simulator.summary().fingerprint if is_over else None
