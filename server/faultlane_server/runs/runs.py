"""Everything that was asked for: the queue, the workers and the register of simulations."""

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from faultlane_server.codes import SimulationState
from faultlane_server.explanation import Cancelled
from faultlane_server.runs.archive import Archive
from faultlane_server.runs.clock import Clock
from faultlane_server.runs.digest import digest_of
from faultlane_server.runs.engine import Engine
from faultlane_server.runs.errors import (
    DiskFull,
    NoSuchSimulation,
    NotEnded,
    NotReady,
    QueueFull,
    RequestIdTaken,
    ShuttingDown,
    TooManyExplained,
)
from faultlane_server.runs.estimate import require_small_enough
from faultlane_server.runs.explaining import Explained, Which, explain_fault
from faultlane_server.runs.figures import Figures, RunEnd
from faultlane_server.runs.follow import Part, Window, follow, watch
from faultlane_server.runs.job import Job, Order, ScenarioReader
from faultlane_server.runs.limits import Limits, Quota
from faultlane_server.runs.queue import FairQueue
from faultlane_server.runs.recorder import LogKind
from faultlane_server.runs.simulation import Simulation
from faultlane_server.runs.streams import Streams
from faultlane_server.runs.worker import Workshop, come_last, end_as_twin, work
from faultlane_server.scenario import Scenario
from faultlane_server.store import Query, RegisterNotWritten

RETRY_AFTER_S_MIN = 1.0
RETRY_AFTER_S_MAX = 60.0
DISK_RETRY_AFTER_S = 60.0
CANCEL_S = 0.05  # after which a run that was cancelled has ended, whatever its worker does

logger = logging.getLogger(__name__)


class Accepted(NamedTuple):
    """A job, and what it was when it was accepted: it may have begun since then."""

    job: Job
    simulation: Simulation


class _Phase(Enum):
    LOADING = 1
    READY = 2
    DRAINING = 3


