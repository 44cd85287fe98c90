"""Settings of the server; `cli.py` has where they come from and their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class BadSettings(ValueError):
    """Settings contradict each other."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a server listens, where it keeps everything, and how much it takes on."""

    host: str
    port: int
    insecure: bool
    data_dir: Path | None  # None: a private one, removed at the end
    limits: Mapping[str, float | None]  # by path in `runs.Limits`; None leaves its default

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.insecure:
            raise BadSettings(
                f"host: want a loopback address, got {self.host!r}: what is sent is not encrypted;"
                " say --insecure if everyone who can reach the address may use and read it"
            )

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
