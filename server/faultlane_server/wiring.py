"""Puts a server together from its settings, and runs it until it is told to end."""

import asyncio
import logging
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from faultlane_server.config import Settings
from faultlane_server.runs import (
    DataDirError,
    Figures,
    Limits,
    RunEnd,
    compiled_engine,
    default_workers,
    within_files,
)
from faultlane_server.service.calls import Observer
from faultlane_server.service.server import CannotListen, Options, Security, Server
from faultlane_server.service.tls import BadCertificates, TlsFiles
from faultlane_server.service.tokens import BadTokens, TokenFile
from faultlane_server.telemetry import (
    CallLog,
    CannotServeMetrics,
    CannotTrace,
    Metrics,
    MetricsPort,
    Traces,
    exporting_provider,
    set_up_logging,
)

__all__ = ["CannotServe", "serve"]

CannotServe = (
    CannotListen,
    DataDirError,
    BadCertificates,
    BadTokens,
    CannotServeMetrics,
    CannotTrace,
)

FILES_MAX = 1 << 17  # enough for all streams and connections that there may be

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; one of `CannotServe` says why that cannot be."""
    set_up_logging()
    with _data_dir(settings) as directory:
        asyncio.run(_serve(settings, Path(directory)))


async def _serve(settings: Settings, directory: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine, limits, security = compiled_engine(), _limits(settings), _security(settings)
    watch = _Watch(settings, security.tls, engine.model_version)
    options = Options(
        settings.address,
        directory,
        limits,
        is_private=settings.data_dir is None,
        security=security,
        observers=watch.observers,
        on_run_end=watch.run_ended,
    )
    server = Server(engine, options)
    with watch.watching(server.runs.figures):
        await server.run(stop, _tell_address, lambda: logger.info("ready"))
    logger.info("stopped")


class _Watch:
    """Whoever observes the server, as the settings want it."""

    def __init__(self, settings: Settings, tls: TlsFiles | None, model_version: int) -> None:
        self._settings = settings
        self._tls = tls
        self._figures: Callable[[], Figures] = lambda: Figures(0, 0, 0, 0, 0)
        self._metrics = Metrics(model_version, lambda: self._figures())
        self._provider = exporting_provider() if settings.traces else None
        self._traces = [Traces(self._provider)] if self._provider else []

    @property
    def observers(self) -> Sequence[Observer]:
        return CallLog(), self._metrics, *self._traces

    def run_ended(self, end: RunEnd) -> None:
        self._metrics.run_ended(end)
        for traces in self._traces:
            traces.run_ended(end)

    @contextmanager
    def watching(self, figures: Callable[[], Figures]) -> Iterator[None]:
        """Let metrics be read meanwhile; what is left of the traces is sent at the end."""
        self._figures = figures
        with ExitStack() as stack:
            if self._provider:
                stack.callback(self._provider.shutdown)
            if self._settings.metrics_port is not None:
                at = self._settings.metrics_host, self._settings.metrics_port
                port = MetricsPort(self._metrics, *at, self._tls)
                stack.callback(port.close)
                logger.info("metrics", extra={"address": port.address})
            yield


def _security(settings: Settings) -> Security:
    tls = None
    if settings.tls_cert and settings.tls_key:
        tls = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    tokens = TokenFile(settings.tokens) if settings.tokens else None
    return Security(tls, tokens, settings.reflection, settings.channelz)


def _limits(settings: Settings) -> Limits:
    """Return the limits with what the settings say of them."""
    workers = settings.limits.get("workers")
    limits = Limits.of_machine(int(workers or default_workers()))
    limits = within_files(limits, _files_max())
    for path, value in settings.limits.items():
        if value is not None:
            limits = _with(limits, path.split("."), value)
    return limits


def _with(limits: Any, path: list[str], value: float) -> Any:
    name, *rest = path
    return limits._replace(**{name: _with(getattr(limits, name), rest, value) if rest else value})


def _files_max() -> int:
    """Let as many files be open as we need and the system allows; return how many that are."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES_MAX if allowed == resource.RLIM_INFINITY else min(allowed, FILES_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, allowed))
    return most


def _tell_address(address: str) -> None:
    print(f"faultlane-server listening on {address}", flush=True)


def _data_dir(settings: Settings) -> AbstractContextManager[str | Path]:
    if settings.data_dir is None:
        return tempfile.TemporaryDirectory(prefix="faultlane-")
    return nullcontext(settings.data_dir)
