"""Puts a server together from its settings, and runs it until it is told to end."""

import asyncio
import logging
import signal
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from faultlane_server.config import Settings
from faultlane_server.runs import Limits, compiled_engine, default_workers
from faultlane_server.service.server import CannotListen, Options, Server
from faultlane_server.telemetry import set_up_logging

__all__ = ["CannotListen", "serve"]

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    set_up_logging()
    with _data_dir(settings) as directory:
        asyncio.run(_serve(settings, Path(directory)))


async def _serve(settings: Settings, directory: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    limits = Limits(settings.workers or default_workers(), settings.queued_max)
    server = Server(compiled_engine(), Options(settings.address, directory, limits))
    await server.run(stop, _tell_address, lambda: logger.info("ready"))
    logger.info("stopped")


def _tell_address(address: str) -> None:
    print(f"faultlane-server listening on {address}", flush=True)


def _data_dir(settings: Settings) -> AbstractContextManager[str | Path]:
    if settings.data_dir is None:
        return tempfile.TemporaryDirectory(prefix="faultlane-")
    return nullcontext(settings.data_dir)
