"""What runs leave behind: a register of simulations, and append-only column logs of events."""

from faultlane_server.store.data_dir import (
    DATA_FORMAT,
    DataDir,
    DataDirError,
    DataDirInUse,
    DataDirNotWritten,
    WrongDataDir,
)
from faultlane_server.store.database import RegisterNotWritten
from faultlane_server.store.log import (
    LOG_FORMAT,
    Columns,
    CorruptLog,
    LogError,
    LogHeader,
    LogNotWritten,
    WrongLogFormat,
    row_bytes,
    rows_of,
)
from faultlane_server.store.reader import LogReader
from faultlane_server.store.register import (
    LogRecord,
    Query,
    Record,
    Register,
)
from faultlane_server.store.writer import LogWriter, sync_directory

__all__ = [
    "DATA_FORMAT",
    "LOG_FORMAT",
    "Columns",
    "CorruptLog",
    "DataDir",
    "DataDirError",
    "DataDirInUse",
    "DataDirNotWritten",
    "LogError",
    "LogHeader",
    "LogNotWritten",
    "LogReader",
    "LogRecord",
    "LogWriter",
    "Query",
    "Record",
    "Register",
    "RegisterNotWritten",
    "WrongDataDir",
    "WrongLogFormat",
    "row_bytes",
    "rows_of",
    "sync_directory",
]
