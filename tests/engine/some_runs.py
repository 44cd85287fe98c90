"""Whole runs: what is kept of one, and scenarios that go through most of the engine."""

import hashlib
from typing import NamedTuple

import numpy as np

from faultlane_server.codes import Access, Advice, StopReason
from faultlane_server.engine import Simulator
from faultlane_server.engine.simulator import Columns
from faultlane_server.scenario import (
    Barrier,
    Compute,
    Explicit,
    Exponential,
    Fixed,
    LogNormal,
    Loop,
    Measure,
    Quantile,
    Quantiles,
    Scenario,
    Sequential,
    Sleep,
    Stride,
    Touch,
    Zipf,
)
from faultlane_server.summary import Latency, LockRow, Summary
from tests.a_scenario import a_scenario

PAGE = 4096


class Run(NamedTuple):
    """A run that has ended."""

    summary: Summary
    faults: Columns
    operations: Columns

    @property
    def stop(self) -> StopReason:
        return self.summary.stop

    @property
    def metrics(self) -> dict[str, float]:
        return self.summary.metrics

    def latency(self, name: str) -> Latency:
        (found,) = (latency for latency in self.summary.latencies if latency.name == name)
        return found

    def lock(self, lock: str, mode: str) -> LockRow:
        (found,) = (row for row in self.summary.locks if (row.lock, row.mode) == (lock, mode))
        return found

    def digest(self) -> str:
        """Return a hash of everything that came out: the summary, and the bytes of all rows."""
        digest = hashlib.sha256(repr(self.summary).encode())
        for columns in (self.faults, self.operations):
            for name, values in columns.items():
                digest.update(name.encode() + values.dtype.str.encode() + values.tobytes())
        return digest.hexdigest()


def run(scenario: Scenario, events: int | None = None) -> Run:
    """Run a scenario to its end, `events` at a time."""
    simulator = Simulator(scenario)
    parts = []
    while not simulator.advance(events):
        parts.append(simulator.take_rows())
    parts.append(simulator.take_rows())
    return run_of(simulator, parts)


def run_of(simulator: Simulator, parts: list[tuple[Columns, Columns]]) -> Run:
    """Join what was taken from a simulator that has ended."""
    faults, operations = zip(*parts, strict=True)
    return Run(simulator.summary(), _joined(faults), _joined(operations))


def _joined(parts: tuple[Columns, ...]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


MIXED_PROGRAM = (
    Loop(
        3,
        (
            Measure(
                "round",
                (
                    Touch("data", Sequential(divided=True), count=40),
                    Barrier("all"),
                    Touch("data", Zipf(900_000), count=10),
                    Compute(LogNormal(2_000, 500_000)),
                    Touch("data", Stride(7 * PAGE, 3 * PAGE), count=10),
                    Touch("data", Explicit((5, 100, -3, 8)), access=Access.EXEC),
                    Sleep(Exponential(20_000)),
                ),
            ),
        ),
    ),
)

QUANTILES = Quantiles((Quantile(0, 50_000), Quantile(900_000, 90_000), Quantile(10**6, 2_000_000)))


def busy_scenarios() -> dict[str, Scenario]:
    """Make scenarios that together go through every lock, policy, operation and kind of draw."""
    return {
        "mainline on x86": a_scenario(mappers=2, protectors=1, seed=1),
        "rfc on arm64": a_scenario(
            policy="rfc", arch="arm64", mappers=1, protectors=2, generation="6.15", seed=2
        ),
        "hold, with more threads than CPUs": a_scenario(
            policy="hold", readers=12, reads=20, cpus=3, mappers=2, protectors=1, seed=3
        ),
        "blind, pages of 64 KiB": a_scenario(
            policy="blind",
            arch="arm64",
            page_size_bytes=65536,
            reads=8,
            file_pages=256,
            mappers=1,
            protectors=1,
            latency=QUANTILES,
            channels=1,
            seed=4,
        ),
        "every kind of step": a_scenario(
            program=MIXED_PROGRAM, latency=LogNormal(80_000, 700_000), policy="rfc", seed=5
        ),
        "a sequential VMA, to the horizon": a_scenario(
            reads=5_000,
            file_pages=4096,
            pattern=Sequential(),
            advice=Advice.SEQUENTIAL,
            fault_around_bytes=PAGE,
            latency=Fixed(100_000),
            mappers=1,
            warmup_ns=200_000,
            horizon_ns=500_000,
            seed=6,
        ),
        "a random VMA": a_scenario(
            reads=25, advice=Advice.RANDOM, mappers=3, cpus=8, hz=1000, file_pages=100, seed=7
        ),
    }
