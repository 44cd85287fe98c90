"""The interleavings of mmap_lock again, as whole runs: real faults and writers bring them about.

In these runs nothing costs anything but what a story is about, so that every instant can be
reckoned by hand, in microseconds: a reader that is to take mmap_lock first has an attempt under
the VMA lock (INSIDE) and reads one page with random access (READ), from which it returns under
mmap_lock by every policy of the table. It then holds mmap_lock while it is INSIDE again.

A moment is (since, R, flags, [queue]). The numbers Q1 to Q9 are those of the kernel model.
"""

from dataclasses import dataclass, replace

import pytest

from faultlane_server.codes import Advice
from faultlane_server.machines import COSTS
from faultlane_server.scenario import Scenario, ThreadGroup
from tests.golden.story import (
    Run,
    a_story,
    after,
    moments,
    mprotect,
    munmap_page,
    one,
    touch,
    touch_each,
)

US = 1000
READ = 100
HZ = 1000  # a waiter is expired when the fifth jiffy after it queued begins: after 4 to 5 ms
DRAINED = 250  # when the slow reader leaves `other`


@dataclass(frozen=True)
class Stage:
    """Where the stories are played: what takes time, in microseconds, and by which kernel."""

    policy: str
    arch: str
    generation: str = "6.12"
    inside: int = 100  # of an attempt
    wake: int = 0  # from being woken to running, also when a thread begins
    write: int = 50  # of an mprotect
    zap: int = 300  # of a munmap, after its downgrade

    def reader(self, name: str, at: int, page: int) -> ThreadGroup:
        """Let a thread come to take mmap_lock for read."""
        return one(name, after((at - self.before_reader()) * US), touch(page))

    def readers(self, name: str, count: int, at: int, first_page: int) -> ThreadGroup:
        pages = range(first_page, first_page + 16 * count, 16)
        steps = (after((at - self.before_reader()) * US), touch_each(pages))
        return ThreadGroup(name, count, steps)

    def before_reader(self) -> int:
        """Return how long it takes until a reader comes: it is woken three times."""
        return self.inside + READ + 3 * self.wake

    def writer(self, name: str, at: int) -> ThreadGroup:
        """Let a thread come to take mmap_lock for write."""
        return one(name, after((at - 2 * self.wake) * US), mprotect("other"))

    def draining(self, operation: str, at: int) -> tuple[ThreadGroup, ThreadGroup]:
        """Let a writer come to a reader inside `other`: it sleeps, and others cannot spin on it."""
        step = munmap_page(60, "other") if operation == "munmap" else mprotect("other")
        inside = one("inside", after((DRAINED - self.inside) * US), touch(10, "other"))
        return inside, one("drainer", after(at * US), step)

    def set(self, *cast: ThreadGroup) -> Scenario:
        costs_us = {
            "handle": self.inside,
            "idle_exit": self.wake,
            "mprotect": self.write,
            "munmap_zap": self.zap,
        }
        story = a_story(
            *cast,
            data_pages=8192,
            advice=Advice.RANDOM,
            policy=self.policy,
            arch=self.arch,
            generation=self.generation,
            read_ns=READ * US,
            costs_ns=dict.fromkeys(COSTS, 0) | {name: us * US for name, us in costs_us.items()},
        )
        return replace(story, kernel=replace(story.kernel, hz=HZ))


Told = tuple[float, int, str, list[int]]


def told(scenario: Scenario, since: int = 0) -> list[Told]:
    return [(moment.since_ns / US, *moment[1:]) for moment in moments(scenario, since * US)]


@pytest.fixture(params=["x86", "arm64"])
def arch(request):
    return request.param


@pytest.fixture(params=["mainline", "rfc"])
def stage(request, arch):
    return Stage(request.param, arch)


