"""Why a simulation cannot be had.

* RunsError
  + NoSuchSimulation   nobody made a simulation of that name
  + RequestIdTaken     the request id belongs to another scenario
  + OffsetOutOfRange   the log ended before the offset
  + NoSuchFault        the log of faults has no such row
  + NoFaults           the log has no faults to choose from
  + NotEnded           the simulation has not ended
  + ModelChanged       another version of the model made the log
  + QueueFull          too many simulations wait
  + TooManyExplained   too many faults are being explained
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


class NotEnded(RunsError):
    """The simulation has not ended."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has not ended: wait for its end, or cancel it")


class ModelChanged(RunsError):
    """The log was made by another version of the model than the one that would explain it."""

    def __init__(self, of_log: int, of_engine: int) -> None:
        super().__init__(
            f"the run was made by model {of_log}, and this server has model {of_engine}:"
            " run the scenario again"
        )


class QueueFull(RunsError):
    """As many simulations wait as the server lets wait."""

    def __init__(self, queued: int, retry_after_s: float) -> None:
        super().__init__(f"the queue is full: {queued} simulations wait")
        self.retry_after_s = retry_after_s


class TooManyExplained(RunsError):
    """As many faults are being explained as the server explains at a time, and wait for that."""

    def __init__(self, explained: int, retry_after_s: float) -> None:
        super().__init__(f"{explained} faults are being explained, or wait for it")
        self.retry_after_s = retry_after_s


class NotReady(RunsError):
    """The kernels are not loaded yet."""

    def __init__(self) -> None:
        super().__init__("the server loads its kernels: try again when its health is SERVING")


class ShuttingDown(RunsError):
    """The server ends what runs and takes nothing more."""

    def __init__(self) -> None:
        super().__init__("the server shuts down")
