"""Settings of the server: command line over environment (`FAULTLANE_*`) over these defaults."""

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from faultlane_server.runs import default_workers

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Where a server listens, and how much it takes on."""

    model_config = SettingsConfigDict(env_prefix="FAULTLANE_")

    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535)
    insecure: bool = False
    workers: int = Field(default_factory=default_workers, ge=1, le=1024)
    queued_max: int = Field(default=256, ge=1)
    data_dir: Path | None = None  # None: a private one, removed at the end

    @model_validator(mode="after")
    def _plain_text_stays_at_home(self) -> "Settings":
        if self.host not in LOOPBACK and not self.insecure:
            raise ValueError(
                f"host: want a loopback address, got {self.host!r}: what is sent is not encrypted;"
                " say --insecure if everyone who can reach the address may use and read it"
            )
        return self

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
