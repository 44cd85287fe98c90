"""A server inside the process that uses it, for `faultlane.local()` and tests."""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Self

from faultlane_server.runs import (
    Clock,
    Engine,
    Limits,
    RunEnd,
    ShuttingDown,
    compiled_engine,
    default_workers,
)
from faultlane_server.service.calls import Observer
from faultlane_server.service.server import Options, Security, Server


class LocalServer:
    """A server on a port of the loopback interface, in a thread of its own.

    It keeps everything in `directory`, or else in a private one that `close` removes.
    """

    def __init__(
        self,
        workers: int | None = None,
        engine: Engine | None = None,
        limits: Limits | None = None,
        directory: Path | None = None,
        clock: Clock | None = None,
        security: Security | None = None,
        observers: Sequence[Observer] = (),
        on_run_end: Callable[[RunEnd], None] | None = None,
    ) -> None:
        self._engine = engine
        self._kept_in = directory
        self._clock = clock
        self._security = security or Security()
        self._observers = observers
        self._on_run_end = on_run_end
        self._limits = limits or Limits.of_machine(workers or default_workers())
        self._address: Future[str] = Future()
        self._loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="faultlane-local", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where the server listens."""
        return self._address.result()

    def start(self) -> str:
        """Return the address when simulations can run."""
        self.listen()
        self.wait_until_ready()
        return self.address

    def listen(self) -> str:
        """Return the address when the port is open; the kernels may still be loading."""
        self._thread.start()
        return self.address

    def wait_until_ready(self) -> None:
        """Return when simulations can run."""
        self._loaded.result()

    def begin_to_close(self) -> None:
        """End what runs, and then the server."""
        with suppress(RuntimeError):  # its loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)

    def close(self) -> None:
        """Return when the server has ended. Safe to call twice."""
        if self._thread.is_alive():
            self.begin_to_close()
            self._thread.join()

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
            if not self._loaded.done():
                self._loaded.set_exception(ShuttingDown())
        except BaseException as error:
            for future in (self._address, self._loaded):
                if not future.done():
                    future.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        with _directory(self._kept_in) as directory:
            self.directory = Path(directory)
            options = Options(
                "127.0.0.1:0",
                self.directory,
                self._limits,
                self._clock,
                is_private=self._kept_in is None,
                security=self._security,
                observers=self._observers,
                on_run_end=self._on_run_end,
            )
            server = Server(self._engine or compiled_engine(), options)
            self.runs = server.runs
            await server.run(
                self._stop, self._address.set_result, lambda: self._loaded.set_result(None)
            )


def _directory(kept_in: Path | None) -> AbstractContextManager[str | Path]:
    if kept_in is None:
        return tempfile.TemporaryDirectory(prefix="faultlane-")
    return nullcontext(kept_in)
