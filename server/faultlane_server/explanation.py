"""What an explanation of a fault is made of. Fields as in the proto, where each is explained."""

from dataclasses import dataclass, field

from faultlane_server.codes import Activity


@dataclass(frozen=True, slots=True)
class Link:
    """Somebody in the way: a thread, or what no thread has in its hands."""

    thread: int
    text: str


@dataclass(frozen=True, slots=True)
class Blocking:
    """For a while, the same chain of who waits for whom."""

    start_ns: int
    duration_ns: int
    chain: tuple[Link, ...]
    changes_omitted: int = 0


@dataclass(frozen=True, slots=True)
class FaultStep:
    """What a fault did for a while, and what happened when it began to."""

    start_ns: int
    duration_ns: int
    attempt: int = 0
    activity: Activity | None = None  # None: steps that were left out
    function: str = ""
    text: str = ""
    notes: tuple[str, ...] = ()
    lock: int = 0
    holds: tuple[str, ...] = ()
    fault_flags: int = 0
    result: int = 0
    spent_ns: dict[str, int] = field(default_factory=dict)  # by what it was spent on
    blocking: tuple[Blocking, ...] = ()
    steps_omitted: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """A fault, explained. Its steps follow each other without a gap, from its begin to its end."""

    subject: str
    steps: tuple[FaultStep, ...]


class NotExplained(Exception):
    """There is no explanation."""


class Cancelled(NotExplained):
    """Whoever wanted it does not want it any more."""


class NotReproduced(NotExplained):
    """The run was not what it was when it was simulated again: another engine has made it."""
