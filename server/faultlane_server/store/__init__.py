"""What a run leaves behind: one append-only column log for each kind of event."""

from faultlane_server.store.log import (
    LOG_FORMAT,
    Columns,
    CorruptLog,
    LogError,
    LogHeader,
    LogNotWritten,
    WrongLogFormat,
    rows_of,
)
from faultlane_server.store.reader import LogReader
from faultlane_server.store.writer import LogWriter

__all__ = [
    "LOG_FORMAT",
    "Columns",
    "CorruptLog",
    "LogError",
    "LogHeader",
    "LogNotWritten",
    "LogReader",
    "LogWriter",
    "WrongLogFormat",
    "rows_of",
]
