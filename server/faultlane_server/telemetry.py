"""How the server logs: one line for each event, on standard error.

The rooms log with the standard library and no more, so a server inside somebody's
process says nothing but errors, or what that process has asked for.
"""

import logging
import sys

import structlog


def set_up_logging() -> None:
    """Log in colour to a terminal, as JSON elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(is_terminal=sys.stderr.isatty()),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _render(is_terminal: bool) -> list[structlog.typing.Processor]:
    if is_terminal:
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
