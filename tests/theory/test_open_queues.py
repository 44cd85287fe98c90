"""A device whose reads come at random is M/M/c or M/G/1, whose waits are known exactly.

One CPU that is never idle is a source without memory: threads compute there for an exponential
time, then touch a page that nobody has touched before, and reads come as a Poisson process
whatever the scheduler does. With c channels that take an exponential time of mean S, at a load of
rho = S / (c A), a read is at the device for

    S + C S / (c (1 - rho)),  with Erlang's C for the chance that it finds all channels busy

(Erlang 1917; Kleinrock, Queueing Systems I, 3.5). With one channel and any law of S it is there for

    S + E[S**2] / (2 A (1 - rho))

(Pollaczek 1930 and Khinchine 1932; Kleinrock I, 5.6). The CPU idles when all threads are at the
device: with 64 of them and rho of at most 3/4 for 1e-8 of the time.
"""

from math import exp, factorial

import pytest

from faultlane_server.codes import Advice
from faultlane_server.machines import COSTS
from faultlane_server.scenario import (
    Compute,
    Duration,
    Exponential,
    Fixed,
    LogNormal,
    Loop,
    Quantile,
    Quantiles,
    Sequential,
    Touch,
)
from tests.a_scenario import a_scenario
from tests.engine.some_runs import run
from tests.theory.net import agrees

RUNS = 12
THREADS = 64
MEAN_NS = 100_000  # of a read
QUICK = 0.02  # of the theory's value: how wide the net may be
LONG = 0.005

QUEUES = [(1, 0.5, 100_000), (4, 0.75, 200_000), (8, 0.5, 30_000)]  # channels, load, reads

LAW_READS = 100_000
SIGMA = 0.7


def log_normal(sigma: float) -> LogNormal:
    return LogNormal(round(MEAN_NS * exp(-(sigma**2) / 2)), round(sigma * 1e6))


LAWS: dict[str, tuple[Duration, float]] = {  # with E[S**2] / S**2
    "fixed": (Fixed(MEAN_NS), 1.0),
    "exponential": (Exponential(MEAN_NS), 2.0),
    "log-normal": (log_normal(SIGMA), exp(SIGMA**2)),
    "nine short ones and a long one": (
        Quantiles(
            (
                Quantile(0, MEAN_NS // 2),
                Quantile(900_000, MEAN_NS // 2),
                Quantile(900_001, MEAN_NS * 11 // 2),
                Quantile(1_000_000, MEAN_NS * 11 // 2),
            )
        ),
        0.9 * 0.5**2 + 0.1 * 5.5**2,
    ),
}


def busy_chance(channels: int, rho: float) -> float:
    """Return Erlang's C."""
    load = channels * rho
    all_busy = load**channels / factorial(channels) / (1 - rho)
    return all_busy / (sum(load**k / factorial(k) for k in range(channels)) + all_busy)


def stay_ns_in_theory(channels: int, rho: float) -> float:
    return MEAN_NS * (1 + busy_chance(channels, rho) / (channels * (1 - rho)))


def stay_ns_with_one_channel(rho: float, second_moment: float) -> float:
    """Return how long a read stays; its second moment is in units of the squared mean."""
    return MEAN_NS * (1 + rho * second_moment / (2 * (1 - rho)))


def mean_stays_ns(channels: int, rho: float, reads: int, law: Duration) -> list[float]:
    """Simulate threads that compute in turn and read pages, and cost nothing else."""
    between_ns = round(MEAN_NS / channels / rho)
    turns = 2 * reads // THREADS
    program = (Loop(turns, (Compute(Exponential(between_ns)), Touch("data", Sequential(True)))),)
    means = []
    for seed in range(RUNS):
        faults = run(
            a_scenario(
                readers=THREADS,
                program=program,
                file_pages=THREADS * turns,
                advice=Advice.RANDOM,
                fault_around_bytes=4096,
                cpus=1,
                costs_ns=dict.fromkeys(COSTS, 0),
                latency=law,
                channels=channels,
                seed=seed,
                warmup_ns=100 * MEAN_NS,
                horizon_ns=reads * between_ns,
            )
        ).faults
        ended = faults["finished"] == 1
        assert (faults["reads"][ended] == 1).all()
        means.append(float(faults["wait_device_ns"][ended].mean()))
    return means


def test_with_one_channel_and_exponential_reads_both_formulas_are_the_same():
    assert stay_ns_in_theory(1, 0.5) == pytest.approx(stay_ns_with_one_channel(0.5, 2.0))


@pytest.mark.parametrize(("channels", "rho", "reads"), QUEUES)
def test_reads_that_come_at_random_stay_as_long_as_theory_says(channels, rho, reads):
    stays_ns = mean_stays_ns(channels, rho, reads, Exponential(MEAN_NS))

    assert agrees(stays_ns, stay_ns_in_theory(channels, rho), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "rho", "reads"), QUEUES)
def test_and_to_half_a_per_cent_if_there_are_many_of_them(channels, rho, reads):
    stays_ns = mean_stays_ns(channels, rho, 10 * reads, Exponential(MEAN_NS))

    assert agrees(stays_ns, stay_ns_in_theory(channels, rho), LONG)


@pytest.mark.parametrize(("channels", "rho", "reads"), QUEUES)
def test_the_net_catches_reads_that_take_two_per_cent_longer(channels, rho, reads):
    stays_ns = mean_stays_ns(channels, rho, reads, Exponential(MEAN_NS * 102 // 100))

    assert not agrees(stays_ns, stay_ns_in_theory(channels, rho), QUICK)


def test_the_net_catches_one_channel_of_eight_that_is_missing():
    channels, rho, reads = QUEUES[-1]
    stays_ns = mean_stays_ns(
        channels - 1, rho * channels / (channels - 1), reads, Exponential(MEAN_NS)
    )

    assert not agrees(stays_ns, stay_ns_in_theory(channels, rho), QUICK)


@pytest.mark.parametrize("law", LAWS)
def test_whatever_the_law_of_a_device_its_second_moment_says_how_long_reads_stay(law):
    latency, second_moment = LAWS[law]
    stays_ns = mean_stays_ns(1, 0.5, LAW_READS, latency)

    assert agrees(stays_ns, stay_ns_with_one_channel(0.5, second_moment), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_and_it_says_so_to_half_a_per_cent_if_there_are_many_of_them(law):
    latency, second_moment = LAWS[law]
    stays_ns = mean_stays_ns(1, 0.5, 15 * LAW_READS, latency)

    assert agrees(stays_ns, stay_ns_with_one_channel(0.5, second_moment), LONG)


def test_the_net_catches_a_law_of_the_same_mean_that_is_a_little_wider():
    stays_ns = mean_stays_ns(1, 0.5, LAW_READS, log_normal(SIGMA * 1.05))

    assert not agrees(stays_ns, stay_ns_with_one_channel(0.5, exp(SIGMA**2)), QUICK)
