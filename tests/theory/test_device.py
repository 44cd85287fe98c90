"""Threads that only read are the finite-source queue M/M/c//N, whose waits are known exactly.

N threads sleep for an exponential time of mean Z, then touch a page that is nowhere and wait
until it was read by one of c channels, in an exponential time of mean S. k threads are at the
device with a chance proportional to N! / (N - k)! (S / Z)**k / (c! c**(k - c)) for k of at least
c, and with k! in place of the last divisor below that (Kleinrock, Queueing Systems I, 3.8 to
3.10; Gross and Harris, Fundamentals of Queueing Theory, 2.7). By Little's law, of the L threads
that are there on average each stays for L Z / (N - L).
"""

from math import factorial, perm

import pytest

from faultlane_server.codes import Advice
from faultlane_server.machines import COSTS
from faultlane_server.scenario import Exponential, Loop, Sequential, Sleep, Touch
from tests.a_scenario import a_scenario
from tests.engine.some_runs import run
from tests.theory.net import agrees

RUNS = 12
SLEEP_NS = 400_000
READ_NS = 100_000
HORIZON_NS = 50_000_000_000  # divided by the threads, so that each queue sees as many reads

QUEUES = [(4, 1), (16, 2), (24, 6)]


def stay_ns_in_theory(threads: int, channels: int, read_ns: int = READ_NS) -> float:
    weights = [
        perm(threads, there) * (read_ns / SLEEP_NS) ** there / _ways(there, channels)
        for there in range(threads + 1)
    ]
    mean_there = sum(there * weight for there, weight in enumerate(weights)) / sum(weights)
    return mean_there * SLEEP_NS / (threads - mean_there)


def _ways(there: int, channels: int) -> float:
    if there < channels:
        return factorial(there)
    return factorial(channels) * float(channels) ** (there - channels)


def mean_device_waits_ns(threads: int, channels: int, read_ns: int = READ_NS) -> list[float]:
    """Simulate threads that touch pages that nobody has touched before, and cost nothing else."""
    horizon_ns = HORIZON_NS // threads
    turns = 2 * horizon_ns // SLEEP_NS
    program = (
        Loop(turns, (Sleep(Exponential(SLEEP_NS)), Touch("data", Sequential(divided=True)))),
    )
    means = []
    for seed in range(RUNS):
        faults = run(
            a_scenario(
                readers=threads,
                program=program,
                file_pages=threads * turns,
                advice=Advice.RANDOM,
                fault_around_bytes=4096,
                cpus=threads,
                costs_ns=dict.fromkeys(COSTS, 0),
                latency=Exponential(read_ns),
                channels=channels,
                seed=seed,
                warmup_ns=10 * SLEEP_NS,
                horizon_ns=horizon_ns,
            )
        ).faults
        ended = faults["finished"] == 1
        assert (faults["reads"][ended] == 1).all()
        means.append(float(faults["wait_device_ns"][ended].mean()))
    return means


def test_one_thread_waits_for_its_read_alone():
    assert stay_ns_in_theory(1, 1) == pytest.approx(READ_NS)


@pytest.mark.parametrize(("threads", "channels"), QUEUES)
def test_faults_wait_for_a_device_as_long_as_theory_says(threads, channels):
    waits_ns = mean_device_waits_ns(threads, channels)

    assert agrees(waits_ns, stay_ns_in_theory(threads, channels))


def test_the_net_catches_a_device_that_is_off_by_two_per_cent():
    threads, channels = QUEUES[-1]
    waits_ns = mean_device_waits_ns(threads, channels, READ_NS * 102 // 100)

    assert not agrees(waits_ns, stay_ns_in_theory(threads, channels))