@pytest.mark.uncompiled_too
def test_q1_a_reader_queues_behind_a_queued_writer(stage):
    _a, _b, w1, c = range(4)
    scenario = stage.set(
        stage.reader("a", at=200, page=100),
        stage.reader("b", at=220, page=200),
        stage.writer("w1", at=240),
        stage.reader("c", at=260, page=300),
    )

    assert told(scenario) == [
        (200, 1, "", []),
        (220, 2, "", []),
        (251, 2, "WAIT NONSPINNABLE", [w1]),  # it has spun for (20 + 2) / 2 us
        (260, 2, "WAIT NONSPINNABLE", [w1, c]),
        (300, 1, "WAIT NONSPINNABLE", [w1, c]),
        (320, 0, "WAIT", [w1, c]),
        (320, 0, "W WAIT", [c]),
        (370, 1, "", []),
        (470, 0, "", []),
    ]
    run = Run(scenario)
    assert run.faults["c"]["wait_mmap_lock_ns"] == 110 * US
    assert run.faults["c"]["blocker"] == w1
    assert run.operations["w1"]["wait_mmap_lock_ns"] == 80 * US
    assert run.faults["a"]["wait_mmap_lock_ns"] == 0
    assert run.faults["b"]["wait_mmap_lock_ns"] == 0


@pytest.mark.uncompiled_too
def test_q2_one_reader_steals_a_free_lock_and_the_next_one_queues(stage):
    stage = replace(stage, wake=5)
    _a, w1, _c, d = range(4)
    scenario = stage.set(
        stage.reader("a", at=215, page=100),
        stage.writer("w1", at=240),
        stage.reader("c", at=317, page=200),
        stage.reader("d", at=318, page=300),
    )

    assert told(scenario) == [
        (215, 1, "", []),
        (250.5, 1, "WAIT NONSPINNABLE", [w1]),
        (315, 0, "WAIT", [w1]),  # woken, and running from 320 on
        (317, 1, "WAIT", [w1]),
        (318, 1, "WAIT", [w1, d]),
        (417, 0, "WAIT", [w1, d]),
        (422, 0, "W WAIT", [d]),
        (472, 1, "", []),  # d holds it before it runs
        (577, 0, "", []),
    ]


@pytest.mark.uncompiled_too
def test_q3a_a_writer_that_spins_on_readers_takes_the_lock_from_the_last_one(stage):
    scenario = stage.set(
        stage.reader("a", at=200, page=100),
        stage.reader("b", at=202, page=200),
        stage.writer("w1", at=295),
    )

    assert told(scenario) == [
        (200, 1, "", []),
        (202, 2, "", []),
        (300, 1, "", []),
        (302, 0, "W", []),
        (352, 0, "", []),
    ]
    assert Run(scenario).operations["w1"]["blocker"] == 1, "the last reader out"


@pytest.mark.uncompiled_too
def test_q3_readers_that_come_while_a_writer_spins_get_in(stage):
    *_readers, w1, _c, d = range(7)
    scenario = stage.set(
        *(stage.reader(f"r{n}", at=200, page=100 * n) for n in range(4)),
        stage.writer("w1", at=240),
        stage.reader("c", at=245, page=500),
        stage.reader("d", at=253, page=600),
    )

    found = told(scenario)
    assert found[4:7] == [
        (245, 5, "", []),
        (252, 5, "WAIT NONSPINNABLE", [w1]),  # (20 + 4) / 2 us: c is not counted
        (253, 5, "WAIT NONSPINNABLE", [w1, d]),
    ]
    assert found[-4:] == [
        (345, 0, "WAIT", [w1, d]),
        (345, 0, "W WAIT", [d]),
        (395, 1, "", []),
        (495, 0, "", []),
    ]


@pytest.mark.uncompiled_too
@pytest.mark.parametrize(("generation", "sleeps_from"), [("6.12", 180.5), ("6.15", 170)])
def test_a_writer_that_spins_on_a_writer_queues_when_that_one_sleeps(
    stage, generation, sleeps_from
):
    """With a rwsem the owner first spins on the VMA's reader itself, for (20 + 1) / 2 us."""
    stage = replace(stage, generation=generation)
    inside, h = stage.draining("munmap", at=130)
    w1 = 3
    scenario = stage.set(
        inside,
        h,
        one("w0", after(120 * US), mprotect("data")),
        stage.writer("w1", at=140),
    )

    assert told(scenario) == [
        (120, 0, "W", []),  # w0, and h from 170 on
        (sleeps_from, 0, "W WAIT", [w1]),
        (250, 1, "WAIT", [w1]),
        (550, 0, "WAIT", [w1]),
        (550, 0, "W", []),
        (600, 0, "", []),
    ]


