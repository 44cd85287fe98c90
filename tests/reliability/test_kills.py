"""However often a server ends, and however, what it accepted is done and no reader misses a row.

The server is a process with a fake engine. Clients submit and stream while it is ended at
moments that a seed chooses, and its directory is damaged while nobody has it.
"""

import asyncio
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import faultlane
from faultlane import Client, FaultEvents
from tests.reliability.crowd import (
    SEEDS,
    Crowd,
    require_all_is_there,
    require_logs_are_whole,
    require_rows,
)
from tests.reliability.figures import tell
from tests.reliability.living import Living
from tests.reliability.server import DAY_S, Settings
from tests.service.fake import a_scenario

Meanwhile = Callable[[Living, random.Random], None]
Damage = Callable[[Path, random.Random], None]

SLICE_S = 0.01
YEAR_S = 365 * DAY_S


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    server = Living(tmp_path / "data", Settings(slice_s=SLICE_S))
    yield server
    server.close()


def wait_by_chance(chance: random.Random) -> None:
    threading.Event().wait(chance.uniform(0.02, 0.8))


class Trouble(NamedTuple):
    """How a server is ended, and what happens before it is started again."""

    end: Callable[[Living], None]
    meanwhile: Meanwhile = lambda server, chance: None


def unfinished_logs(server: Living) -> list[Path]:
    """The logs of the runs that the server did not come to finish."""
    with closing(sqlite3.connect(server.data_dir / "register.db")) as register:
        open_ones = "SELECT log FROM simulations WHERE NOT ended AND log IS NOT NULL"
        logs = [log for (log,) in register.execute(open_ones)]
    return [server.data_dir / "logs" / str(log) / "faults.log" for log in logs]


def damage(server: Living, chance: random.Random, how: Damage) -> None:
    for path in unfinished_logs(server):
        if path.exists():
            how(path, chance)


def flip_a_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut_off(path: Path, chance: random.Random) -> None:
    """Cut the log, its index, or both."""
    for each in chance.sample([path, path.with_suffix(".index")], chance.randint(1, 2)):
        if each.exists():
            content = each.read_bytes()
            each.write_bytes(content[: chance.randrange(len(content) + 1)])


def set_clock(server: Living, chance: random.Random) -> None:
    """Set the machine's clock back, and let it jump by years while the next server lives.

    A clock that is ahead when a server starts cannot be told from time that has passed.
    """
    behind_s = server.settings.wall_behind_s + chance.uniform(0, YEAR_S)
    server.settings = replace(server.settings, wall_behind_s=behind_s, wall_jumps_s=3 * YEAR_S)


TROUBLES = {
    "SIGKILL": Trouble(Living.kill),
    "SIGTERM": Trouble(Living.terminate),
    "a flipped bit": Trouble(Living.kill, partial(damage, how=flip_a_bit)),
    "a truncated file": Trouble(Living.kill, partial(damage, how=cut_off)),
    "a clock that jumps": Trouble(Living.kill, set_clock),
}


def require_nothing_is_lost(server: Living, what: str, times: int) -> None:
    """Let clients work while there is trouble, and then compare everything."""
    trouble, chance, interrupted = TROUBLES[what], random.Random(what), 0
    server.start()
    with Crowd(server.address, seed=times) as crowd:
        for _ in range(times):
            wait_by_chance(chance)
            trouble.end(server)
            interrupted += len(unfinished_logs(server))
            trouble.meanwhile(server, chance)
            server.start()
            crowd.require_nobody_failed()
    works = crowd.done()
    with Client.connect(server.address) as client:
        simulations = require_all_is_there(client, works)
        seed_of_digest = digests(client)
        assert not any(each.log_expired for each in client.list_simulations(page_size=1000))
    server.terminate()
    logs = require_logs_are_whole(server.data_dir, seed_of_digest)
    tell(
        f"trouble of {what}",
        times=times,
        runs_interrupted=interrupted,
        simulations=simulations,
        whole_logs=logs,
        events_streamed=sum(work.events for work in works),
        lost_or_doubled=0,
    )

    assert interrupted > times / 2, "it came when little was under way"


def digests(client: Client) -> dict[str, int]:
    """Return which digest is that of which seed."""
    return {
        client.create_simulation(a_scenario(seed=seed), validate_only=True).digest: seed
        for seed in range(1, SEEDS + 1)
    }


def test_a_server_that_is_killed_loses_nothing(living: Living) -> None:
    require_nothing_is_lost(living, "SIGKILL", times=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "times"),
    [
        ("SIGKILL", 100),
        ("SIGTERM", 50),
        ("a flipped bit", 30),
        ("a truncated file", 30),
        ("a clock that jumps", 30),
    ],
)
def test_whatever_happens_again_and_again_nothing_is_lost(
    living: Living, what: str, times: int
) -> None:
    require_nothing_is_lost(living, what, times)


def test_a_run_whose_server_is_killed_again_and_again_ends_when_it_is_left_alone(
    living: Living,
) -> None:
    """Each life is long enough for some rows, and each begins the run again."""
    living.start()
    with Client.connect(living.address) as client:
        run = client.submit(a_scenario(seed=99))
        for _ in range(2):
            stream = client.stream_events(run.name)
            next(stream)
            stream.close()
            living.kill()
            living.start()

        require_rows(dict(FaultEvents.concat(run.events()).columns()), seed=99)


def read_with_client(address: str, seed: int) -> FaultEvents:
    with Client.connect(address) as client, client.submit(a_scenario(seed=seed)) as run:
        return FaultEvents.concat(run.events())


def read_with_async_client(address: str, seed: int) -> FaultEvents:
    async def read() -> FaultEvents:
        async with faultlane.AsyncClient.connect(address) as client:
            run = await client.run(a_scenario(seed=seed))
            batches = [batch async for batch in run.events()]
            assert (await run.result()).progress.fault_rows == sum(map(len, batches))
            return FaultEvents.concat(batches)

    return asyncio.run(read())


def test_both_clients_read_on_by_themselves(living: Living) -> None:
    """Nothing but a run is asked for: what happens to the server is not the reader's business."""
    living.start()
    ways = {97: read_with_client, 98: read_with_async_client}
    with ThreadPoolExecutor(len(ways)) as pool:
        reading = {seed: pool.submit(way, living.address, seed) for seed, way in ways.items()}
        for number in range(2):
            wait_by_chance(random.Random(number))
            living.kill()
            living.start()
        for seed, read in reading.items():
            require_rows(dict(read.result().columns()), seed)
