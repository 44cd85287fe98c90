"""The `faultlane-server` command.

Each subcommand imports what it needs: `health` is asked for every few seconds.
"""

from pathlib import Path
from typing import Annotated

import typer

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
    from faultlane_server import wiring

    asked = {
        "host": host,
        "port": port,
        "workers": workers,
        "data_dir": data_dir,
        "insecure": insecure,
    }
    try:
        wiring.serve(wiring.settings_of(asked))
    except wiring.BadSettings as error:
        raise typer.BadParameter(str(error)) from error
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
