"""Why a simulation cannot be had.

* RunsError
  + NoSuchSimulation   the owner has no simulation of that name
  + RequestIdTaken     the request id belongs to another request
  + NotEnded           only what has ended can be deleted
  + OffsetOutOfRange   the log ended before the offset
  + LogExpired         the rows from the offset on are gone
  + TooLarge           the scenario needs more than a run may have here
  + QueueFull          too many simulations wait
  + TooManyStreams     the owner reads too much at once
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
        super().__init__(f"{name} has not ended: cancel it first")
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
    """The owner has as many streams open as one may have."""

    def __init__(self, streams: int, retry_after_s: float) -> None:
        super().__init__(f"{streams} streams are open, which is as many as one may have")
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
