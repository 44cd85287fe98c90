"""A real disk that becomes full or read-only: what cannot be kept is refused or fails, no more."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultlane import Client, FaultEvents
from tests.reliability.crowd import Crowd, require_all_is_there, require_rows
from tests.reliability.figures import tell
from tests.reliability.living import Living
from tests.reliability.server import Settings
from tests.reliability.small_disk import SmallDisk, small_disk
from tests.reliability.test_kills import SLICE_S, wait_by_chance

pytestmark = pytest.mark.slow

TIMES = 25
READ_AGAIN = 8  # one of so many is read from its log again
DISK_MIB = 1500


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_MIB) as disk:
        yield disk


@pytest.fixture
def living(disk: SmallDisk) -> Iterator[Living]:
    server = Living(disk.path / "data", Settings(slice_s=SLICE_S), disk.within)
    yield server
    server.close()


def test_a_disk_that_is_full_again_and_again_loses_nothing_that_was_accepted(
    living: Living, disk: SmallDisk
) -> None:
    """What runs meanwhile fails, with the rows so far; what is accepted is accepted for good."""
    chance = random.Random(5)
    living.start()
    with Crowd(living.address, may_fail=True) as crowd:
        for _ in range(TIMES):
            wait_by_chance(chance)
            disk.fill()
            wait_by_chance(chance)
            disk.free()
            crowd.require_nobody_failed()
    works = crowd.done()
    with Client.connect(living.address) as client:
        simulations = require_all_is_there(client, works, may_fail=True)
        accepted = [each for work in works for each in work.seed_of.items()]
        for name, seed in accepted[::READ_AGAIN]:
            parts = client.stream_events(name)
            events = FaultEvents.concat(FaultEvents.from_message(part.faults) for part in parts)
            require_rows(dict(events.columns()), seed, len(events))
            assert len(events) == client.get_simulation(name).progress.fault_rows
    failed = sum(work.failed for work in works)
    tell(
        "a disk that was full",
        times=TIMES,
        simulations=simulations,
        failed_with_STORAGE=failed,
        refusals=sum(work.away for work in works),
        events_streamed=sum(work.events for work in works),
        wrong=0,
    )

    assert 0 < failed < simulations


def test_a_server_does_not_start_on_a_read_only_disk_and_damages_nothing(
    living: Living, disk: SmallDisk
) -> None:
    living.start()
    with Crowd(living.address) as crowd:
        wait_by_chance(random.Random(1))
        living.kill()
        disk.set_read_only(read_only=True)
        before = disk.files()

        command = [sys.executable, "-m", "faultlane_server", "serve", "--port", "0"]
        refused = subprocess.run(
            [*disk.within, *command, "--data-dir", str(living.data_dir)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert refused.returncode == 1
        assert f"cannot use {living.data_dir}: Read-only file system" in refused.stderr
        assert disk.files() == before
        disk.set_read_only(read_only=False)
        living.start()
        threading.Event().wait(0.5)
    with Client.connect(living.address) as client:
        assert require_all_is_there(client, crowd.done()) > 0
