"""Simulates a run again up to one fault, and takes down what that fault does."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from faultlane_server.codes import Access, Activity
from faultlane_server.engine import BrokenInvariant
from faultlane_server.engine.stepper import Stepper, settled_ns
from faultlane_server.engine.world import Cause, Step
from faultlane_server.explain.chain import Chains
from faultlane_server.explain.describe import Describer, activity_of
from faultlane_server.explain.kernel_bits import KernelBits
from faultlane_server.explain.look import Blockings, Look, is_over, leaves_attempt, look
from faultlane_server.explain.names import Names
from faultlane_server.explain.notes import Noter
from faultlane_server.explain.timeline import Timeline
from faultlane_server.explanation import Cancelled, Explanation, FaultStep, NotReproduced
from faultlane_server.scenario import Scenario

EVENTS_BETWEEN_LOOKS = 256  # at whether somebody has cancelled


def explain(
    scenario: Scenario,
    fault: Mapping[str, int],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Explanation:
    """Explain a fault of a run.

    Parameters
    ----------
    scenario
        The checked scenario of the run.
    fault
        The fault's row in the log.
    is_cancelled
        Asked every few milliseconds.

    Raises
    ------
    Cancelled
        If it was.
    NotReproduced
        If the fault does not happen again as it did.
    """
    try:
        return _Explainer(scenario, fault, is_cancelled).explain()
    except BrokenInvariant as broken:
        raise NotReproduced(str(broken)) from broken


class _Explainer:
    """One run, up to the end of one fault."""

    def __init__(
        self, scenario: Scenario, fault: Mapping[str, int], is_cancelled: Callable[[], bool]
    ) -> None:
        self._fault = fault
        self._is_cancelled = is_cancelled
        self._stepper = Stepper(scenario)
        self._world = self._stepper.world
        self._number = fault["thread"]
        self._row = self._stepper.thread(self._number)
        self._names = Names(scenario, self._world)
        self._watch = _Watch(scenario, self._stepper, self._number, self._names)

    def explain(self) -> Explanation:
        self._go_to_the_begin()
        self._watch.begin(self._fault["start_ns"])
        self._go_to_the_end()
        steps = self._watch.end(self._stepper.now_ns, _spent_ns(self._fault))
        self._require_the_same(steps)
        return Explanation(self._subject(), steps)

    def _go_to_the_begin(self) -> None:
        """Let everything happen that is before the fault. What begins it may be one of the last."""
        start_ns = self._fault["start_ns"]
        self._look_for_cancel()
        while self._stepper.advance_to(start_ns - 1):
            self._look_for_cancel()
        while not self._has_begun():
            if not self._stepper.step() or self._stepper.now_ns > start_ns:
                raise NotReproduced("the fault does not begin when it did")

    def _has_begun(self) -> bool:
        row, fault = self._row, self._fault
        is_the_same = row.begin_ns == fault["start_ns"] and row.touches == fault["touch"]
        return bool(row.in_fault and is_the_same)

    def _go_to_the_end(self) -> None:
        left = EVENTS_BETWEEN_LOOKS
        while self._stepper.step() and not self._watch.see():
            left -= 1
            if left == 0:
                self._look_for_cancel()
                left = EVENTS_BETWEEN_LOOKS

    def _look_for_cancel(self) -> None:
        if self._is_cancelled():
            raise Cancelled

    def _require_the_same(self, steps: tuple[FaultStep, ...]) -> None:
        fault = self._fault
        if self._stepper.now_ns != fault["start_ns"] + fault["duration_ns"]:
            raise NotReproduced("the fault does not end when it did")
        if any(step.duration_ns != sum(step.spent_ns.values()) for step in steps):
            raise NotReproduced("the fault does not spend its time as it did")

    def _subject(self) -> str:
        fault = self._fault
        thread = self._names.thread(self._number)
        process = self._names.processes[fault["process"]]
        access = Access(fault["access"]).name.lower()
        mode = " from kernel mode" if self._watch.kernel_mode else ""
        return f"{thread} of {process}: {access}{mode} at {fault['address']:#x}{self._watch.place}"


class _Watch:
    """Sees what one thread does between its fault's begin and end."""

    def __init__(self, scenario: Scenario, stepper: Stepper, number: int, names: Names) -> None:
        self._stepper = stepper
        self._world = stepper.world
        self._number = number
        self._row = stepper.thread(number)
        self._names = names
        self._bits = KernelBits(scenario)
        self._describer = Describer(scenario, self._world, names)
        self._noter = Noter(self._world, names, self._bits)
        self._blockings = Blockings(Chains(self._world, names), number)
        self._timeline = Timeline()
        self._seen: Look = look(self._world, self._row)
        self.kernel_mode = False
        self.place = ""

    def begin(self, now_ns: int) -> None:
        """Take down how the fault begins."""
        self.kernel_mode = bool(self._row.kernel_mode)
        self._spent_ns = dict.fromkeys(Cause, 0)
        self._open(now_ns, None, (), is_end_of_attempt=False)

    def see(self) -> bool:
        """Look at the thread after an event; True if its fault has ended with it."""
        before, seen = self._seen, look(self._world, self._row)
        now_ns = self._stepper.now_ns
        if seen.is_like(before, now_ns):
            self._seen = seen
            self._blockings.see(now_ns)
            return False
        did = before.step if seen.comes_from_a_step(before, now_ns) else None
        if did == Step.FAULT_END and not seen.sleeps_before(Step.FAULT_END):
            return True
        self._go_on(now_ns, did)
        return False

    def end(self, now_ns: int, spent_ns: dict[Cause, int]) -> tuple[FaultStep, ...]:
        """Return all steps; what the whole fault has spent its time on is known."""
        self._close(now_ns, spent_ns, is_last=True)
        return self._timeline.steps()

    def _go_on(self, now_ns: int, did: Step | None) -> None:
        """Close the step that the thread was in, and open the next one."""
        notes = self._noter.notes(self._number, self._before, did, self._had_folio)
        self._close(now_ns, settled_ns(self._world, self._row, now_ns))
        self._open(now_ns, did, notes, leaves_attempt(self._before, self._row))

    def _open(
        self, now_ns: int, did: Step | None, notes: tuple[str, ...], is_end_of_attempt: bool
    ) -> None:
        row = self._row
        words = self._describer.words(self._number, did)
        if row.attempts and not self.place:
            self.place = f", {self._names.vma(int(row.vma))}"
        self._step = FaultStep(
            start_ns=now_ns,
            duration_ns=0,
            attempt=int(row.attempts),
            activity=activity_of(row),
            function=words.function,
            text=words.text,
            notes=notes,
            lock=int(row.held),
            holds=self._describer.holds(self._number),
            fault_flags=0 if is_over(row) else self._bits.fault_flags(row, bool(row.tried)),
            result=self._bits.result(row) if is_end_of_attempt else 0,
        )
        self._seen = look(self._world, row)
        self._before = row.copy()
        self._had_folio = self._describer.has_folio(self._number)
        self._blockings.begin(now_ns, self._step.activity != Activity.RUNNING)

    def _close(self, now_ns: int, spent_ns: dict[Cause, int], is_last: bool = False) -> None:
        spent = {cause: spent_ns[cause] - self._spent_ns[cause] for cause in Cause}
        self._spent_ns = spent_ns
        step = replace(
            self._step,
            duration_ns=now_ns - self._step.start_ns,
            spent_ns={cause.name.lower(): ns for cause, ns in spent.items() if ns},
            blocking=self._blockings.end(now_ns, is_last),
        )
        self._timeline.add(step)


def _spent_ns(fault: Mapping[str, int]) -> dict[Cause, int]:
    """Return what a fault has spent its time on, by its row in the log."""
    spent = {cause: fault.get(f"wait_{cause.name.lower()}_ns", 0) for cause in Cause}
    return {**spent, Cause.CPU: fault["cpu_ns"]}
