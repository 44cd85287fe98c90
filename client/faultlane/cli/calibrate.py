"""The command that measures the machine that it runs on."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faultlane.cli.exits import EXIT_HELP, errors_as_exits
from faultlane.cli.options import Json
from faultlane.cli.plain import to_json
from faultlane.cli.terminal import measuring
from faultlane.errors import CannotMeasure

if TYPE_CHECKING:  # importing it takes Linux
    from faultlane.calibrate import Calibration, Costs


def add_to(app: typer.Typer) -> None:
    """Add the command to those of `app`."""
    app.command(epilog=EXIT_HELP)(calibrate)


def calibrate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the costs go, for `run --machine FILE`.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure for a few seconds, and less exactly.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure what faults, system calls and wake-ups cost on this machine, in under a minute.

    Needs Linux, and no privileges. A machine that does nothing else is measured best.
    """
    with errors_as_exits():
        if sys.platform != "linux":
            raise CannotMeasure(f"calibrate measures Linux, and this is {sys.platform}")
        from faultlane import calibrate as room

        file.open("a").close()  # before anything takes time
        size = room.QUICK if quick else room.LONG
        watches = room.Watches(
            cpu=room.Stopwatch(time.thread_time_ns, size.rounds),
            wall=room.Stopwatch(time.perf_counter_ns, size.rounds),
        )
        if warning := room.busy():
            typer.echo(warning, err=True)
        with measuring() as progress:
            calibration = room.calibrate(watches, size, progress)
        costs = room.costs_of(calibration)
        file.write_text(room.machine_file(calibration, costs))
        if as_json:
            typer.echo(to_json(_plain(calibration, costs)))
        else:
            typer.echo("\n".join(room.calibration_report(calibration, costs)))
            typer.echo(f"\nwritten to {file}: see faultlane run --help for --machine")


def _plain(calibration: "Calibration", costs: "Costs") -> Any:
    return {
        "measured": [each._asdict() for each in calibration.measured.values()],
        "costs": {name: cost._asdict() for name, cost in costs.known.items()},
        "not_measured": calibration.missing | costs.missing,
    }
