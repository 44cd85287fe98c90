"""The command that belongs to the server: it runs in a process of its own."""

import subprocess
import sys
from importlib.util import find_spec

import typer

from faultlane.cli.exits import errors_as_exits
from faultlane.errors import MissingExtra

SERVER = "faultlane_server"
KILLED = 128  # and the number of the signal: what a shell calls such an end

AS_TYPED = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_to(app: typer.Typer) -> None:
    """Add the command to those of `app`."""
    app.command(context_settings=AS_TYPED, add_help_option=False)(fidelity)


def fidelity(context: typer.Context) -> None:
    """Simulate what was measured on a real kernel, and tell how near that comes."""
    with errors_as_exits():
        if find_spec(SERVER) is None:
            raise MissingExtra("no server here: pip install 'faultlane[server]'")
        command = [sys.executable, "-m", SERVER, "fidelity", *context.args]
        code = subprocess.run(command, check=False).returncode
    raise typer.Exit(code if code >= 0 else KILLED - code)
