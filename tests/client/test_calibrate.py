"""Calibration takes off what measuring costs, and says what it could not measure."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faultlane.calibrate import (
    QUICK,
    Calibration,
    Measured,
    Stopwatch,
    Unmeasurable,
    Watches,
    calibrate,
    calibration_report,
    costs_of,
    machine_file,
)
from faultlane.calibrate.costs import CHARGES, NEUTRAL_NS
from faultlane.calibrate.primitives import (
    PRIMITIVES,
    Size,
    pages_around,
    require_faults,
    store,
)
from faultlane.calibrate.stopwatch import Step, measured
from faultlane.calibrate.system import ALLOWED_CPUS, LIBC, READ_WRITE, call_all, mapped
from faultlane.cli.app import app
from faultlane.scenario import read_machine


class FakeClock:
    """A clock that goes on when it is told to, and whenever it is read."""

    def __init__(self, read_ns: int = 0) -> None:
        self.now_ns = 0
        self._read_ns = read_ns

    def __call__(self) -> int:
        self.now_ns += self._read_ns
        return self.now_ns

    def takes(self, *times_ns: int) -> Callable[[], None]:
        """Work that takes these times, one after the other, and the last one from then on."""
        left = list(times_ns)

        def work() -> None:
            self.now_ns += left.pop(0) if len(left) > 1 else left[0]

        return work


def a_measurement(name: str, ns: float) -> Measured:
    return Measured(name, ns, ns, ns, 2, "nothing")


def a_calibration(**ns: float) -> Calibration:
    """Primitives that take so long."""
    return Calibration({name: a_measurement(name, value) for name, value in ns.items()}, 16, {})


def test_a_step_is_timed_round_by_round_without_the_first_one_and_by_its_turns():
    clock = FakeClock()

    times = Stopwatch(clock, 3).time(Step("work", clock.takes(9000, 100, 300, 200), turns=10))

    assert times == {"work": [10, 30, 20]}


def test_steps_are_taken_in_turn():
    order: list[str] = []
    steps = [Step(name, partial(order.append, name)) for name in "ab"]

    Stopwatch(FakeClock(), 2).time(*steps)

    assert order == ["a", "b"] * 3


def test_when_patience_ends_there_are_fewer_rounds():
    clock, wall = FakeClock(), FakeClock(read_ns=10)

    times = Stopwatch(clock, 300, wall, patience_ns=50).time(Step("work", clock.takes(7)))

    assert times == {"work": [7] * 7}


def test_reading_the_clock_is_in_what_is_timed_and_so_in_the_overhead_too():
    clock = FakeClock(read_ns=40)
    times = Stopwatch(clock, 9).time(
        Step("work", clock.takes(1000)), Step("overhead", clock.takes(200))
    )

    assert measured("work", times["work"], times["overhead"], "overhead").ns == 800


def test_a_measurement_is_the_median_of_what_is_left_in_each_round():
    samples = [100.0 + number for number in range(99)] + [10**9]
    overhead = [20.0] * 99 + [10.0]

    got = measured("work", samples, overhead, "nothing much")

    assert got.ns == 149.5 - 20
    assert (round(got.low_ns), round(got.high_ns)) == (90, 169)
    assert (got.rounds, got.less) == (100, "nothing much")


def test_what_makes_a_round_slow_does_not_count_if_it_slows_the_overhead_as_well():
    slow = [0.0, 500.0, 7.0, 3000.0] * 25

    got = measured("work", [300 + each for each in slow], [100 + each for each in slow], "a call")

    assert (got.ns, got.low_ns, got.high_ns) == (200, 200, 200)


@pytest.mark.parametrize("left", [[0.0] * 50, [-300.0] * 40 + [400.0] * 60, [1.0, -1.0]])
def test_what_may_be_chance_is_not_told(left):
    with pytest.raises(Unmeasurable, match="may be chance"):
        measured("work", left, [0.0] * len(left), "overhead")


def test_what_is_left_of_a_primitive_is_divided_as_in_neutral():
    fault = costs_of(a_calibration(anon_read=1120)).known

    assert {name: cost.ns for name, cost in fault.items()} == {
        "trap": 300, "vma_find": 100, "handle": 300, "fault_exit": 200, "map_anon": 200
    }  # fmt: skip
    assert fault["trap"].source == "derived: anon_read 1120 ns"


def test_what_is_known_from_another_primitive_is_taken_off():
    costs = costs_of(a_calibration(syscall=200, mprotect=1000, mprotect_split=1500)).known

    assert costs["syscall"] == (200, "measured: syscall 200 ns")
    assert costs["mprotect"].ns == 1000 - 200 - 3 * NEUTRAL_NS["word_local"]
    assert costs["vma_split"].ns == 500


def test_pages_around_a_fault_cost_what_more_of_them_take():
    costs = costs_of(a_calibration(anon_read=1120, file_alone=1500, file_around=1500 + 15 * 40))

    assert costs.known["fault_around_page"].ns == 40
    assert costs.known["fault_around"].ns == 1500 - 900 - 20 - 40


def test_nothing_follows_from_a_primitive_that_is_shorter_than_its_parts():
    costs = costs_of(a_calibration(anon_read=1120, anon_write=1000))

    assert "clear_page" not in costs.known
    assert costs.missing == {"anon_write": "1000 ns are less than its other parts take"}


def test_what_was_not_measured_keeps_the_cost_of_neutral(tmp_path):
    calibration = Calibration({"syscall": a_measurement("syscall", 150)}, 0, {"faults": "no time"})
    file = tmp_path / "machine.yaml"
    file.write_text(machine_file(calibration, costs_of(calibration)))

    machine = read_machine(file)

    assert (machine.profile, dict(machine.costs_ns)) == ("neutral", {"syscall": 150})
    assert "# Not measured: faults: no time\n" in file.read_text()
    report = calibration_report(calibration, costs_of(calibration))
    assert "  faults: no time" in report


def test_a_primitive_that_fails_does_not_keep_the_others_from_being_measured(monkeypatch):
    def fails(*_: object) -> list[Measured]:
        raise PermissionError(1, "not for you")

    some = {"a": fails, "b": lambda *_: [a_measurement("syscall", 100)]}
    monkeypatch.setattr("faultlane.calibrate.primitives.PRIMITIVES", some)

    calibration = calibrate(watches(2), QUICK)

    assert list(calibration.measured) == ["syscall"]
    assert calibration.missing == {"a": "[Errno 1] not for you"}


def watches(rounds: int) -> Watches:
    return Watches(Stopwatch(time.thread_time_ns, rounds), Stopwatch(time.perf_counter_ns, rounds))


def test_on_a_busy_machine_nothing_is_said_of_what_takes_an_idle_cpu(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))

    calibration = calibrate(watches(2), Size(rounds=2, pages=16, calls=1, trips=1, pairs=2))

    assert {"wake_other_cpu", "shared_vma"}.isdisjoint(calibration.measured)
    assert {
        "wake-ups on another CPU",
        "a lock word that two CPUs share",
    } <= calibration.missing.keys()


def test_a_byte_goes_to_another_cpu_and_back_where_there_is_one(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    size = Size(rounds=20, pages=16, calls=1, trips=1, pairs=2)

    if len(ALLOWED_CPUS) > 1:
        [there] = PRIMITIVES["wake-ups on another CPU"](watches(20), size)
        assert there.ns > 0
    else:
        with pytest.raises(Unmeasurable, match="only run on one CPU"):
            PRIMITIVES["wake-ups on another CPU"](watches(20), size)


def test_pages_that_are_touched_for_the_first_time_are_as_many_faults():
    with mapped(64, READ_WRITE) as mapping:
        pages = mapping.every(1)
        require_faults(lambda: store(pages), 64)
        with pytest.raises(Unmeasurable, match=r"accesses to 64 pages were \d+ faults"):
            require_faults(lambda: store(pages), 64)
        mapping.forget()
        require_faults(lambda: store(pages), 64)


def test_a_fault_maps_a_power_of_two_of_pages_around_it():
    assert pages_around().bit_count() == 1


def test_a_call_that_does_nothing_takes_as_many_arguments():
    arguments = [(1, 2, 3, 4, 5, 6)] * 3

    assert call_all(LIBC.nothing(6), arguments) == [1, 1, 1]


def test_everything_that_is_measured_leads_to_costs():
    size = Size(rounds=60, pages=64, calls=8, trips=1, pairs=2)
    calibration = calibrate(watches(60), size)

    known = {"file_around"} | CHARGES.keys()
    assert calibration.measured.keys() <= known
    assert calibration.missing.keys() <= PRIMITIVES.keys()
    assert {"anon_read", "anon_write"} <= calibration.measured.keys()
    assert costs_of(calibration).known["trap"].ns > 0


def test_the_command_writes_what_a_machine_is_and_tells_how_it_knows(tmp_path):
    file = tmp_path / "machine.yaml"

    done = CliRunner().invoke(app, ["calibrate", str(file), "--quick"])

    assert done.exit_code == 0, done.output
    assert read_machine(file).costs_ns["trap"] > 0
    assert "trap" in done.stdout
    assert f"written to {file}" in done.stdout


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path):
    done = CliRunner().invoke(app, ["calibrate", str(tmp_path)])

    assert done.exit_code == 2
    assert done.output == f"{tmp_path}: Is a directory\n"


def test_on_other_systems_the_command_says_that_it_measures_linux(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    done = CliRunner().invoke(app, ["calibrate", str(tmp_path / "machine.yaml")])

    assert done.exit_code == 2
    assert done.output == "calibrate measures Linux, and this is darwin\n"
