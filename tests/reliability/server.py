"""Servers with a fake engine in processes of their own, for tests that end them.

    python -m tests.reliability.server DATA_DIR PORT

For each line of standard input, which has `Settings` as JSON, it starts a server, and prints
its process, `ready` when it serves, and its exit code when it has ended. Servers are forked:
they begin when everything is imported. SIGTERM ends one as it ends any server.
"""

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from faultlane_server.runs import Clock, DiskLimits, Limits
from faultlane_server.scenario import Scenario
from faultlane_server.service.server import Options, Server
from tests.service.fake import FakeSimulator, an_engine

DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Settings:
    """How a server is, besides where."""

    workers: int = 2
    slice_s: float = 0.001
    slices: int = 0  # of each run; 0: as many as `slices_of` says
    wall_behind_s: float = 0.0  # how far the machine's clock is set back at the begin
    wall_jumps_s: float = 0.0  # how far it is set back or forth later, at each look
    free_mib_min: int = 0

    def as_text(self) -> str:
        return json.dumps(asdict(self))


def slices_of(seed: int) -> int:
    """How long a run is, which its scenario says."""
    return 20 + seed % 100


def main(data_dir: str, port: str) -> None:
    """Start one server after another, as it is told."""
    for line in sys.stdin:
        settings = Settings(**json.loads(line))
        process = os.fork()
        if not process:
            asyncio.run(_serve(Path(data_dir), int(port), settings))
            return
        _tell(process)
        _, status = os.waitpid(process, 0)
        _tell(os.waitstatus_to_exitcode(status))


def _tell(what: object) -> None:
    print(what, flush=True)


async def _serve(data_dir: Path, port: int, settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def pause(_: int) -> None:
        threading.Event().wait(settings.slice_s)

    def simulator(scenario: Scenario) -> FakeSimulator:
        return FakeSimulator(scenario, settings.slices or slices_of(scenario.seed), pause)

    limits = Limits(
        settings.workers,
        heartbeat_s=0.5,
        sweep_s=0.2,
        disk=DiskLimits(retain_s=DAY_S, free_bytes_min=settings.free_mib_min << 20),
    )
    options = Options(f"127.0.0.1:{port}", data_dir, limits, Clock(_wall(settings)))
    server = Server(an_engine()._replace(simulator=simulator), options)
    await server.run(stop, lambda address: None, lambda: _tell("ready"))


def _wall(settings: Settings) -> Callable[[], int]:
    jumps_s = chain([0.0], iter(partial(_jump_s, settings.wall_jumps_s), None))

    def wall_ns() -> int:
        return time.time_ns() + int((next(jumps_s) - settings.wall_behind_s) * 1e9)

    return wall_ns


def _jump_s(most_s: float) -> float:
    return random.uniform(-most_s, most_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
