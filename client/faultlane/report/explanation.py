"""A fault that was explained, as text."""

from collections import Counter
from collections.abc import Iterator
from textwrap import wrap

from faultlane import v1 as pb
from faultlane.report.format import duration_text, number_text, table
from faultlane.report.run import joined, titled

WIDTH = 100
KINDS: dict[int, str] = {number: name for name, number in pb.FaultKind.items()}
LOCKS = {pb.FaultLock.FAULT_LOCK_VMA: "VMA", pb.FaultLock.FAULT_LOCK_MMAP: "mmap"}
NOBODY = 2**32 - 1
INSIDE = 2  # columns that a line goes in under the one that it belongs to
NUMBER_MIN = 8  # columns of a time
HANG_MAX = 16
RUNNING, MANY = pb.Activity.ACTIVITY_RUNNING, pb.Activity.ACTIVITY_UNSPECIFIED

PARTS = {
    "lock_word": "for the cache line of a lock",
    "reclaim": "in reclaim",
}


def explanation_report(title: str, answer: pb.ExplainFaultResponse) -> list[str]:
    """Everything that is known of the fault: a summary of its time, and every step."""
    explanation = answer.explanation
    sections = [
        [f"{title}, fault {answer.fault}", explanation.subject, outcome(answer.event)],
        titled("where its time went", time_table(explanation)),
        _Steps(explanation).lines(),
    ]
    return joined(sections)


def outcome(fault: pb.FaultBatch) -> str:
    """How it ended, in a line."""
    parts = [
        KINDS[fault.kind[0]].removeprefix("FAULT_KIND_").lower(),
        "major" if fault.major[0] else "minor",
        f"{number_text(fault.attempts[0])} attempt{'s' * (fault.attempts[0] != 1)}",
        f"{duration_text(fault.duration_ns[0])} from {fault.start_ns[0] / 1e9:.9f} s on",
    ]
    if not fault.finished[0]:
        parts.append("not over when the run ended")
    if fault.blocker[0] != NOBODY:
        parts.append(f"longest in its way: thread {fault.blocker[0]}")
    return ", ".join(parts)


def time_table(explanation: pb.FaultExplanation) -> list[str]:
    """What the fault has spent its time on, the most first."""
    spent: Counter[str] = Counter()
    for step in explanation.steps:
        spent.update(step.spent_ns)
    whole = spent.total()
    return table(
        [[name, duration_text(ns), f"{ns / whole:.1%}"] for name, ns in spent.most_common() if ns]
    )


class _Steps:
    """The steps below each other: when and for how long in microseconds, under which lock, what."""

    def __init__(self, explanation: pb.FaultExplanation) -> None:
        steps = explanation.steps
        self._steps = steps
        whole_ns = sum(step.duration_ns for step in steps)
        self._number = max(NUMBER_MIN, len(_us(whole_ns)) + 1)
        columns = f"{'at us':>{self._number}}  {'for us':>{self._number}}  lock  "
        self._head = f"{columns}what (* has just happened, < is in the way)"
        self._text_at = len(columns)

    def lines(self) -> list[str]:
        return [self._head, *(line for step in self._steps for line in self._step(step))]

    def _step(self, step: pb.FaultStep) -> list[str]:
        """The lines of a step: what happened when it began, then what was done from then on."""
        lines = [line for note in step.notes for line in self._wrapped(note, "* ")]
        lines += self._wrapped(_does(step), "")
        if step.holds and step.activity not in (RUNNING, MANY):
            lines += self._wrapped(f"holding {' and '.join(step.holds)}", "  ")
        lines += self._blockings(step)
        at, lasts = "+" + _us(step.start_ns - self._steps[0].start_ns), _us(step.duration_ns)
        lock = LOCKS.get(step.lock, "-")
        head = f"{at:>{self._number}}  {lasts:>{self._number}}  {lock}".ljust(self._text_at)
        return [head + lines[0][self._text_at :], *lines[1:]]

    def _blockings(self, step: pb.FaultStep) -> Iterator[str]:
        """Who was in the way, each one further in than whom it blocks; then, what has changed."""
        before: list[pb.BlockingLink] = []
        for blocking in step.blocking:
            chain = list(blocking.chain)
            head = f"{_us(blocking.duration_ns)} us"
            if blocking.changes_omitted:
                head += f", shorter changes counted in: {number_text(blocking.changes_omitted)}"
            yield from self._wrapped(f"{head}:", "  ")
            same = min(_same(before, chain), len(chain) - 1)
            for depth, link in enumerate(chain[same:], same):
                yield from self._wrapped(link.text, " " * INSIDE * (depth + 2) + "< ")
            before = chain

    def _wrapped(self, text: str, first: str) -> list[str]:
        """Some text; `first` stands before it, and further lines go in as far, within reason."""
        hang = " " * min(max(len(first), INSIDE), HANG_MAX)
        return wrap(
            text,
            WIDTH,
            initial_indent=" " * self._text_at + first,
            subsequent_indent=" " * self._text_at + hang,
            break_on_hyphens=False,
        )


def _does(step: pb.FaultStep) -> str:
    if step.steps_omitted:
        return f"... {number_text(step.steps_omitted)} steps more"
    parts = [
        f"{duration_text(step.spent_ns[name])} of it {text}"
        for name, text in PARTS.items()
        if name in step.spent_ns
    ]
    aside = f" ({', '.join(parts)})" if parts else ""
    return f"{step.function}: {step.text}{aside}"


def _same(before: list[pb.BlockingLink], chain: list[pb.BlockingLink]) -> int:
    """How many links are as they were, counted from whom the fault waits for."""
    pairs = zip(before, chain, strict=False)
    return next((depth for depth, (old, new) in enumerate(pairs) if old != new), len(before))


def _us(ns: int) -> str:
    """Microseconds to the nanosecond, as traces have them."""
    return f"{ns // 1000}.{ns % 1000:03}"
