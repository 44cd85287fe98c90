"""Lets a test use an AsyncClient as if it were a Client, so that both have the same tests."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from faultlane import AsyncClient, AsyncRun
from faultlane import v1 as pb


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def wait_for(self, awaitable: Any) -> Any:
        async def result() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(result(), self._loop).result()

    def call(self, function: Callable[[], Any]) -> Any:
        """Call something in the loop, and do away with all that is to be awaited."""

        async def called() -> Any:
            made = function()
            return await made if inspect.isawaitable(made) else made

        return self.plain(asyncio.run_coroutine_threadsafe(called(), self._loop).result())

    def plain(self, made: Any) -> Any:
        if isinstance(made, AsyncRun):
            return Blocking(self, made)
        return self._items(made) if isinstance(made, AsyncIterator) else made

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _items(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self.wait_for(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            self.wait_for(items.aclose())  # type: ignore[attr-defined]


class Blocking:
    """An AsyncClient or an AsyncRun whose methods return when they are done."""

    def __init__(self, loop: Loop, of: Any) -> None:
        self._loop = loop
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name == "summary":  # a property of Run
            return self._loop.call(found)
        if not callable(found):
            return found
        return lambda *args, **named: self._loop.call(lambda: found(*args, **named))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_loop", "_of"):
            super().__setattr__(name, value)
        else:
            setattr(self._of, name, value)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.call(lambda: self._of.__aexit__(*error))


def connect(loop: Loop, address: str) -> Any:
    """Return an AsyncClient that is used like a Client."""
    return loop.call(lambda: Blocking(loop, AsyncClient.connect(address)))


def run_of(client: Blocking, simulation: pb.Simulation) -> Any:
    """Return an AsyncRun that is used like a Run."""
    return Blocking(client._loop, AsyncRun(client._of, simulation))
