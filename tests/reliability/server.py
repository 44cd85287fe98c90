"""A server with a fake engine in a process of its own, for tests that kill it.

    python -m tests.reliability.server DATA_DIR PORT

Its runs take as many slices as `slices_of` says, a millisecond each.
"""

import asyncio
import sys
import threading
from pathlib import Path

from faultlane_server.runs import Engine, Limits
from faultlane_server.scenario import Scenario
from faultlane_server.service.server import Options, Server
from tests.service.fake import FakeSimulator, an_engine


def slices_of(seed: int) -> int:
    """How long a run is, which its scenario says."""
    return 20 + seed % 100


def main(data_dir: str, port: str) -> None:
    """Serve until the process is killed."""
    engine = an_engine()._replace(simulator=_simulator)
    options = Options(f"127.0.0.1:{port}", Path(data_dir), Limits(workers=2, heartbeat_s=0.5))
    asyncio.run(_serve(engine, options))


def _simulator(scenario: Scenario) -> FakeSimulator:
    return FakeSimulator(scenario, slices_of(scenario.seed), lambda _: _pause())


def _pause() -> None:
    threading.Event().wait(0.001)


async def _serve(engine: Engine, options: Options) -> None:
    await Server(engine, options).run(
        asyncio.Event(), lambda address: None, lambda: print("ready", flush=True)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
