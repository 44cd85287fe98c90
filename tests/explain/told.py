"""Faults of small stories, explained; and what holds for every explanation."""

from collections import Counter
from collections.abc import Mapping

from faultlane_server.engine.world import Cause
from faultlane_server.explain import explain
from faultlane_server.explanation import Explanation, FaultStep
from faultlane_server.scenario import Scenario
from tests.engine.small_stories import Played


class Told:
    """A story that was played, in which the first fault of a group's first thread is explained."""

    def __init__(self, scenario: Scenario, name: str) -> None:
        self.played = Played(scenario)
        self.fault = self.played.faults_of(name)[0]
        self.explanation = explain(scenario, self.fault)
        self.steps = self.explanation.steps
        self.names = {number: name for name, number in self.played.names.items()}

    @property
    def functions(self) -> list[str]:
        """The function of each step, without those that called it."""
        return [step.function.split(" > ")[-1] for step in self.steps]

    @property
    def results(self) -> list[int]:
        """With what the attempts have ended."""
        return [step.result for step in self.steps if step.result]

    @property
    def flags(self) -> list[int]:
        """The flags of each attempt."""
        found = {step.attempt: step.fault_flags for step in self.steps if step.fault_flags}
        return [found[attempt] for attempt in sorted(found)]

    def step_of(self, cause: Cause) -> FaultStep:
        """Return the only step that has waited for something."""
        (step,) = (step for step in self.steps if cause.name.lower() in step.spent_ns)
        return step

    def notes(self) -> list[str]:
        return [note for step in self.steps for note in step.notes]

    def chains(self, cause: Cause) -> list[list[str]]:
        """Return who was in the way of that step, by their groups; `-` is no thread."""
        step = self.step_of(cause)
        return [[self.names.get(link.thread, "-") for link in each.chain] for each in step.blocking]

    def texts(self, cause: Cause) -> list[str]:
        """Return what the first chain of that step says."""
        return [link.text for link in self.step_of(cause).blocking[0].chain]


def assert_adds_up(explanation: Explanation, fault: Mapping[str, int]) -> None:
    """Assert that nothing is missing, and nothing told twice: not of any step, cause or wait."""
    at_ns = fault["start_ns"]
    spent: Counter[str] = Counter()
    for step in explanation.steps:
        assert step.start_ns == at_ns
        assert sum(step.spent_ns.values()) == step.duration_ns
        assert all(ns > 0 for ns in step.spent_ns.values())
        _assert_chains_fit(step)
        at_ns += step.duration_ns
        spent.update(step.spent_ns)
    assert at_ns == fault["start_ns"] + fault["duration_ns"]
    assert spent == _spent(fault)


def _assert_chains_fit(step: FaultStep) -> None:
    blocked_ns = sum(blocking.duration_ns for blocking in step.blocking)
    assert blocked_ns <= step.duration_ns
    if step.blocking:
        assert step.start_ns <= step.blocking[0].start_ns
        last = step.blocking[-1]
        assert last.start_ns + last.duration_ns <= step.start_ns + step.duration_ns


def _spent(fault: Mapping[str, int]) -> Counter[str]:
    waits = {
        name.removeprefix("wait_").removesuffix("_ns"): ns
        for name, ns in fault.items()
        if name.startswith("wait_") and ns
    }
    return Counter({"cpu": fault["cpu_ns"], **waits})
