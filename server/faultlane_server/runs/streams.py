"""How many streams each owner has open."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from faultlane_server.runs.errors import TooManyStreams

RETRY_AFTER_S = 1.0


class Streams:
    """Counts streams while they are open."""

    def __init__(self, most: int, most_of: Callable[[str], int]) -> None:
        self._most = most
        self._most_of = most_of
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return self._open.total()

    @contextmanager
    def one_of(self, owner: str) -> Iterator[None]:
        """Let an owner have one more, unless that is too many."""
        with self._lock:
            if self._open[owner] >= self._most_of(owner):
                raise TooManyStreams(self._open[owner], RETRY_AFTER_S)
            if self._open.total() >= self._most:
                raise TooManyStreams(self._open.total(), RETRY_AFTER_S)
            self._open[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[owner] -= 1
                self._open += Counter()  # without those who have none
