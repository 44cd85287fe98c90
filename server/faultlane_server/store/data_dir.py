"""The directory in which a server keeps everything: one server for one directory.

    VERSION       the version of its layout
    lock          held by the server that uses it
    register.db   simulations, request ids, owners, labels (SQLite)
    logs/{id}/    the column logs of a run

* DataDirError
  + DataDirInUse        another server uses it
  + WrongDataDir        it is of another version, or not ours
  + DataDirNotWritten   the file system does not let us write
"""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Self

DATA_FORMAT = 1

_FIRST_LINE = "faultlane data, format "
_NOT_OURS = frozenset({"lost+found"})  # what a file system may put into its root


class DataDirError(Exception):
    """The directory cannot be used."""


class DataDirInUse(DataDirError):
    """Another server uses the directory."""


class WrongDataDir(DataDirError):
    """The directory is of another version of the program, or not one of ours."""


class DataDirNotWritten(DataDirError):
    """The file system does not let us write."""


class DataDir:
    """A directory that is ours until `close`; what it held before is there again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.register = path / "register.db"
        self._logs = path / "logs"
        try:
            path.mkdir(parents=True, exist_ok=True)
            _require_format(path)
            self._lock = _locked(path / "lock")
        except OSError as error:
            raise DataDirNotWritten(f"cannot use {path}: {error.strerror}") from error
        try:
            _require_format(path)
            _write_format(path)
            self._logs.mkdir(exist_ok=True)
        except OSError as error:
            self.close()
            raise DataDirNotWritten(f"cannot use {path}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another server have the directory."""
        os.close(self._lock)

    def log_dir(self, log: int) -> Path:
        """Return where the files of a log are."""
        return self._logs / str(log)

    def remove_log(self, log: int) -> None:
        """Remove the files of a log; who reads them reads on."""
        shutil.rmtree(self.log_dir(log), ignore_errors=True)

    def remove_logs_but(self, known: frozenset[int]) -> None:
        """Remove the files of logs that are in no register, as a crash may leave them."""
        for path in self._logs.iterdir():
            if not (path.name.isdecimal() and int(path.name) in known):
                shutil.rmtree(path, ignore_errors=True)

    def free_bytes(self) -> int:
        """Return how much room the file system has left."""
        return shutil.disk_usage(self.path).free


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock, until it is closed or the process has ended."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise DataDirInUse(
            f"{path.parent} is in use by another server, process {holder}:"
            " stop it, or choose another --data-dir"
        ) from error
    with suppress(OSError):  # whose it is, is only said to people
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def _require_format(path: Path) -> None:
    """Raise if the directory is not empty and not one that we can read."""
    version = path / "VERSION"
    if version.exists():
        line = version.read_text(errors="replace").strip()
        if line != f"{_FIRST_LINE}{DATA_FORMAT}":
            raise WrongDataDir(
                f"{path} is of another version: want {_FIRST_LINE + str(DATA_FORMAT)!r},"
                f" got {line[:80]!r}; it was left as it is"
            )
        return
    others = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    if found := others - _NOT_OURS - {"lock"}:
        raise WrongDataDir(
            f"{path} is no data directory of ours and not empty: it holds {min(found)!r}"
        )


def _write_format(path: Path) -> None:
    """Mark a new directory, so that the mark is there in full or not at all."""
    if (path / "VERSION").exists():
        return
    new = path / ".VERSION"
    with new.open("w") as file:
        file.write(f"{_FIRST_LINE}{DATA_FORMAT}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path / "VERSION")
