"""Why a simulation cannot be had.

* RunsError
  + NoSuchSimulation   the owner has no simulation of that name
  + RequestIdTaken     the request id belongs to another request
  + NotEnded           the simulation is queued or runs
  + OffsetOutOfRange   the log ended before the offset
  + LogExpired         the rows from the offset on are gone
  + NoSuchFault        the log of faults has no such row
  + NoFaults           the log has no faults to choose from
  + ModelChanged       it was asked of another version of the model
  + TooLarge           the scenario needs more than a run may have here
  + QueueFull          too many simulations wait
  + TooManyStreams     the owner, or all together, read too much at once
  + TooManyExplained   too many faults are being explained
  + DiskFull           there is no room for another log
  + NotReady           the kernels are not loaded yet
  + ShuttingDown       the server takes nothing more
"""

from collections.abc import Sequence
from typing import NamedTuple


class RunsError(Exception):
    """A simulation cannot be had."""


class NoSuchSimulation(RunsError):
    """The owner has no simulation of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no simulation {name}")
        self.name = name


class RequestIdTaken(RunsError):
    """The request id was used before, for another request."""

    def __init__(self, request_id: str, name: str) -> None:
        super().__init__(f"request id {request_id!r} was used before, for another request: {name}")
        self.request_id = request_id
        self.name = name


class NotEnded(RunsError):
    """The simulation is queued or runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has not ended: wait for its end, or cancel it")
        self.name = name


class OffsetOutOfRange(RunsError):
    """The simulation has ended, and its log is shorter than the offset."""

    def __init__(self, offset: int, rows: int) -> None:
        super().__init__(f"want an offset of 0 to {rows}, the end of the log, got {offset}")
        self.offset = offset
        self.rows = rows


class LogExpired(RunsError):
    """The rows are gone: the server keeps logs for some time, and as long as there is room."""

    def __init__(self, offset: int, earliest: int) -> None:
        super().__init__(
            f"the log has expired: the earliest offset is {earliest}, got {offset};"
            " the same scenario makes the same rows again"
        )
        self.earliest = earliest


class NoSuchFault(RunsError):
    """The log of faults has no such row."""

    def __init__(self, row: int, rows: int) -> None:
        want = f"a fault of 0 to {rows - 1}" if rows else "a log that has faults: this one has none"
        super().__init__(f"want {want}, got {row}")
        self.row = row
        self.rows = rows


class NoFaults(RunsError):
    """The log has no faults to choose from: there were none, or none was recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the log of {name} has no faults to choose from: there were none, or none was recorded"
        )


class ModelChanged(RunsError):
    """What was asked of an earlier version of the server is not what this one would simulate."""


class Excess(NamedTuple):
    """What a scenario needs too much of."""

    what: str
    most: int
    got: int


class TooLarge(RunsError):
    """The scenario makes sense, but needs more than one run may have on this server."""

    def __init__(self, excesses: Sequence[Excess]) -> None:
        said = "; ".join(f"{each.what}: at most {each.most}, got {each.got}" for each in excesses)
        super().__init__(f"the scenario is too large for this server: {said}")
        self.excesses = tuple(excesses)


class QueueFull(RunsError):
    """As many simulations wait as the server lets wait."""

    def __init__(self, queued: int, retry_after_s: float) -> None:
        super().__init__(f"the queue is full: {queued} simulations wait")
        self.retry_after_s = retry_after_s


class TooManyStreams(RunsError):
    """As many streams are open as one owner may have, or the server."""

    def __init__(self, streams: int, retry_after_s: float) -> None:
        super().__init__(f"{streams} streams are open, which is as many as there may be")
        self.retry_after_s = retry_after_s


class TooManyExplained(RunsError):
    """As many faults are being explained as the server explains at a time, and wait for that."""

    def __init__(self, explained: int, retry_after_s: float) -> None:
        super().__init__(f"{explained} faults are being explained, or wait for it")
        self.retry_after_s = retry_after_s


class DiskFull(RunsError):
    """There is no room for another log, and none that could go."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(RunsError):
    """The kernels are not loaded yet."""

    def __init__(self) -> None:
        super().__init__("the server loads its kernels: try again when its health is SERVING")


class ShuttingDown(RunsError):
    """The server takes nothing more; what it has not ended goes on when it starts again."""

    def __init__(self) -> None:
        super().__init__("the server shuts down")
