"""Everything that was asked for: the queue, the workers and the register of simulations."""

import asyncio
import os
import threading
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from faultlane_server.codes import SimulationState
from faultlane_server.explanation import Cancelled
from faultlane_server.runs.digest import digest_of
from faultlane_server.runs.engine import Engine
from faultlane_server.runs.errors import (
    NoSuchSimulation,
    NotReady,
    QueueFull,
    RequestIdTaken,
    ShuttingDown,
    TooManyExplained,
)
from faultlane_server.runs.explaining import Explained, Which, explain_fault
from faultlane_server.runs.follow import Part, Window, follow
from faultlane_server.runs.job import Job, Order
from faultlane_server.runs.recorder import LogKind
from faultlane_server.runs.simulation import Simulation
from faultlane_server.runs.worker import work

RETRY_AFTER_S = 1.0


def default_workers() -> int:
    """One CPU is left to gRPC and to whoever reads."""
    return max(1, (os.cpu_count() or 1) - 1)


class Limits(NamedTuple):
    """How much a server takes on."""

    workers: int
    queued_max: int = 256
    rows_max: int = 10_000_000  # in one log
    heartbeat_s: float = 5.0  # how long a stream is silent at most
    explained_max: int = 16  # faults that are being explained, or wait for it


class _Phase(Enum):
    LOADING = 1
    READY = 2
    DRAINING = 3


class Runs:
    """Takes orders and has them simulated, in the order in which they came."""

    def __init__(self, engine: Engine, directory: Path, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self._directory = directory
        self._phase = _Phase.LOADING
        self._jobs: dict[str, Job] = {}
        self._names: dict[tuple[str, str], str] = {}  # by owner and request id
        self._queue: deque[Job] = deque()
        self._running: set[Job] = set()
        self._explained = 0  # faults that are being explained, or wait for it
        self._explaining = asyncio.Semaphore(limits.workers)
        self._changed = threading.Condition()  # guards all of the above
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(limits.workers)
        ]

    def start(self) -> None:
        """Load the kernels, then let the workers begin. Takes seconds."""
        self.engine.warm_up()
        with self._changed:
            if self._phase is _Phase.LOADING:
                self._phase = _Phase.READY
                for thread in self._threads:
                    thread.start()

    def create(self, order: Order) -> Job:
        """Queue a simulation, or return the one that the request id made before."""
        digest = digest_of(order.scenario, self.engine.model_version)
        if order.validate_only:
            return Job(order.scenario, _simulation(order, digest))
        with self._changed:
            self._require_ready()
            known = self._job_of_request(order, digest)
            return known or self._queue_new(order, digest)

    def get(self, name: str) -> Job:
        try:
            return self._jobs[name]
        except KeyError:
            raise NoSuchSimulation(name) from None

    async def cancel(self, name: str) -> Simulation:
        """End a simulation, unless it has ended. Returns when it has."""
        job = self.get(name)
        with self._changed:
            self._cancel(job)
        return await job.ended()

    def follow(self, job: Job, windows: Mapping[LogKind, Window]) -> AsyncGenerator[Part | None]:
        """Yield the rows in the windows until the simulation has ended; None is a heartbeat."""
        return follow(job, windows, self._require_not_draining, self.limits.heartbeat_s)

    async def explain(self, job: Job, which: Which) -> Explained:
        """Explain a fault of a simulation that has ended; ends early if the caller goes away."""
        self._require_ready()
        if self._explained >= self.limits.explained_max:
            raise TooManyExplained(self._explained, RETRY_AFTER_S)
        is_left = threading.Event()
        self._explained += 1
        try:
            async with self._explaining:
                return await asyncio.to_thread(
                    explain_fault,
                    job,
                    self.engine,
                    which,
                    lambda: is_left.is_set() or self._phase is _Phase.DRAINING,
                )
        except Cancelled as error:
            raise ShuttingDown from error
        finally:
            is_left.set()
            self._explained -= 1

    def drain(self) -> None:
        """Take nothing more, and end everything that has not ended."""
        with self._changed:
            self._phase = _Phase.DRAINING
            for job in [*self._queue, *self._running]:
                self._cancel(job)
            self._changed.notify_all()
        for job in list(self._jobs.values()):
            job.bell.ring()

    def close(self) -> None:
        """Drain, and wait for the workers."""
        self.drain()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _require_not_draining(self) -> None:
        if self._phase is _Phase.DRAINING:
            raise ShuttingDown

    def _require_ready(self) -> None:
        self._require_not_draining()
        if self._phase is _Phase.LOADING:
            raise NotReady

    def _job_of_request(self, order: Order, digest: str) -> Job | None:
        name = self._names.get((order.owner, order.request_id)) if order.request_id else None
        if name is None:
            return None
        if self._jobs[name].simulation.digest != digest:
            raise RequestIdTaken(order.request_id, name)
        return self._jobs[name]

    def _queue_new(self, order: Order, digest: str) -> Job:
        if len(self._queue) >= self.limits.queued_max:
            raise QueueFull(len(self._queue), RETRY_AFTER_S)
        job = Job(order.scenario, _queued(_simulation(order, digest)))
        self._jobs[job.simulation.name] = job
        if order.request_id:
            self._names[order.owner, order.request_id] = job.simulation.name
        self._queue.append(job)
        self._changed.notify()
        return job

    def _cancel(self, job: Job) -> None:
        job.cancel()
        if job in self._queue:
            self._queue.remove(job)

    def _work(self) -> None:
        while job := self._next_job():
            work(job, self.engine, self._directory / _id_of(job), self.limits.rows_max)
            with self._changed:
                self._running.discard(job)

    def _next_job(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._phase is _Phase.DRAINING)
            if not self._queue:
                return None
            job = self._queue.popleft()
            self._running.add(job)
            return job


def _simulation(order: Order, digest: str) -> Simulation:
    return Simulation(
        name="",
        owner=order.owner,
        scenario_as_asked=order.as_asked,
        digest=digest,
        horizon_ns=order.scenario.horizon_ns,
    )


def _queued(simulation: Simulation) -> Simulation:
    return replace(
        simulation,
        name=f"simulations/{uuid.uuid4().hex}",
        state=SimulationState.QUEUED,
        create_time=datetime.now(UTC),
    )


def _id_of(job: Job) -> str:
    return job.simulation.name.removeprefix("simulations/")
