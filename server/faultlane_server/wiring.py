"""Puts a server together from its settings, and runs it until it is told to end."""

import asyncio
import logging
import signal
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from faultlane_server.config import Settings
from faultlane_server.runs import DataDirError, Limits, compiled_engine, default_workers
from faultlane_server.service.server import CannotListen, Options, Server
from faultlane_server.telemetry import set_up_logging

__all__ = ["CannotListen", "DataDirError", "serve"]

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
    is_private = settings.data_dir is None
    options = Options(settings.address, directory, _limits(settings), is_private=is_private)
    server = Server(compiled_engine(), options)
    await server.run(stop, _tell_address, lambda: logger.info("ready"))
    logger.info("stopped")


def _limits(settings: Settings) -> Limits:
    """Return the limits with what the settings say of them."""
    limits = Limits.of_machine(int(settings.limits.get("workers") or default_workers()))
    for path, value in settings.limits.items():
        if value is not None:
            limits = _with(limits, path.split("."), value)
    return limits


def _with(limits: Any, path: list[str], value: float) -> Any:
    name, *rest = path
    return limits._replace(**{name: _with(getattr(limits, name), rest, value) if rest else value})


def _tell_address(address: str) -> None:
    print(f"faultlane-server listening on {address}", flush=True)


def _data_dir(settings: Settings) -> AbstractContextManager[str | Path]:
    if settings.data_dir is None:
        return tempfile.TemporaryDirectory(prefix="faultlane-")
    return nullcontext(settings.data_dir)
