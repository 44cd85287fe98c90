"""Clients that vanish in mid-stream leave nothing behind, and those that stay notice nothing."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faultlane import Client, FaultEvents
from faultlane import v1 as pb
from tests.reliability.figures import resident_mib, tell
from tests.reliability.living import Living
from tests.reliability.server import Settings
from tests.service.fake import a_scenario, rows_of_faults

pytestmark = pytest.mark.slow

TIMES = 20
CLIENTS = 10
SLICES = 1500
PATIENCE_LOOKS = 600
GROWTH_MIB_MAX = 8.0  # of the last three quarters: the first ones fill the pools

AGAIN = pb.RunOptions(skip_cache=True)


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    settings = Settings(slice_s=0.01, slices=SLICES)
    server = Living(tmp_path / "data", settings)
    yield server
    server.close()


def open_logs(server: Living) -> int:
    """How many logs the server has open: a stream has one, with its index."""
    found = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found += link.readlink().name.endswith((".log", ".index"))
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_LOOKS):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")


@contextmanager
def streaming(address: str, name: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of clients that stream a simulation."""
    command = [sys.executable, "-m", "tests.reliability.vanishing", address, name, str(CLIENTS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "streaming\n"
            yield process
        finally:
            process.kill()


def test_clients_that_are_killed_leave_nothing_behind(living: Living) -> None:
    living.start()
    with Client.connect(living.address) as client:
        run = client.submit(a_scenario(), options=AGAIN)
        read = threading.Thread(target=lambda: staying.append(FaultEvents.concat(run.events())))
        staying: list[FaultEvents] = []
        read.start()
        wait_until(lambda: open_logs(living) > 4)  # it is written, and read by the one that stays
        before, memory_mib = open_logs(living), []
        for _ in range(TIMES):
            with streaming(living.address, run.name) as process:
                assert open_logs(living) > before
                process.kill()
                wait_until(lambda: open_logs(living) <= before)
            memory_mib.append(resident_mib(living.pid))
        read.join()
        wait_until(lambda: open_logs(living) == 0)
    tell(
        "clients that are killed in mid-stream",
        clients=TIMES * CLIENTS,
        MiB_after_a_quarter=memory_mib[TIMES // 4],
        MiB_after_the_last=memory_mib[-1],
        logs_open_at_the_end=open_logs(living),
    )

    expected = rows_of_faults(0, SLICES)
    for name, column in staying[0].columns().items():
        assert column.tobytes() == expected[name].tobytes(), name
    assert memory_mib[-1] - memory_mib[TIMES // 4] < GROWTH_MIB_MAX
