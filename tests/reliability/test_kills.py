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
from dataclasses import replace
from functools import partial
from pathlib import Path

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

Trouble = Callable[[Living, random.Random], None]
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


def kill(server: Living, chance: random.Random) -> None:
    server.kill()
    server.start()


def terminate(server: Living, chance: random.Random) -> None:
    server.terminate()
    server.start()


def damage(server: Living, chance: random.Random, how: Damage) -> None:
    """Kill it, and damage the logs that it did not come to finish."""
    server.kill()
    with sqlite3.connect(server.data_dir / "register.db") as register:
        open_ones = "SELECT log FROM simulations WHERE NOT ended AND log IS NOT NULL"
        logs = [log for (log,) in register.execute(open_ones)]
    register.close()
    for log in logs:
        path = server.data_dir / "logs" / str(log) / "faults.log"
        if path.exists():
            how(path, chance)
    server.start()


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
    """Kill it, and set the machine's clock back; while it lives the clock jumps by years."""
    server.kill()
    behind_s = chance.uniform(0, 3 * YEAR_S)
    server.settings = replace(server.settings, wall_behind_s=behind_s, wall_jumps_s=YEAR_S)
    server.start()


TROUBLES: dict[str, Trouble] = {
    "SIGKILL": kill,
    "SIGTERM": terminate,
    "a flipped bit": partial(damage, how=flip_a_bit),
    "a truncated file": partial(damage, how=cut_off),
    "a clock that jumps": set_clock,
}


def require_nothing_is_lost(server: Living, trouble: Trouble, times: int, seed: int) -> None:
    """Let clients work while there is trouble, and then compare everything."""
    chance = random.Random(seed)
    server.start()
    with Crowd(server.address, seed=seed) as crowd:
        for _ in range(times):
            wait_by_chance(chance)
            trouble(server, chance)
            crowd.require_nobody_failed()
    works = crowd.done()
    with Client.connect(server.address) as client:
        simulations = require_all_is_there(client, works)
        seed_of_digest = digests(client)
        assert not any(each.log_expired for each in client.list_simulations(page_size=1000))
    server.terminate()
    logs = require_logs_are_whole(server.data_dir, seed_of_digest)
    assert sum(work.away for work in works) > 0 or times < 20, "nobody noticed any of it"
    tell(
        "trouble with a server",
        times=times,
        simulations=simulations,
        whole_logs=logs,
        events_streamed=sum(work.events for work in works),
        lost_or_doubled=0,
    )


def digests(client: Client) -> dict[str, int]:
    """Return which digest is that of which seed."""
    return {
        client.create_simulation(a_scenario(seed=seed), validate_only=True).digest: seed
        for seed in range(1, SEEDS + 1)
    }


def test_a_server_that_is_killed_loses_nothing(living: Living) -> None:
    require_nothing_is_lost(living, kill, times=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "times"),
    [
        ("SIGKILL", 100),
        ("SIGTERM", 100),
        ("a flipped bit", 40),
        ("a truncated file", 40),
        ("a clock that jumps", 40),
    ],
)
def test_whatever_happens_again_and_again_nothing_is_lost(
    living: Living, what: str, times: int
) -> None:
    require_nothing_is_lost(living, TROUBLES[what], times, seed=len(what))


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
            kill(living, random.Random())
        for seed, read in reading.items():
            require_rows(dict(read.result().columns()), seed)
