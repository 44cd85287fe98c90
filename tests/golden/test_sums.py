"""The causes and CPU time of an event add up to its duration, and none of them is a remainder.

`Run` asserts it of every event in every golden story; here is shown that it could fail, and that
all causes are measured on their own: each of them is known in a story that was made for it.
"""

from faultlane_server.scenario import Scenario
from tests.golden.story import READ_NS, Run, a_story, adds_up, after, mprotect, one, touch

LATER_NS = 12_345  # how much longer the device takes


def a_pile_up(read_ns: int = READ_NS) -> Scenario:
    """A fault holds its VMA for a read, a writer waits for it, and a fault for both."""
    return a_story(
        one("holder", touch(1)),
        one("mapper", after(100_000), mprotect("data")),
        one("victim", after(200_000), touch(500)),
        policy="hold",
        read_ns=read_ns,
    )


def test_an_event_that_lacks_a_nanosecond_does_not_add_up():
    run = Run(a_pile_up())

    for row in (*run.faults.values(), *run.operations.values()):
        assert adds_up(row)
        for cause in ("cpu_ns", "wait_device_ns", "wait_mmap_lock_ns", "duration_ns"):
            assert not adds_up({**row, cause: row[cause] + 1})


def test_a_slower_device_is_told_under_its_own_cause_and_everybody_waits_for_it():
    """No other cause takes up the difference, which a remainder would."""
    run, slower = Run(a_pile_up()), Run(a_pile_up(READ_NS + LATER_NS))

    holder, victim = (_more(run.faults[n], slower.faults[n]) for n in ("holder", "victim"))
    mapper = _more(run.operations["mapper"], slower.operations["mapper"])
    assert holder == {"wait_device_ns": LATER_NS, "duration_ns": LATER_NS}
    assert mapper == {"wait_vma_ns": LATER_NS, "duration_ns": LATER_NS}
    assert victim["wait_mmap_lock_ns"] == LATER_NS


def _more(row: dict[str, int], slower: dict[str, int]) -> dict[str, int]:
    """Return which causes of an event have become longer, and by how much."""
    names = [name for name in row if name.startswith("wait_") or name in ("cpu_ns", "duration_ns")]
    return {name: slower[name] - row[name] for name in names if slower[name] != row[name]}