@pytest.mark.uncompiled_too
def test_q4_spinners_steal_until_the_head_has_waited_too_long(stage):
    stage = replace(stage, wake=5, write=2500)
    _a, w1, *_spinners = range(6)
    scenario = stage.set(
        stage.reader("a", at=215, page=100),
        stage.writer("w1", at=240),
        stage.writer("s1", at=317),
        stage.writer("s2", at=1000),
        stage.writer("s3", at=1500),
        stage.writer("s4", at=6000),
    )

    assert told(scenario) == [
        (215, 1, "", []),
        (250.5, 1, "WAIT NONSPINNABLE", [w1]),
        (315, 0, "WAIT", [w1]),  # woken, and running from 320 on
        (317, 0, "W WAIT", [w1]),  # s1, then s2 from 2817 on and s3 from 5317 on
        (5322, 0, "W WAIT HO", [w1]),  # expired when it is tried, no earlier: there is no timer
        (7817, 0, "W", []),  # w1, and s4 behind it
        (12817, 0, "", []),
    ]
    operations = Run(scenario).operations
    granted = {
        name: (row["start_ns"] + row["duration_ns"] - row["hold_ns"]) / US
        for name, row in operations.items()
    }
    assert granted == {"s1": 317, "s2": 2817, "s3": 5317, "w1": 7817, "s4": 10317}


@pytest.mark.uncompiled_too
def test_q5_after_a_handoff_was_asked_for_readers_do_not_pass_either(stage):
    stage = replace(stage, wake=5, inside=5000)
    _a, w1, _b, c, d = range(5)
    scenario = stage.set(
        stage.reader("a", at=5115, page=100),
        stage.writer("w1", at=5200),
        stage.reader("b", at=10117, page=200),
        stage.reader("c", at=11000, page=300),
        stage.reader("d", at=15119, page=400),
    )

    assert told(scenario) == [
        (5115, 1, "", []),
        (5210.5, 1, "WAIT NONSPINNABLE", [w1]),
        (10115, 0, "WAIT", [w1]),
        (10117, 1, "WAIT", [w1]),  # b, within the latency of the wake-up
        (10120, 1, "WAIT HO", [w1]),
        (11000, 1, "WAIT HO", [w1, c]),
        (15117, 0, "WAIT HO", [w1, c]),
        (15119, 0, "WAIT HO", [w1, c, d]),
        (15122, 0, "W WAIT", [c, d]),
        (15172, 2, "", []),
        (20177, 1, "", []),
        (20177, 0, "", []),
    ]


@pytest.mark.uncompiled_too
def test_q6_a_lock_stolen_from_readers_is_left_to_the_thief(stage):
    stage = replace(stage, write=200)
    _h, r1, _s = range(3)
    scenario = stage.set(
        stage.writer("h", at=150),
        stage.reader("r1", at=200, page=100),
        stage.writer("s", at=250),
    )

    assert told(scenario) == [
        (150, 0, "W", []),
        (200, 0, "W WAIT", [r1]),  # h, and s from 350 on
        (550, 1, "", []),
        (650, 0, "", []),
    ]


@pytest.mark.uncompiled_too
def test_q6_readers_that_waited_too_long_are_robbed_once_more_and_then_no_more(stage):
    stage = replace(stage, write=5000)
    _h, r1, _s, s2 = range(4)
    scenario = stage.set(
        stage.writer("h", at=150),
        stage.reader("r1", at=200, page=100),
        stage.writer("s", at=250),
        stage.writer("s2", at=300),
    )

    assert told(scenario) == [
        (150, 0, "W", []),
        (200, 0, "W WAIT", [r1]),
        (5150, 0, "W WAIT HO", [r1]),  # s
        (10150, 1, "", []),
        (10160.5, 1, "WAIT NONSPINNABLE", [s2]),
        (10250, 0, "WAIT", [s2]),
        (10250, 0, "W", []),
        (15250, 0, "", []),
    ]


