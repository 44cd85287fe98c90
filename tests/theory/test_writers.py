"""Writers alone are the machine-repair queue M/D/1//N, whose waits are known exactly.

N threads sleep for an exponential time of mean Z, then hold mmap_lock for write for a time S.
Whoever waits spins on a CPU of its own, so the lock is handed on at once. With phi as the
Laplace transform of the hold, the lock passes on average

    E = sum over r < N of binomial(N - 1, r) * product over i = 1..r of (1 - phi(i/Z)) / phi(i/Z)

times through a thread's hands before it is idle again, so it is idle for a part of
1 / (1 + N E S / Z) of the time (Takacs, Introduction to the Theory of Queues, 1962, chapter 5;
for a hold of constant length Ashcroft, J. R. Stat. Soc. B 12, 1950). It is handed on at the rate
(1 - idle) / S, and by Little's law a thread waits N S / (1 - idle) - Z - S.
"""

from collections.abc import Callable
from math import comb, exp, perm, prod

import pytest

from faultlane_server.codes import Protection
from faultlane_server.machines import COSTS
from faultlane_server.scenario import Exponential, Loop, Mprotect, Sleep
from tests.a_scenario import a_scenario
from tests.engine.some_runs import run
from tests.theory.net import agrees

RUNS = 12
HOLD_NS = 20_000
HORIZON_NS = 2_000_000_000
LONG = 0.0025  # of the theory's value: how wide the net may be

QUEUES = [(2, 20_000), (4, 60_000), (16, 200_000)]


def idle_in_theory(
    writers: int, sleep_ns: int, hold_ns: int, phi: Callable[[float], float]
) -> float:
    odds = [(1 - phi(i / sleep_ns)) / phi(i / sleep_ns) for i in range(1, writers)]
    holds = sum(comb(writers - 1, r) * prod(odds[:r]) for r in range(writers))
    return 1 / (1 + writers * holds * hold_ns / sleep_ns)


def wait_ns_in_theory(writers: int, sleep_ns: int, hold_ns: int = HOLD_NS) -> float:
    idle = idle_in_theory(writers, sleep_ns, hold_ns, lambda s: exp(-s * hold_ns))
    return writers * hold_ns / (1 - idle) - sleep_ns - hold_ns


def mean_lock_waits_ns(
    writers: int, sleep_ns: int, hold_ns: int = HOLD_NS, horizon_ns: int = HORIZON_NS
) -> list[float]:
    """Simulate mprotects that change nothing and cost nothing but their hold of mmap_lock."""
    write = Mprotect("data", protection=(Protection.READ,))
    means = []
    for seed in range(RUNS):
        operations = run(
            a_scenario(
                readers=writers,
                program=(Loop(0, (Sleep(Exponential(sleep_ns)), write)),),
                file_pages=1,
                cpus=writers,
                costs_ns={**dict.fromkeys(COSTS, 0), "mprotect": hold_ns},
                seed=seed,
                warmup_ns=20 * sleep_ns,
                horizon_ns=horizon_ns,
            )
        ).operations
        ended = operations["finished"] == 1
        assert (operations["hold_ns"][ended] == hold_ns).all()
        means.append(float(operations["wait_mmap_lock_ns"][ended].mean()))
    return means


@pytest.mark.parametrize(("writers", "sleep_ns"), QUEUES)
def test_with_exponential_holds_the_formula_is_that_of_the_birth_and_death_process(
    writers, sleep_ns
):
    """Which has 1 / idle = sum over k of N! / (N - k)! (S / Z)**k."""
    idle = idle_in_theory(writers, sleep_ns, HOLD_NS, lambda s: 1 / (1 + s * HOLD_NS))

    assert 1 / idle == pytest.approx(
        sum(perm(writers, k) * (HOLD_NS / sleep_ns) ** k for k in range(writers + 1))
    )


def test_one_writer_waits_for_nobody():
    assert wait_ns_in_theory(1, 60_000) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("writers", "sleep_ns"), QUEUES)
def test_writers_wait_as_long_as_theory_says(writers, sleep_ns):
    assert agrees(mean_lock_waits_ns(writers, sleep_ns), wait_ns_in_theory(writers, sleep_ns))


@pytest.mark.slow
@pytest.mark.parametrize(("writers", "sleep_ns"), QUEUES)
def test_and_to_a_quarter_of_a_per_cent_if_there_are_many_waits(writers, sleep_ns):
    waits_ns = mean_lock_waits_ns(writers, sleep_ns, horizon_ns=10 * HORIZON_NS)

    assert agrees(waits_ns, wait_ns_in_theory(writers, sleep_ns), LONG)


@pytest.mark.parametrize(("writers", "sleep_ns"), QUEUES[1:])
def test_the_net_catches_a_writer_that_is_missing(writers, sleep_ns):
    waits_ns = mean_lock_waits_ns(writers - 1, sleep_ns)

    assert not agrees(waits_ns, wait_ns_in_theory(writers, sleep_ns))


@pytest.mark.parametrize(("writers", "sleep_ns"), QUEUES)
def test_the_net_catches_holds_that_are_off_by_two_per_cent(writers, sleep_ns):
    waits_ns = mean_lock_waits_ns(writers, sleep_ns, HOLD_NS * 102 // 100)

    assert not agrees(waits_ns, wait_ns_in_theory(writers, sleep_ns))
