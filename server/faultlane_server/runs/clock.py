"""The time of day, as simulations are dated with it.

It is read once. From then on the time since the machine was started carries it on,
so setting the machine's clock neither makes a simulation end before it began nor
makes it old enough to be forgotten.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def _since_boot_ns() -> int:
    """Nanoseconds since the machine was started; the time that it slept counts too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Clock:
    """A clock that never goes back, and never jumps."""

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = _since_boot_ns,
    ) -> None:
        self._steady_ns = steady_ns
        self._base_ns = wall_ns() - steady_ns()

    def not_before(self, moment_ns: int) -> float:
        """Go on from a moment that was told before, if the clock has been set back since.

        Returns
        -------
        float
            How many seconds it was behind.
        """
        behind_ns = max(moment_ns - self.now_ns(), 0)
        self._base_ns += behind_ns
        return behind_ns / 1e9

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._base_ns + self._steady_ns()

    def steady_s(self) -> float:
        """Seconds since some moment in the past."""
        return self._steady_ns() / 1e9

    def now(self) -> datetime:
        return moment_of(self.now_ns())


def moment_of(ns: int) -> datetime:
    """Return the moment that is so many nanoseconds after 1970, to the microsecond."""
    return datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000)


def ns_of(moment: datetime) -> int:
    """Return how many nanoseconds after 1970 a moment is."""
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