class Runs:
    """Takes orders and has them simulated; owners take turns.

    What was taken before, by whoever had the directory, is there again.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        limits: Limits,
        read_scenario: ScenarioReader,
        clock: Clock | None = None,
        *,
        durable: bool = True,
        quota_of: Callable[[str], Quota] | None = None,
        on_end: Callable[[RunEnd], None] | None = None,
    ) -> None:
        self.engine = engine
        self.limits = limits
        self._quota_of = quota_of or (lambda _: limits.quota)
        self._clock = clock or Clock()
        self._archive = Archive(
            directory,
            limits.disk,
            self._clock,
            durable=durable,
            bytes_max_of=lambda owner: self._quota_of(owner).log_bytes_max,
        )
        self._read_scenario = read_scenario
        self._phase = _Phase.LOADING
        self._jobs: dict[str, Job] = {}  # that have not ended
        self._queue = FairQueue()
        self._running: set[Job] = set()
        self._explained = 0  # faults that are being explained, or wait for it
        self._explainers = ThreadPoolExecutor(limits.workers, "explainer", come_last)
        self._streams = Streams(limits.streams_max, lambda owner: self._quota_of(owner).streams_max)
        self._turn = asyncio.Lock()  # of streams, to read a part
        self._run_s_mean = 0.0
        self._faults = 0  # of runs that are over
        self._on_end = on_end or (lambda _: None)
        self._changed = threading.Condition()  # guards all of the above
        self._admission = threading.Lock()  # one order after another, however slow the disk is
        self._draining = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(limits.workers)
        ]
        self._threads.append(threading.Thread(target=self._sweep, name="sweeper", daemon=True))
        for simulation in self._archive.open_ones():
            queued = replace(simulation, state=SimulationState.QUEUED)
            self._archive.save(queued)
            self._enqueue(queued)

    def start(self) -> None:
        """Load the kernels, then let the workers begin. Takes seconds."""
        self.engine.warm_up()
        with self._changed:
            if self._phase is _Phase.LOADING:
                self._phase = _Phase.READY
                for thread in self._threads:
                    thread.start()

    def create(self, order: Order) -> Accepted:
        """Queue a simulation, or return the one that the request id made before.

        What is returned is on disk.
        """
        digest = digest_of(order.scenario, self.engine.model_version)
        simulation = self._simulation(order, digest)
        if order.validate_only:
            return Accepted(self._job(simulation), simulation)
        with self._admission:
            self._require_ready()
            known = self._job_of_request(order, digest)
            return Accepted(known, known.simulation) if known else self._take(order, simulation)

    def get(self, name: str, owner: str | None) -> Job:
        """Return a simulation of an owner; None stands for any."""
        job = self._jobs.get(name)
        if job is None:
            kept = self._archive.get(name)
            job = self._job(kept) if kept else None
        if job is None or owner not in (None, job.simulation.owner):
            raise NoSuchSimulation(name)
        return job

    def find(self, query: Query) -> list[tuple[int, Simulation]]:
        """Return simulations with their numbers, the newest first."""
        found = [
            (number, kept, self._jobs.get(kept.name)) for number, kept in self._archive.find(query)
        ]
        return [(number, job.simulation if job else kept) for number, kept, job in found]

    async def ended(self, job: Job) -> Simulation:
        """Wait until a simulation has ended."""
        return await job.ended(self._require_not_draining)

    def cancel(self, job: Job) -> None:
        """End a simulation soon, unless it has ended."""
        job.cancel()
        with self._changed:
            self._queue.remove(job)
            if job not in self._running:
                self._jobs.pop(job.simulation.name, None)
            self._changed.notify_all()

    async def cancelled(self, job: Job) -> Simulation:
        """Wait until a simulation that is cancelled has ended, and not for long.

        If its slice does not end, since there are no CPUs for it, its rows end with those that
        are known of.
        """
        try:
            async with asyncio.timeout(CANCEL_S):
                return await self.ended(job)
        except TimeoutError:
            await asyncio.to_thread(job.end_cancelled)
            return job.simulation

    def abandon(self, job: Job) -> None:
        """End a simulation whose only reader has gone, unless it has ended or the server ends."""
        if not (job.simulation.ended or self._draining.is_set()):
            self.cancel(job)

    def delete(self, name: str, owner: str | None) -> None:
        """Forget a simulation that has ended; its rows too, unless others have them."""
        job = self.get(name, owner)
        if not job.simulation.ended:
            raise NotEnded(name)
        self._archive.remove(name)

    async def follow(
        self, job: Job, windows: Mapping[LogKind, Window], reader: str
    ) -> AsyncGenerator[Part | None]:
        """Yield the rows in the windows until the simulation has ended; None is a heartbeat."""
        with self._streams.one_of(reader):
            parts = follow(
                job, windows, self._require_not_draining, self.limits.heartbeat_s, self._turn
            )
            async with aclosing(parts):
                async for part in parts:
                    yield part

    async def watch(self, job: Job, reader: str) -> AsyncGenerator[Simulation]:
        """Yield the simulation as it changes, until it has ended."""
        with self._streams.one_of(reader):
            states = watch(job, self._require_not_draining, self.limits.heartbeat_s)
            async with aclosing(states):
                async for simulation in states:
                    yield simulation

    async def explain(self, job: Job, which: Which) -> Explained:
        """Explain a fault of a simulation that has ended; ends early if the caller goes away."""
        self._require_ready()
        if self._explained >= self.limits.explained_max:
            raise TooManyExplained(self._explained, RETRY_AFTER_S_MIN)
        is_left = threading.Event()
        self._explained += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._explainers,
                self._explain,
                job,
                which,
                lambda: is_left.is_set() or self._draining.is_set(),
            )
        except Cancelled as error:
            raise ShuttingDown from error
        finally:
            is_left.set()
            self._explained -= 1

    def _explain(self, job: Job, which: Which, is_cancelled: Callable[[], bool]) -> Explained:
        if is_cancelled():
            raise Cancelled
        kept = self.get(job.simulation.name, job.simulation.owner)  # it may have gone meanwhile
        return explain_fault(kept, self.engine, which, is_cancelled)

    def figures(self) -> Figures:
        """Tell how busy the server is."""
        with self._changed:
            return Figures(
                queued=len(self._queue),
                running=len(self._running),
                streams=self._streams.count,
                explained=self._explained,
                faults=self._faults + sum(job.faults_simulated for job in self._running),
            )

    def drain(self) -> None:
        """Take nothing more, and let what runs stop where it is: a later server goes on with it."""
        self._draining.set()
        with self._changed:
            self._phase = _Phase.DRAINING
            self._changed.notify_all()
            jobs = list(self._jobs.values())
        for job in jobs:
            job.bell.ring()

    def close(self) -> None:
        """Drain, wait for the workers, and let another server have the directory."""
        self.drain()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._explainers.shutdown()
        self._archive.close()

    # Taking orders.

    def _require_not_draining(self) -> None:
        if self._phase is _Phase.DRAINING:
            raise ShuttingDown

    def _require_ready(self) -> None:
        self._require_not_draining()
        if self._phase is _Phase.LOADING:
            raise NotReady

    def _job_of_request(self, order: Order, digest: str) -> Job | None:
        if not order.request_id:
            return None
        kept = self._archive.by_request(order.owner, order.request_id)
        if kept is None:
            return None
        if (kept.digest, kept.options) != (digest, order.options):
            raise RequestIdTaken(order.request_id, kept.name)
        return self.get(kept.name, order.owner)

    def _take(self, order: Order, simulation: Simulation) -> Accepted:
        """Return the simulation as an equal one has ended, or queue it."""
        require_small_enough(order.scenario, self.limits.run)
        if not order.options.skip_cache:
            with self._archive.twin_of(simulation.digest) as twin:
                if twin:
                    created = _created(simulation, self._clock)
                    ended = created.ended_as(twin, self._clock.now())
                    self._archive.add(ended, order.request_id)
                    return Accepted(self._job(ended), ended)
        self._require_room(order.owner)
        simulation = _created(simulation, self._clock)
        self._archive.add(simulation, order.request_id)
        return Accepted(self._enqueue(simulation, order.scenario), simulation)

    def _require_room(self, owner: str) -> None:
        with self._changed:
            queued, of_owner = len(self._queue), self._queue.queued_by(owner)
            if queued >= self.limits.queued_max:
                raise QueueFull(queued, self._retry_after_s(queued))
            if of_owner >= self._quota_of(owner).queued_max:
                raise QueueFull(of_owner, self._retry_after_s(of_owner))
        if lack := self._archive.why_no_room(owner):
            raise DiskFull(lack, DISK_RETRY_AFTER_S)

    def _retry_after_s(self, queued: int) -> float:
        """Guess when one of those that wait has begun."""
        guess_s = self._run_s_mean * queued / self.limits.workers
        return min(max(guess_s, RETRY_AFTER_S_MIN), RETRY_AFTER_S_MAX)

    def _enqueue(self, simulation: Simulation, scenario: Scenario | None = None) -> Job:
        job = self._job(simulation, scenario)
        with self._changed:
            self._jobs[simulation.name] = job
            self._queue.push(job)
            for running in self._running:
                if _is_equal(running, job):
                    running.take_along(job)
                    break
            self._changed.notify()
        return job

    def _job(self, simulation: Simulation, scenario: Scenario | None = None) -> Job:
        """Return a job for a simulation as it is."""
        job = Job(simulation, self._read_scenario, self._clock, self._archive.save, scenario)
        if simulation.log is not None and simulation.ended:
            job.publish_logs(self._archive.log_paths(simulation.log))
        return job

    def _simulation(self, order: Order, digest: str) -> Simulation:
        return Simulation(
            name="",
            owner=order.owner,
            scenario_as_asked=order.as_asked,
            digest=digest,
            model_version=self.engine.model_version,
            horizon_ns=order.scenario.horizon_ns,
            options=order.options,
        )

    # Working.

    def _work(self) -> None:
        come_last()
        shop = Workshop(self.engine, self._archive, self.limits, self._clock, self._draining)
        while job := self._next_job():
            begin_s = self._clock.steady_s()
            work(job, shop)
            self._end_along(job)
            run_s = self._clock.steady_s() - begin_s
            self._on_end(RunEnd(job.simulation, job.has_begun, run_s))
            with self._changed:
                self._running.discard(job)
                job.let_go()
                self._faults += job.faults_simulated
                if job.simulation.ended:
                    self._jobs.pop(job.simulation.name, None)
                self._learn(run_s)
                self._changed.notify_all()

    def _end_along(self, job: Job) -> None:
        """Let those end that read along, if what they read along has succeeded."""
        if job.simulation.state is not SimulationState.SUCCEEDED:
            return
        try:
            for other in job.along:
                if not other.simulation.ended and end_as_twin(other, self._archive):
                    with self._changed:
                        self._queue.remove(other)
                        self._jobs.pop(other.simulation.name, None)
        except RegisterNotWritten as error:  # they are in the queue, and end when it is their turn
            logger.error("%s: who read along does not end yet: %s", job.simulation.name, error)

    def _next_job(self) -> Job | None:
        with self._changed:
            while self._phase is not _Phase.DRAINING:
                if job := self._queue.pop(self._may_run):
                    self._running.add(job)
                    for other in self._queue:
                        if _is_equal(job, other):
                            job.take_along(other)
                    return job
                self._changed.wait()
            return None

    def _may_run(self, job: Job) -> bool:
        """Whether it is not too much for its owner, and its equal does not run already."""
        owner, digest = job.simulation.owner, job.simulation.digest
        if job.simulation.options.skip_cache:
            digest = ""
        running = [each.simulation for each in self._running]
        of_owner = sum(each.owner == owner for each in running)
        return of_owner < self._quota_of(owner).running_max and all(
            each.digest != digest for each in running
        )

    def _learn(self, run_s: float) -> None:
        """Take one more run into the mean, in which earlier ones count less and less."""
        self._run_s_mean += (run_s - self._run_s_mean) / 8

    def _sweep(self) -> None:
        """Look from time to time for logs that may go."""
        while not self._draining.wait(self.limits.sweep_s):
            try:
                self._archive.sweep()
            except RegisterNotWritten as error:
                logger.error("old logs are not removed: %s", error)


def _is_equal(running: Job, waiting: Job) -> bool:
    """Whether one that waits will have the rows of one that runs."""
    options, digest = waiting.simulation.options, waiting.simulation.digest
    return running.simulation.digest == digest and not options.skip_cache


def _created(simulation: Simulation, clock: Clock) -> Simulation:
    """Return it with a name of its own."""
    return replace(
        simulation,
        name=f"simulations/{uuid.uuid4().hex}",
        state=SimulationState.QUEUED,
        create_time=clock.now(),
    )
