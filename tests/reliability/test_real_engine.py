"""A run of the real engine that its server did not live to end is the run it would have been."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

import faultlane
from faultlane import FaultEvents, OperationEvents
from faultlane import v1 as pb
from tests.reliability.figures import tell
from tests.serving import LOADING_S_MAX, serving, wait_until_it_serves

pytestmark = pytest.mark.timeout(2 * LOADING_S_MAX)

MOMENTS = (1, 80_000, 200_000)  # after how many faults that were read a server ends
FAULTS_LEAST = 350_000  # so that there is something left then


def a_long_scenario() -> pb.Scenario:
    """Readers of a file that does not fit into memory, beside a thread that maps and unmaps."""
    steps = {
        "touch": {"touch": {"vma": "map", "uniform": {}, "count": 200_000}},
        "mmap": {"mmap": {"name": "new", "length_bytes": "64KiB"}},
        "munmap": {"munmap": {"vma": "new"}},
        "sleep": {"sleep": {"duration": {"exponential_mean_ns": "200us"}}},
    }
    readers = {"name": "readers", "threads": 4, "program": [steps["touch"]]}
    pairs = {"loop": {"steps": [steps["mmap"], steps["munmap"], steps["sleep"]]}}
    mapper = {"name": "mapper", "threads": 1, "daemon": True, "program": [pairs]}
    return faultlane.scenario_from(
        {
            "workload": {
                "files": [{"name": "data", "size_bytes": "64MiB", "device": "disk"}],
                "processes": [
                    {
                        "name": "app",
                        "vmas": [
                            {
                                "name": "map",
                                "length_bytes": "64MiB",
                                "advice": "ADVICE_RANDOM",
                                "file": {"file": "data"},
                            }
                        ],
                        "groups": [readers, mapper],
                    }
                ],
            },
            "machine": {
                "arch": "x86",
                "cpus": 4,
                "memory_bytes": "32MiB",
                "devices": [{"name": "disk", "latency": {"exponential_mean_ns": "100us"}}],
            },
            "kernel": {"policy_id": "rfc", "fault_around_bytes": 4096},
            "horizon_ns": "1000s",
        }
    )


@contextmanager
def living_in(directory: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A server that has loaded its kernels."""
    with serving("--data-dir", str(directory), "--port", str(port)) as (process, address):
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_whose_server_ends_is_the_same_to_the_last_byte(
    tmp_path: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with faultlane.Client.connect(f"127.0.0.1:{port}") as client:
        read: list[FaultEvents] = []
        cut = None
        for moment in MOMENTS:
            with living_in(tmp_path / "one", port) as process:
                cut = cut or client.submit(a_long_scenario())
                faults = cut.events()
                while sum(map(len, read)) < moment:
                    read.append(next(faults))
                process.send_signal(number)
                process.wait(30)
        assert cut is not None
        assert not cut.ended
        with living_in(tmp_path / "one", port):
            after_cut = FaultEvents.concat([*read, *faults])
            operations = OperationEvents.concat(cut.operations())
            summary = cut.summary
        with living_in(tmp_path / "two", port):
            whole = client.run(a_long_scenario())
            undisturbed = FaultEvents.concat(whole.events())
            undisturbed_operations = OperationEvents.concat(whole.operations())

    tell(
        f"a run of the real engine, ended by {number.name}",
        times=len(MOMENTS),
        faults=len(undisturbed),
        operations=len(undisturbed_operations),
        different_bytes=0,
    )
    assert len(undisturbed) > FAULTS_LEAST
    assert bytes_of(after_cut) == bytes_of(undisturbed)
    assert bytes_of(operations) == bytes_of(undisturbed_operations)
    assert summary.fingerprint == whole.summary.fingerprint


def bytes_of(events: FaultEvents | OperationEvents) -> dict[str, bytes]:
    return {
        name: np.ascontiguousarray(column).tobytes() for name, column in events.columns().items()
    }
