"""How long to wait before a stream that was cut is taken up again, and when to give up."""

import random
import time

from faultlane.errors import FaultlaneError, StreamCut, Unavailable

PATIENCE_S = 60.0
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 2.0

CUT = (StreamCut, Unavailable)  # the errors after which it is worth to read on


class Backoff:
    """Pauses that double, a little longer or shorter by chance, until patience has an end."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.succeed()

    def succeed(self) -> None:
        """Have all patience again."""
        self._since_s: float | None = None
        self._pause_s = PAUSE_FIRST_S

    def pause_after(self, error: FaultlaneError) -> float:
        """Return how many seconds to wait, or raise the error if it has been too long."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        left_s = self._patience_s - (now_s - self._since_s)
        if left_s <= 0:
            raise error
        pause_s = self._pause_s * random.uniform(0.75, 1.25)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        return min(pause_s, left_s)
