"""Reading smaps of a large process takes as long as was published, nearly.

One figure is fitted (ncabatoff/process-exporter#246): smaps_rollup of a process of 200 GB takes
4.475 s, which is `smaps_page`, 85 ns for a page. Predicted is what its author expects of a process
of 4 GB, 100 ms; it is read in 89, a gap of 11 per cent. Both are taken for powers of two.
"""

import pytest

from faultlane_server.scenario import (
    AnonymousMapping,
    Kernel,
    Machine,
    Process,
    ReadSmaps,
    Scenario,
    ThreadGroup,
    Vma,
    Workload,
    check,
)
from tests.engine.some_runs import run

PAGE = 4096
GIB = 1 << 30


def read_ns(length_bytes: int) -> int:
    """Simulate one read, and return how long it takes."""
    memory = Vma("heap", length_bytes // PAGE * PAGE, AnonymousMapping())
    app = Process("app", (memory,), (ThreadGroup("reader", 1, (ReadSmaps(),)),))
    scenario = Scenario(Workload((app,)), Machine("x86", 1), Kernel(), horizon_ns=10**12)
    [duration_ns] = run(check(scenario)).operations["duration_ns"]
    return int(duration_ns)


def test_what_is_fitted_fits():
    """A quarter of the process, since a simulated one has no more than 16 million pages."""
    assert read_ns(50 * GIB) == pytest.approx(4_475_000_000 / 4, rel=0.01)


def test_a_smaller_process_is_read_a_little_sooner_than_was_expected():
    gap = read_ns(4 * GIB) / 100_000_000 - 1

    assert -0.13 < gap < -0.09
