"""Why a simulation cannot be had.

* RunsError
  + NoSuchSimulation   nobody made a simulation of that name
  + RequestIdTaken     the request id belongs to another scenario
  + OffsetOutOfRange   the log ended before the offset
  + QueueFull          too many simulations wait
  + NotReady           the kernels are not loaded yet
  + ShuttingDown       the server takes nothing more
"""


class RunsError(Exception):
    """A simulation cannot be had."""


class NoSuchSimulation(RunsError):
    """Nobody made a simulation of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no simulation {name}")
        self.name = name


class RequestIdTaken(RunsError):
    """The request id was used before, for another scenario."""

    def __init__(self, request_id: str, name: str) -> None:
        super().__init__(f"request id {request_id!r} was used before, for another scenario: {name}")
        self.request_id = request_id
        self.name = name


class OffsetOutOfRange(RunsError):
    """The simulation has ended, and its log is shorter than the offset."""

    def __init__(self, offset: int, rows: int) -> None:
        super().__init__(f"want an offset of 0 to {rows}, the end of the log, got {offset}")
        self.offset = offset
        self.rows = rows


class QueueFull(RunsError):
    """As many simulations wait as the server lets wait."""

    def __init__(self, queued: int, retry_after_s: float) -> None:
        super().__init__(f"the queue is full: {queued} simulations wait")
        self.retry_after_s = retry_after_s


class NotReady(RunsError):
    """The kernels are not loaded yet."""

    def __init__(self) -> None:
        super().__init__("the server loads its kernels: try again when its health is SERVING")


class ShuttingDown(RunsError):
    """The server ends what runs and takes nothing more."""

    def __init__(self) -> None:
        super().__init__("the server shuts down")
