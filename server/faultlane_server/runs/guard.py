"""Watches that a run stays within what one run may have."""

from collections.abc import Callable

from faultlane_server.runs.clock import Clock
from faultlane_server.runs.engine import Simulator
from faultlane_server.runs.limits import RunLimits
from faultlane_server.runs.simulation import RunOptions

# It is asked again whether there is room after so much time, and after so many bytes of logs.
LOOK_S = 0.5
LOOK_BYTES = 16 << 20


class LimitReached(Exception):
    """A run needs more than it may have; `reason` is the word for it in `RunError`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Guard:
    """Asked after each slice of one run."""

    def __init__(
        self,
        limits: RunLimits,
        options: RunOptions,
        clock: Clock,
        memory_of: Callable[[Simulator], int],
        require_room: Callable[[int], None],
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._memory_of = memory_of
        self._require_room = require_room
        self._seconds_max = _seconds_max(limits, options)
        self._end_s = clock.steady_s() + self._seconds_max
        self._look_s = 0.0
        self._look_bytes = 0

    def check(self, simulator: Simulator, log_bytes: int) -> None:
        """Raise if there was too much of anything."""
        limits, now_s = self._limits, self._clock.steady_s()
        if now_s > self._end_s:
            raise LimitReached("RUN_TIMEOUT", f"it ran for {self._seconds_max:g} s")
        if simulator.faults > limits.faults_max:
            raise LimitReached("FAULTS_LIMIT", f"more than {limits.faults_max} faults")
        if simulator.events > limits.events_max:
            raise LimitReached("EVENTS_LIMIT", f"more than {limits.events_max} events")
        if now_s >= self._look_s or log_bytes >= self._look_bytes:
            self._look_s = now_s + LOOK_S
            self._look_bytes = log_bytes + LOOK_BYTES
            self._require_memory(self._memory_of(simulator))
            self._require_room(log_bytes)

    def _require_memory(self, taken: int) -> None:
        """Raise if a run takes more than was told of it when it was accepted, and too much."""
        most = self._limits.memory_bytes_max
        if taken > most:
            message = f"it takes {taken} bytes of memory, of {most} that a run may have"
            raise LimitReached("MEMORY_LIMIT", message)


def _seconds_max(limits: RunLimits, options: RunOptions) -> float:
    asked_s = options.run_timeout_ms / 1000
    return min(asked_s or limits.seconds_max, limits.seconds_max)
