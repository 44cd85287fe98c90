"""A run of 10^8 faults, of which nothing but the summary is kept, through the server as it is."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL

import grpc
import pytest

import faultlane
from faultlane import Client, Run
from faultlane import v1 as pb
from tests.reliability.figures import resident_mib, tell
from tests.serving import LOADING_S_MAX, serving, wait_until_it_serves

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LOADING_S_MAX)]

FAULTS = 100_000_000
THREADS, PAGES = 1000, 256
LOOK_S = 0.5
CANCELS = 30
CANCEL_S_MAX = 0.1
GROWTH_MIB_MAX = 8.0


def a_scenario_of(faults: int) -> pb.Scenario:
    """Threads write to pages and give them back, again and again: each write is a fault."""
    length = f"{PAGES * 4}KiB"
    write = {
        "touch": {
            "vma": "heap",
            "sequential": {"divided": True},
            "access": "ACCESS_WRITE",
            "count": PAGES,
        }
    }
    give_back = {
        "madvise": {
            "vma": "heap",
            "advice": "MADVICE_DONTNEED",
            "length_bytes": length,
            "thread_offset_bytes": length,
        }
    }
    loop = {"count": -(-faults // (THREADS * PAGES)), "steps": [write, give_back]}
    return faultlane.scenario_from(
        {
            "workload": {
                "processes": [
                    {
                        "name": "app",
                        "vmas": [
                            {
                                "name": "heap",
                                "length_bytes": f"{THREADS * PAGES * 4}KiB",
                                "anonymous": {},
                                "protection": ["PROTECTION_READ", "PROTECTION_WRITE"],
                            }
                        ],
                        "groups": [
                            {
                                "name": "writers",
                                "threads": THREADS,
                                "program": [{"loop": loop}],
                            }
                        ],
                    }
                ]
            },
            "machine": {"arch": "x86", "cpus": 64},
            "kernel": {"policy_id": "mainline"},
            "recording": {"kind": "RECORDING_KIND_SUMMARY_ONLY"},
            "horizon_ns": "1000000s",
        }
    )


@contextmanager
def a_server() -> Iterator[tuple[int, Client]]:
    """The server of everybody, with one worker."""
    with serving("--workers", "1", stderr=DEVNULL) as (process, address):
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
        with Client.connect(address) as client:
            yield process.pid, client


def memory_until_the_end(run: Run, pid: int) -> list[float]:
    """Return what the server takes from time to time, from a tenth of the run on."""
    found: list[float] = []

    def look(simulation: pb.Simulation) -> None:
        if simulation.progress.faults > FAULTS // 10:
            found.append(resident_mib(pid))

    run.wait(on_progress=look)
    return found


def test_a_hundred_million_faults_take_no_more_memory_than_ten() -> None:
    with a_server() as (pid, client):
        before_mib = resident_mib(pid)
        began_s = time.perf_counter()
        run = client.submit(a_scenario_of(FAULTS))
        found_mib = memory_until_the_end(run, pid)
        took_s = time.perf_counter() - began_s
        ended = run.simulation
    tell(
        "a run of a hundred million faults",
        faults=ended.progress.faults,
        seconds=took_s,
        faults_a_second=ended.progress.faults / took_s,
        MiB_before=before_mib,
        MiB_at_a_tenth=found_mib[0],
        MiB_at_the_end=found_mib[-1],
        MiB_at_most=max(found_mib),
        looks=len(found_mib),
    )

    assert ended.state == pb.SimulationState.SIMULATION_STATE_SUCCEEDED
    assert ended.progress.faults >= FAULTS
    assert ended.progress.fault_rows == 0
    assert max(found_mib) - found_mib[0] < GROWTH_MIB_MAX
    assert len(found_mib) > 20, "looked too rarely to see anything"


def test_it_is_cancelled_within_a_tenth_of_a_second_at_any_point() -> None:
    """While it is queued, while its threads are laid out, and in every part of its program."""
    chance = random.Random(3)
    took_s: list[float] = []
    points: list[int] = []
    with a_server() as (_, client):
        for number in range(CANCELS):
            name = client.submit(a_scenario_of(FAULTS)).name
            threading.Event().wait(chance.uniform(0, 3) if number % 3 else chance.uniform(0, 0.3))
            began_s = time.perf_counter()
            ended = client.cancel_simulation(name)
            took_s.append(time.perf_counter() - began_s)
            points.append(ended.progress.faults)
            assert ended.state == pb.SimulationState.SIMULATION_STATE_CANCELLED
            assert client.get_simulation(name).state == ended.state
    tell(
        "cancelling it",
        times=len(took_s),
        at_faults=f"{min(points)} to {max(points)}",
        slowest_ms=max(took_s) * 1e3,
        mean_ms=sum(took_s) / len(took_s) * 1e3,
    )

    assert max(took_s) < CANCEL_S_MAX
    assert min(points) == 0, "none was cancelled before its first fault"
    assert max(points) > 10**6
