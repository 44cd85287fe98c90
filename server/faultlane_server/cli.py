"""The `faultlane-server` command.

Each subcommand imports what it needs: `health` is asked for every few seconds.
"""

from pathlib import Path
from typing import Annotated

import typer

from faultlane_server.config import BadSettings, Settings

app = typer.Typer(add_completion=False, no_args_is_help=True)


def main() -> None:
    """Run the command."""
    app()


@app.callback()
def faultlane_server() -> None:
    """Simulate Linux page faults for whoever asks over gRPC."""


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(envvar="FAULTLANE_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="FAULTLANE_PORT", min=0, max=65535, help="Port; 0 takes a free one."),
    ] = 50051,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_WORKERS",
            min=1,
            max=1024,
            show_default="CPUs - 1",
            help="Simulations at once.",
        ),
    ] = None,
    queued_max: Annotated[
        int,
        typer.Option(envvar="FAULTLANE_QUEUED_MAX", min=1, help="Simulations that may wait."),
    ] = 256,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_DATA_DIR",
            show_default="a private directory",
            help="Where logs are kept.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="FAULTLANE_INSECURE",
            help="Allow an address beyond loopback, in plain text.",
        ),
    ] = False,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    try:
        settings = Settings(host, port, insecure, workers, queued_max, data_dir)
    except BadSettings as error:
        raise typer.BadParameter(str(error)) from error
    from faultlane_server import wiring

    try:
        wiring.serve(settings)
    except wiring.CannotListen as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def health(
    address: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1:50051",
    timeout_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for an answer.")] = 2.0,
) -> None:
    """Say how a server is; exit with 0 if it can run simulations and with 1 if not."""
    from faultlane_server.service.probe import health_of

    found = health_of(address, timeout_s)
    typer.echo(found)
    raise typer.Exit(0 if found == "SERVING" else 1)
