"""What is kept of a simulation as text, the clock that dates it, and the line that it waits in."""

import json
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultlane_server.codes import StopReason
from faultlane_server.runs import Clock, Simulation
from faultlane_server.runs.clock import moment_of, ns_of
from faultlane_server.runs.job import Job
from faultlane_server.runs.plain import record_of, text_of
from faultlane_server.runs.queue import FairQueue
from faultlane_server.summary import Summary
from tests.service.fake import SUMMARY, Steady


def test_a_summary_is_the_same_after_it_was_text() -> None:
    for summary in (SUMMARY, replace(SUMMARY, diagnosis=None, latencies=(), metrics={})):
        assert record_of(Summary, text_of(summary)) == summary


class Edge(NamedTuple):
    waits: str
    ns: int


@dataclass(frozen=True)
class Shapes:
    """What a figure may be made of."""

    edges: tuple[Edge, ...]
    pair: tuple[str, float]
    stop: StopReason
    by_name: dict[str, tuple[int, ...]]
    maybe: Edge | None


@pytest.mark.parametrize("maybe", [None, Edge("c", 1)])
def test_figures_of_any_shape_are_the_same_after_they_were_text(maybe: Edge | None) -> None:
    shapes = Shapes((Edge("a", 2**63),), ("b", 0.5), StopReason.FINISHED, {"d": (1, 2)}, maybe)

    assert record_of(Shapes, text_of(shapes)) == shapes
    assert record_of(Shapes, "{}").pair == ("", 0.0)


def test_numbers_keep_their_last_digit() -> None:
    summary = replace(SUMMARY, fingerprint=2**64 - 1, metrics={"a": 0.1 + 0.2, "b": 5e-324})

    assert record_of(Summary, text_of(summary)) == summary


def test_what_an_earlier_version_did_not_write_is_empty() -> None:
    text = json.dumps({"stop": 2, "end_ns": 5, "locks": [{"lock": "mmap_lock"}], "gone": [1]})

    summary = record_of(Summary, text)

    assert (summary.stop, summary.end_ns, summary.latencies) == (StopReason.FINISHED, 5, ())
    assert (summary.locks[0].lock, summary.locks[0].acquired) == ("mmap_lock", 0)
    assert summary.diagnosis is None
    assert (summary.blame.edges, summary.blame.locks_left_out.waits) == ((), 0)
    assert (summary.retries.kinds, summary.retries.longest) == ((), None)


@given(st.integers(0, 4 * 10**18))
def test_a_moment_is_the_same_after_it_was_a_number(ns: int) -> None:
    kept_ns = ns_of(moment_of(ns))

    assert kept_ns == ns - ns % 1000
    assert moment_of(kept_ns) == moment_of(ns)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(-(10**18), 10**18)), max_size=20))
def test_a_clock_goes_on_with_time_whatever_the_machine_is_set_to(
    turns: list[tuple[int, int]],
) -> None:
    time = Steady()
    clock = time.clock()
    begin_ns, passed_ns = clock.now_ns(), 0
    for step_ns, jump_ns in turns:
        time.steady_ns += step_ns
        time.wall_ns += jump_ns
        passed_ns += step_ns
        assert clock.now_ns() == begin_ns + passed_ns


def test_a_clock_goes_on_from_what_it_told_before() -> None:
    clock = Clock(lambda: 5_000_000_000, lambda: 7)

    assert clock.not_before(8_000_000_000) == 3.0
    assert clock.now_ns() == 8_000_000_000
    assert clock.not_before(6_000_000_000) == 0.0
    assert clock.now_ns() == 8_000_000_000


@dataclass
class NaiveQueue:
    """Owners in a ring; whoever has nothing that may run is passed over and keeps his place."""

    def __post_init__(self) -> None:
        self.ring: deque[str] = deque()
        self.lines: dict[str, list[Job]] = defaultdict(list)

    def push(self, job: Job) -> None:
        owner = job.simulation.owner
        if owner not in self.ring:
            self.ring.append(owner)
        self.lines[owner].append(job)

    def pop(self, blocked: str) -> Job | None:
        for owner in list(self.ring):
            for job in self.lines[owner]:
                if job.simulation.digest != blocked:
                    self.lines[owner].remove(job)
                    self.ring.remove(owner)
                    if self.lines[owner]:
                        self.ring.append(owner)
                    return job
        return None


def a_job(owner: str, digest: str) -> Job:
    simulation = Simulation("", owner, b"", digest, 7, 1)
    return Job(simulation, lambda _: None, Clock())  # type: ignore[arg-type, return-value]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")),
            st.sampled_from("wxyz"),
        ),
        max_size=60,
    )
)
def test_the_queue_agrees_with_the_naive_one(turns: list[tuple[str, str] | str]) -> None:
    """A pair is pushed; a letter is a digest that may not run when the next one is taken out."""
    queue, naive = FairQueue(), NaiveQueue()
    for turn in turns:
        if isinstance(turn, tuple):
            job = a_job(*turn)
            queue.push(job)
            naive.push(job)
        else:
            blocked = turn

            def may_run(job: Job, blocked: str = blocked) -> bool:
                return job.simulation.digest != blocked

            assert queue.pop(may_run) is naive.pop(blocked)
        assert len(queue) == sum(map(len, naive.lines.values()))
