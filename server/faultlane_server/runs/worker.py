"""Brings one simulation to its end, or as far as the server lives."""

import logging
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from faultlane_server.runs.archive import Archive
from faultlane_server.runs.asked import scenario_of
from faultlane_server.runs.clock import Clock
from faultlane_server.runs.engine import Engine, Simulator
from faultlane_server.runs.errors import ModelChanged
from faultlane_server.runs.guard import Guard, LimitReached
from faultlane_server.runs.job import Job
from faultlane_server.runs.limits import Limits
from faultlane_server.runs.recorder import AnotherRun, LogKind, Recorder, TooManyRows
from faultlane_server.runs.simulation import Simulation
from faultlane_server.scenario import Scenario
from faultlane_server.store import LogError, RegisterNotWritten

logger = logging.getLogger(__name__)


NICENESS = 10  # of threads that simulate


class _Cancelled(Exception):
    """Somebody asked to end the simulation."""


class _Suspended(Exception):
    """The server shuts down; the run goes on when it starts again."""


class Workshop(NamedTuple):
    """What every run needs."""

    engine: Engine
    archive: Archive
    limits: Limits
    clock: Clock
    is_suspended: threading.Event


def come_last() -> None:
    """Let all other threads go before this one where CPUs are short: a call is answered at once."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def work(job: Job, shop: Workshop) -> None:
    """Simulate; the simulation has ended on return, unless the server is about to end."""
    try:
        if not (job.simulation.ended or end_as_twin(job, shop.archive)):
            _run(job, shop)
    except _Suspended:
        logger.info("simulation suspended", extra=_who_and_how(job.simulation))
        return
    except _Cancelled:
        job.end_cancelled()
    except ModelChanged as error:
        job.fail("MODEL_CHANGED", str(error))
    except TooManyRows as error:
        job.fail("ROWS_LIMIT", f"{error}: record less, or simulate a shorter time")
    except LimitReached as error:
        job.fail(error.reason, str(error))
    except MemoryError as error:
        job.fail("MEMORY", f"there is not enough memory for it: {error}")
    except (LogError, RegisterNotWritten) as error:
        logger.error("%s: %s", job.simulation.name, error)
        job.fail("STORAGE", str(error))
    except Exception as error:
        logger.exception("%s: the simulator is broken", job.simulation.name)
        job.fail("INVARIANT_BROKEN", str(error) or type(error).__name__)
    logger.info("simulation ended", extra=_who_and_how(job.simulation))


def _who_and_how(simulation: Simulation) -> dict[str, object]:
    """Return the fields of a line in the log."""
    state = simulation.state and simulation.state.name
    return {"simulation": simulation.name, "state": state, "faults": simulation.progress.faults}


def end_as_twin(job: Job, archive: Archive) -> bool:
    """End a job at once whose equal has succeeded since it was queued."""
    if job.simulation.options.skip_cache:
        return False
    with archive.twin_of(job.simulation.digest) as twin:
        if twin and twin.log is not None:
            job.publish_logs(archive.log_paths(twin.log))
            job.succeed_as(twin)
        return twin is not None


def _run(job: Job, shop: Workshop) -> None:
    scenario = scenario_of(job, shop.engine.model_version)
    log = job.start(shop.archive.begin_log)
    rows, byte_length, complete = (0, 0), 0, False
    try:
        recorder = Recorder(
            shop.archive.log_dir(log),
            job.simulation.digest,
            shop.engine.model_version,
            shop.limits.rows_max,
        )
        try:
            job.publish_logs(shop.archive.log_paths(log))
            simulator = _simulate(job, scenario, recorder, log, shop)
            recorder.finish(durable=shop.archive.durable)
            complete = True
        finally:
            rows = recorder.rows(LogKind.FAULTS), recorder.rows(LogKind.OPERATIONS)
            byte_length = recorder.bytes
            recorder.close()
    finally:
        shop.archive.end_log(log, byte_length, rows, complete=complete)
    job.succeed(simulator.summary())


def _simulate(
    job: Job, scenario: Scenario, recorder: Recorder, log: int, shop: Workshop
) -> Simulator:
    guard = Guard(
        shop.limits.run,
        job.simulation.options,
        shop.clock,
        shop.engine.memory_of,
        lambda byte_length: _require_room(job, shop.archive, log, byte_length),
    )
    simulator = shop.engine.simulator(scenario)
    if not job.begin():
        raise _Cancelled
    try:
        _advance(job, simulator, recorder, _Watch(guard, shop.is_suspended.is_set))
    finally:
        _flush(job, simulator, recorder)
    return simulator


class _Watch(NamedTuple):
    guard: Guard
    is_suspended: Callable[[], bool]


def _advance(job: Job, simulator: Simulator, recorder: Recorder, watch: _Watch) -> None:
    has_ended = False
    while not has_ended:
        if job.is_cancelled.is_set():
            raise _Cancelled
        if watch.is_suspended():
            raise _Suspended
        has_ended = simulator.advance()
        try:
            recorder.take(*simulator.take_rows())
        except AnotherRun as error:
            raise AssertionError(f"a bug of the simulator: {error}") from error
        watch.guard.check(simulator, recorder.bytes)
        if recorder.is_due():
            _flush(job, simulator, recorder)


def _flush(job: Job, simulator: Simulator, recorder: Recorder) -> None:
    try:
        recorder.flush()
    finally:
        job.progress(
            now_ns=simulator.now_ns,
            faults=simulator.faults,
            fault_rows=recorder.rows(LogKind.FAULTS),
            operation_rows=recorder.rows(LogKind.OPERATIONS),
        )


def _require_room(job: Job, archive: Archive, log: int, byte_length: int) -> None:
    archive.has_written(log, byte_length)
    if lack := archive.why_no_room(job.simulation.owner):
        raise LimitReached("DISK_QUOTA", f"{lack}: delete simulations, or record less")