@pytest.mark.uncompiled_too
@pytest.mark.parametrize("generation", ["6.12", "6.15"])
class TestQ7:
    def test_a_downgrade_wakes_nobody_if_a_writer_is_at_the_head(self, stage, generation):
        stage = replace(stage, generation=generation)
        inside, h = stage.draining("munmap", at=160)
        _inside, _h, w1, r1, c, _d = range(6)
        scenario = stage.set(
            inside,
            h,
            stage.writer("w1", at=180),
            stage.reader("r1", at=200, page=100),
            stage.reader("c", at=300, page=200),
            one("d", after(400 * US), touch(30, "other")),
        )

        assert told(scenario) == [
            (160, 0, "W", []),
            (180, 0, "W WAIT", [w1]),
            (200, 0, "W WAIT", [w1, r1]),
            (250, 1, "WAIT", [w1, r1]),
            (300, 1, "WAIT", [w1, r1, c]),
            (550, 0, "WAIT", [w1, r1, c]),
            (550, 0, "W WAIT", [r1, c]),
            (600, 2, "", []),
            (700, 1, "", []),
            (700, 0, "", []),
        ]
        self.the_vma_lock_works_from_the_downgrade_on(scenario)

    def test_a_downgrade_lets_in_all_readers_if_a_reader_is_at_the_head(self, stage, generation):
        stage = replace(stage, generation=generation)
        inside, h = stage.draining("munmap", at=160)
        _inside, _h, r1, w1, r2, c, _d = range(7)
        scenario = stage.set(
            inside,
            h,
            stage.reader("r1", at=200, page=100),
            stage.writer("w1", at=210),
            stage.reader("r2", at=220, page=200),
            stage.reader("c", at=300, page=300),
            one("d", after(400 * US), touch(30, "other")),
        )

        assert told(scenario) == [
            (160, 0, "W", []),
            (200, 0, "W WAIT", [r1]),
            (210, 0, "W WAIT", [r1, w1]),
            (220, 0, "W WAIT", [r1, w1, r2]),
            (250, 3, "WAIT", [w1]),
            (300, 3, "WAIT", [w1, c]),
            (350, 2, "WAIT", [w1, c]),
            (350, 1, "WAIT", [w1, c]),
            (550, 0, "WAIT", [w1, c]),
            (550, 0, "W WAIT", [c]),
            (600, 1, "", []),
            (700, 0, "", []),
        ]
        self.the_vma_lock_works_from_the_downgrade_on(scenario)

    def the_vma_lock_works_from_the_downgrade_on(self, scenario: Scenario) -> None:
        late = Run(scenario).faults["d"]
        assert (late["start_ns"], late["duration_ns"]) == (400 * US, 100 * US)
        assert late["mmap_reads"] == 0


REST = list(range(257, 301))


class TestQ8:
    """300 readers, 1 to 300, wait for a writer, who lets in 256 of them."""

    def played(self, stage: Stage, *more: ThreadGroup) -> list[Told]:
        stage = replace(stage, write=200)
        cast = stage.writer("h", at=150), stage.readers("r", 300, at=200, first_page=0)
        return told(stage.set(*cast, *more), since=350)

    def test_the_last_of_them_lets_in_the_rest(self, stage):
        found = self.played(stage)

        first = [(256 - n, "WAIT", REST) for n in range(256)]
        assert [moment[1:] for moment in found[:256]] == first
        assert [moment[1:] for moment in found[256:]] == [(44 - n, "", []) for n in range(45)]
        assert (found[0][0], found[255][0], found[256][0], found[-1][0]) == (350, 450, 450, 550)

    def test_a_new_reader_lets_in_the_rest_and_itself(self, stage):
        found = self.played(stage, stage.reader("c", at=400, page=5000))

        assert found[:2] == [(350, 256, "WAIT", REST), (400, 301, "", [])]

    def test_a_new_writer_lets_in_the_rest_and_waits_for_them(self, stage):
        found = self.played(stage, stage.writer("w1", at=400))

        assert found[:2] == [
            (350, 256, "WAIT", REST),
            (425, 300, "WAIT NONSPINNABLE", [301]),  # it has spun for (20 + 30) / 2 us
        ]


def test_q9_a_batch_goes_past_a_writer_which_then_holds_back_the_rest(stage):
    inside, h = stage.draining("mprotect", at=160)
    scenario = stage.set(
        inside,
        h,
        stage.readers("first", 10, at=200, first_page=0),
        stage.writer("w1", at=205),
        stage.readers("rest", 290, at=210, first_page=160),
        stage.reader("c", at=310, page=5000),
    )
    w1, c = 12, 303
    held_back = [w1, *range(13 + 246, 13 + 290)]

    found = told(scenario, since=300)
    assert found[0] == (300, 256, "WAIT", held_back)
    assert found[1] == (310, 256, "WAIT", [*held_back, c])
    assert found[257:260] == [
        (400, 0, "WAIT", [*held_back, c]),
        (400, 0, "W WAIT", [*held_back[1:], c]),
        (450, 45, "", []),
    ]
