"""Clients that work for as long as a test makes trouble, and know what they must have got.

Readers ask for a run, read its faults to the end and compare them with those of a run that
nobody disturbed. Submitters ask for runs and come back for them when the trouble is over.
"""

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from faultlane import Client, FaultEvents, Run, errors
from faultlane import v1 as pb
from faultlane_server.runs import LogKind
from faultlane_server.runs.recorder import log_path
from faultlane_server.store import Columns, LogReader, rows_of
from tests.reliability.server import slices_of
from tests.service.fake import a_scenario, rows_of_faults

READERS = 4
SUBMITTERS = 2
SEEDS = 24  # few enough that runs are often equal, and share a log or read along

FAILED = pb.SimulationState.SIMULATION_STATE_FAILED
SUCCEEDED = pb.SimulationState.SIMULATION_STATE_SUCCEEDED


@cache
def undisturbed(seed: int) -> Columns:
    """Return the faults of a run as it is when nothing happens to it."""
    return rows_of_faults(0, slices_of(seed), seed)


def require_rows(rows: Columns, seed: int, count: int | None = None) -> None:
    """Compare with the rows of an undisturbed run, or the first of them, byte for byte."""
    for name, column in undisturbed(seed).items():
        assert rows[name].tobytes() == column[:count].tobytes(), f"seed {seed}, column {name}"


@dataclass
class Work:
    """What a client has done."""

    seed_of: dict[str, int] = field(default_factory=dict)  # of what was accepted, by its name
    events: int = 0
    away: int = 0  # how often the server was not there, or could not take anything
    failed: int = 0  # runs that the disk had no room for


class Crowd:
    """The clients. Leaving the block ends their work, once each has finished what it has begun."""

    def __init__(self, address: str, *, seed: int = 0, may_fail: bool = False) -> None:
        self._address = address
        self._may_fail = may_fail  # whether runs may end because the disk is full
        self._seed = seed
        self._is_over = threading.Event()
        self._is_given_up = threading.Event()
        self._pool = ThreadPoolExecutor(READERS + SUBMITTERS)
        self._working: list[Future[Work]] = []

    def __enter__(self) -> Self:
        for number in range(READERS):
            self._working.append(self._pool.submit(self._work, number, self._read))
        for number in range(READERS, READERS + SUBMITTERS):
            self._working.append(self._pool.submit(self._work, number, self._submit))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if error is not None:
            self._is_given_up.set()
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def require_nobody_failed(self) -> None:
        """Raise what a client has raised, if one has."""
        for working in self._working:
            if working.done():
                working.result()

    def done(self) -> list[Work]:
        """Return what each client has done; all of it is right."""
        return [working.result() for working in self._working]

    def _work(self, number: int, step: Callable[[Client, pb.Scenario, str, Work], None]) -> Work:
        chance, work = random.Random(f"{self._seed} {number}"), Work()
        with Client.connect(self._address) as client:
            for turn in range(10**9):
                if self._is_over.is_set():
                    break
                scenario = a_scenario(seed=1 + chance.randrange(SEEDS))
                step(client, scenario, f"{number}-{turn}", work)
        return work

    def _read(self, client: Client, scenario: pb.Scenario, request_id: str, work: Work) -> None:
        """Read a run, which is a new one or shares the rows of one that runs or has ended."""
        run = self._accepted(client, scenario, request_id, work)
        events = FaultEvents.concat(run.events())
        rows = require_good_end(run.simulation, scenario.seed, may_fail=self._may_fail)
        require_rows(dict(events.columns()), scenario.seed, rows)
        work.events += len(events)
        work.failed += run.simulation.state != SUCCEEDED

    def _submit(self, client: Client, scenario: pb.Scenario, request_id: str, work: Work) -> None:
        """Ask for a run twice with one id, and wait for its end so that the queue stays short."""
        run = self._accepted(client, scenario, request_id, work)
        again = self._accepted(client, scenario, request_id, work)
        assert again.name == run.name
        require_good_end(run.wait(timeout_s=600), scenario.seed, may_fail=self._may_fail)

    def _accepted(self, client: Client, scenario: pb.Scenario, request_id: str, work: Work) -> Run:
        """Ask until the server accepts it, however often it is away."""
        options = pb.RunOptions(skip_cache=scenario.seed % 2 == 0)
        while not self._is_given_up.is_set():
            try:
                run = client.submit(scenario, request_id=request_id, options=options)
            except (errors.Unavailable, errors.TimedOut, errors.QueueFull):
                work.away += 1
            else:
                work.seed_of[run.name] = scenario.seed
                return run
        raise AssertionError("something else went wrong")


def require_good_end(simulation: pb.Simulation, seed: int, *, may_fail: bool = False) -> int:
    """Return how many rows a run has, which are all of them unless it may fail."""
    rows = simulation.progress.fault_rows
    if may_fail and simulation.state == FAILED:
        assert simulation.error.reason == "STORAGE", simulation.error
        return rows
    assert simulation.state == SUCCEEDED, simulation
    assert rows == rows_of(undisturbed(seed))
    return rows


def require_all_is_there(client: Client, works: list[Work], *, may_fail: bool = False) -> int:
    """Compare what the server has with what it accepted; return how many simulations that is."""
    accepted = {name: seed for work in works for name, seed in work.seed_of.items()}
    for name, seed in accepted.items():
        *_, last = client.watch_simulation(name)  # the last ones may still run
        require_good_end(last.simulation, seed, may_fail=may_fail)
    listed = [simulation.name for simulation in client.list_simulations(page_size=1000)]
    assert sorted(listed) == sorted(accepted), "each was made once, and none was forgotten"
    return len(accepted)


def require_logs_are_whole(data_dir: Path, seed_of_digest: dict[str, int]) -> int:
    """Compare the logs on disk with those of undisturbed runs; return how many there are."""
    directories = list((data_dir / "logs").iterdir())
    for directory in directories:
        with LogReader(log_path(directory, LogKind.FAULTS)) as reader:
            seed = seed_of_digest[reader.header.digest]
            first = 0
            while first < reader.rows:
                found = reader.read(first, reader.rows)
                for name, column in undisturbed(seed).items():
                    expected = column[first : first + rows_of(found)]
                    assert found[name].tobytes() == expected.tobytes(), f"{directory}, {name}"
                first += rows_of(found)
            assert first == rows_of(undisturbed(seed))
    return len(directories)
