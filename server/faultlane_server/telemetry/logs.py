"""How the server logs: one line for each event, on standard error.

The rooms log with the standard library and no more, so a server inside somebody's
process says nothing but errors, or what that process has asked for.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from faultlane_server.service.calls import Call

logger = logging.getLogger(__name__)

_OF_EVERY_RECORD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}


def set_up_logging() -> None:
    """Log as text to a terminal, as JSON elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Text() if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class CallLog:
    """Writes a line for each call that has ended."""

    def begun(self, call: Call) -> None:
        pass

    def ended(self, call: Call) -> None:
        fields = {
            "rpc": call.rpc,
            "code": call.code,
            "call": call.id,
            "owner": call.owner,
            "simulation": call.simulation,
            "request_id": call.request_id,
            "ms": round(call.seconds * 1000, 3),
            "received_bytes": call.received_bytes,
            "sent_bytes": call.sent_bytes,
        }
        logger.info(
            "call ended", extra={name: value for name, value in fields.items() if value != ""}
        )


class _Text(logging.Formatter):
    """The time, the level, the message and what was added to it."""

    def format(self, record: logging.LogRecord) -> str:
        added = "".join(f" {name}={value}" for name, value in _added_to(record).items())
        said = f"{record.levelname.lower()} {record.getMessage()}{added}"
        line = f"{_time_of(record)} {_on_one_line(said)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """The same as one object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": _time_of(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_added_to(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _on_one_line(text: str) -> str:
    """Return text in which nothing that a caller sent looks like another line, or like colours."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _added_to(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat()
