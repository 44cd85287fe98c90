"""Lets threads tell coroutines that something changed."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Bell:
    """Rung by a thread, heard by every coroutine that listens, in whatever loop it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: set[Ear] = set()

    def ring(self) -> None:
        with self._lock:
            ears = list(self._ears)
        for ear in ears:
            ear.wake()

    @contextmanager
    def listen(self) -> Iterator["Ear"]:
        ear = Ear(asyncio.get_running_loop())
        with self._lock:
            self._ears.add(ear)
        try:
            yield ear
        finally:
            with self._lock:
                self._ears.discard(ear)


class Ear:
    """Remembers that the bell rang, so that no ring is lost between a look and a wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rang = asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._rang.set)

    def forget(self) -> None:
        """From here on, only a new ring counts."""
        self._rang.clear()

    async def rang_within(self, timeout_s: float | None) -> bool:
        """Wait for a ring; return whether there was one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rang.wait()
        except TimeoutError:
            return False
        return True
