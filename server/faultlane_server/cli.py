"""The `faultlane-server` command."""

import asyncio
import logging
import signal
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from faultlane_server.config import Settings
from faultlane_server.runs import Limits, compiled_engine
from faultlane_server.service.probe import health_of
from faultlane_server.service.server import CannotListen, Options, Server
from faultlane_server.telemetry import set_up_logging

app = typer.Typer(add_completion=False, no_args_is_help=True)
logger = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    app()


@app.callback()
def faultlane_server() -> None:
    """Simulate Linux page faults for whoever asks over gRPC."""


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one. [default: 50051]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Simulations at once. [default: CPUs - 1]")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where logs are kept. [default: a private directory]")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Allow an address beyond loopback, in plain text."),
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Every option can be set as FAULTLANE_<OPTION> as well."""
    asked: dict[str, Any] = {
        "host": host,
        "port": port,
        "workers": workers,
        "data_dir": data_dir,
        "insecure": insecure,
    }
    try:
        settings = Settings(**{name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(
            "; ".join(str(problem["msg"]) for problem in error.errors())
        ) from error
    set_up_logging()
    try:
        with _data_dir(settings) as directory:
            asyncio.run(_serve(settings, Path(directory)))
    except CannotListen as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def health(
    address: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1:50051",
    timeout_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for an answer.")] = 2.0,
) -> None:
    """Say how a server is; exit with 0 if it can run simulations and with 1 if not."""
    found = health_of(address, timeout_s)
    typer.echo(found)
    raise typer.Exit(0 if found == "SERVING" else 1)


async def _serve(settings: Settings, directory: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    limits = Limits(settings.workers, settings.queued_max)
    server = Server(compiled_engine(), Options(settings.address, directory, limits))
    await server.run(stop, _tell_address, lambda: logger.info("ready"))
    logger.info("stopped")


def _tell_address(address: str) -> None:
    print(f"faultlane-server listening on {address}", flush=True)


def _data_dir(settings: Settings) -> AbstractContextManager[str | Path]:
    if settings.data_dir is None:
        return tempfile.TemporaryDirectory(prefix="faultlane-")
    return nullcontext(settings.data_dir)
