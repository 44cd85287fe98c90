"""Page caches under independent references hit as often as Che's approximation says.

Pages are touched independently, page i with a chance p_i, of which a memory cgroup can have C. A
page that is evicted when it has not been touched for a time T is there with a chance of
1 - exp(-p_i T): least recently used. One that stays for a time T whether it is touched or not is
there with a chance of p_i T / (1 + p_i T): first in, first out. In both, T is such that C pages are
there on average (Che, Tung and Wang, IEEE JSAC 20(7), 2002; Fricker, Robert and Roberts, ITC 24,
2012; for FIFO, Gelenbe, IEEE Trans. Computers C-22, 1973).

With MADV_RANDOM no access counts, and both LRUs of the kernel are first in, first out. Otherwise
they come close to the least recently used, which is what they are named after.
"""

from functools import cache

import numpy as np
import pytest

from faultlane_server.codes import Advice, LruKind, Protection, RecordingKind
from faultlane_server.engine import Simulator
from faultlane_server.scenario import (
    Device,
    File,
    FileMapping,
    Fixed,
    Kernel,
    Machine,
    Memcg,
    Process,
    Recording,
    Scenario,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    Zipf,
    check,
)

PAGE = 4096
PAGES = 16_384
CACHED_MAX = 4096
SPARE = 48  # pages that are free on average: reclaim frees 32 and more at once
TOUCHES = 400_000  # in each half of a run; the first one only fills the cache
THETAS = [0.6, 0.9]
OFF_MAX = 0.005  # of the hits, absolute


def chances(theta: float) -> np.ndarray:
    weights = np.arange(1, PAGES + 1, dtype=float) ** -theta
    shares: np.ndarray = weights / weights.sum()
    return shares


def hits_in_theory(theta: float, cached: int, *, is_lru: bool) -> float:
    p = chances(theta)

    def there(time: float) -> np.ndarray:
        return -np.expm1(-p * time) if is_lru else p * time / (1 + p * time)

    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if there(middle).sum() < cached else (low, middle)
    return float((p * there(low)).sum())


@cache
def majors(theta: float, advice: Advice, lru: LruKind, cached_max: int, touches: int) -> int:
    """Return how many of some touches miss the page cache, with nothing read ahead."""
    vma = Vma("data", PAGES * PAGE, FileMapping("data"), 0, (Protection.READ,), advice)
    touch = Touch("data", Zipf(int(theta * 1e6)), count=touches)
    app = Process("app", (vma,), (ThreadGroup("reader", 1, (touch,)),), "limited")
    scenario = Scenario(
        workload=Workload(
            (app,),
            (File("data", PAGES * PAGE, "disk"),),
            (Memcg("limited", max_bytes=cached_max * PAGE),),
        ),
        machine=Machine("x86", 1, devices=(Device("disk", Fixed(1000), readahead_bytes=0),)),
        kernel=Kernel(lru=lru, fault_around_bytes=PAGE),
        horizon_ns=10**13,
        recording=Recording(RecordingKind.SUMMARY_ONLY),
    )
    simulator = Simulator(check(scenario))
    while not simulator.advance():
        pass
    return int(simulator.summary().metrics["vmstat.pgmajfault"])


def hits(theta: float, advice: Advice, lru: LruKind, cached_max: int = CACHED_MAX) -> float:
    """Return the part of the touches that hit in the second half: both runs begin alike."""
    both = majors(theta, advice, lru, cached_max, 2 * TOUCHES)
    first = majors(theta, advice, lru, cached_max, TOUCHES)
    return 1 - (both - first) / TOUCHES


@pytest.mark.parametrize("lru", LruKind)
@pytest.mark.parametrize("theta", THETAS)
def test_pages_whose_accesses_do_not_count_are_first_in_first_out(theta, lru):
    theory = hits_in_theory(theta, CACHED_MAX - SPARE, is_lru=False)

    assert hits(theta, Advice.RANDOM, lru) == pytest.approx(theory, abs=OFF_MAX)


@pytest.mark.parametrize("lru", LruKind)
@pytest.mark.parametrize("theta", THETAS)
def test_pages_whose_accesses_count_are_nearly_least_recently_used(theta, lru):
    theory = hits_in_theory(theta, CACHED_MAX - SPARE, is_lru=True)

    assert hits(theta, Advice.NORMAL, lru) == pytest.approx(theory, abs=OFF_MAX)


@pytest.mark.parametrize("theta", THETAS)
def test_the_net_catches_one_law_for_the_other_and_a_cache_that_is_off_by_five_per_cent(theta):
    fifo = hits_in_theory(theta, CACHED_MAX - SPARE, is_lru=False)
    lru = hits_in_theory(theta, CACHED_MAX - SPARE, is_lru=True)
    larger = hits(theta, Advice.RANDOM, LruKind.CLASSIC, CACHED_MAX * 105 // 100)

    assert lru - fifo > 4 * OFF_MAX
    assert larger != pytest.approx(fifo, abs=OFF_MAX)
