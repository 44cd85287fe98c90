"""The `faultlane` command."""

import sys


def main() -> None:
    """Run the command, if what it needs is installed."""
    try:
        from faultlane.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"the command needs {error.name}: pip install 'faultlane[cli]'")
    app()
