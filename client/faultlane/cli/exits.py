"""Exit codes, and which error ends in which."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from faultlane import errors
from faultlane import v1 as pb


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    BAD_INPUT = 2
    UNAVAILABLE = 3
    DEADLOCK = 4
    NO_PROGRESS = 5
    FAILED = 6
    NOT_ALLOWED = 7


EXIT_HELP = """\
Exit codes: 0 ok; 2 bad input, each violation on a line of its own; 3 no server, or it has no room;
4 the run ended in a deadlock; 5 a fault made no progress; 6 the run failed; 7 the server wants
another token.
"""

_EXIT_OF: dict[type[errors.FaultlaneError], Exit] = {
    errors.InvalidRequest: Exit.BAD_INPUT,
    errors.NoSuchPreset: Exit.BAD_INPUT,
    errors.NoSuchSimulation: Exit.BAD_INPUT,
    errors.NoSuchFault: Exit.BAD_INPUT,
    errors.LogExpired: Exit.BAD_INPUT,
    errors.CannotExplain: Exit.BAD_INPUT,
    errors.MissingExtra: Exit.BAD_INPUT,
    errors.CannotMeasure: Exit.BAD_INPUT,
    errors.QueueFull: Exit.UNAVAILABLE,
    errors.Unavailable: Exit.UNAVAILABLE,
    errors.TimedOut: Exit.UNAVAILABLE,
    errors.StreamCut: Exit.UNAVAILABLE,
    errors.Unauthenticated: Exit.NOT_ALLOWED,
    errors.NotAllowed: Exit.NOT_ALLOWED,
}

_EXIT_AT: dict[int, Exit] = {
    pb.StopReason.STOP_REASON_DEADLOCK: Exit.DEADLOCK,
    pb.StopReason.STOP_REASON_NO_PROGRESS: Exit.NO_PROGRESS,
}


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """Tell the user what went wrong, and end with the code for it."""
    try:
        yield
    except errors.InvalidRequest as error:
        for violation in error.violations:
            typer.echo(str(violation), err=True)
        raise typer.Exit(Exit.BAD_INPUT) from error
    except errors.FaultlaneError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_exit_of(error)) from error
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        typer.echo(f"want text in UTF-8, got {error.object!a}", err=True)
        raise typer.Exit(Exit.BAD_INPUT) from error
    except BrokenPipeError:  # nobody reads on: no reason to say anything
        raise
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(Exit.BAD_INPUT) from error


def exit_after(summaries: Iterable[pb.Summary]) -> None:
    """End with a code of its own if a run could not go on."""
    for summary in summaries:
        if summary.stop in _EXIT_AT:
            raise typer.Exit(_EXIT_AT[summary.stop])


def _exit_of(error: errors.FaultlaneError) -> Exit:
    return next((code for kind, code in _EXIT_OF.items() if isinstance(error, kind)), Exit.FAILED)
