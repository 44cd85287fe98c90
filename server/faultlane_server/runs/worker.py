"""Brings one simulation to its end."""

import logging
from pathlib import Path

from faultlane_server.runs.engine import Engine, Simulator
from faultlane_server.runs.job import Job
from faultlane_server.runs.recorder import LogKind, Recorder, TooManyRows
from faultlane_server.runs.simulation import Simulation
from faultlane_server.store import LogError

logger = logging.getLogger(__name__)


class _Cancelled(Exception):
    """Somebody asked to end the simulation."""


def work(job: Job, engine: Engine, directory: Path, rows_max: int) -> None:
    """Simulate; whatever happens, the simulation has ended on return."""
    job.start()
    try:
        recorder = Recorder(directory, job.simulation.digest, engine.model_version, rows_max)
        job.publish_logs(recorder.paths)
        _run(job, engine, recorder)
    except _Cancelled:
        job.end_cancelled()
    except TooManyRows as error:
        job.fail("ROWS_LIMIT", f"{error}: record less, or simulate a shorter time")
    except LogError as error:
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


def _run(job: Job, engine: Engine, recorder: Recorder) -> None:
    try:
        simulator = engine.simulator(job.scenario)
        if not job.begin():
            raise _Cancelled
        try:
            _advance(job, simulator, recorder)
        finally:
            _flush(job, simulator, recorder)
    finally:
        recorder.close()
    job.succeed(simulator.summary())


def _advance(job: Job, simulator: Simulator, recorder: Recorder) -> None:
    has_ended = False
    while not has_ended:
        if job.is_cancelled.is_set():
            raise _Cancelled
        has_ended = simulator.advance()
        recorder.take(*simulator.take_rows())
        if recorder.is_due():
            _flush(job, simulator, recorder)


def _flush(job: Job, simulator: Simulator, recorder: Recorder) -> None:
    recorder.flush()
    job.progress(
        now_ns=simulator.now_ns,
        faults=simulator.faults,
        fault_rows=recorder.rows(LogKind.FAULTS),
        operation_rows=recorder.rows(LogKind.OPERATIONS),
    )
