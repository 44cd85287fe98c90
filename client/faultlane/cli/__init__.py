"""The `faultlane` command."""

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command, if what it needs is installed."""
    try:
        from faultlane.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"the command needs {error.name}: pip install 'faultlane[cli]'")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what the terminal cannot show
    app()
