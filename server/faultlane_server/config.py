"""Settings of the server; `cli.py` has where they come from and their defaults."""

from collections.abc import Iterator, Mapping
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
    tls_cert: Path | None  # None: plain text
    tls_key: Path | None
    tls_client_ca: Path | None  # None: clients need no certificate
    tokens: Path | None  # None: clients need no token
    reflection: bool
    channelz: bool
    metrics_host: str
    metrics_port: int | None  # None: no metrics
    traces: bool
    data_dir: Path | None  # None: a private one, removed at the end
    limits: Mapping[str, float | None]  # by path in `runs.Limits`; None leaves its default

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise BadSettings("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if bool(self.tls_cert) != bool(self.tls_key):
            yield "--tls-cert and --tls-key: want both or none, got one"
        if self.tls_client_ca and not self.tls_cert:
            yield "--tls-client-ca: want --tls-cert and --tls-key with it, got neither"
        hosts = {"host": self.host}
        if self.metrics_port is not None:
            hosts["metrics-host"] = self.metrics_host
        for name, host in hosts.items():
            if host not in LOOPBACK and not (self.tls_cert or self.insecure):
                yield (
                    f"--{name}: want a loopback address, got {host!r}: what is sent is not"
                    " encrypted; give --tls-cert and --tls-key, or say --insecure if everyone who"
                    " can reach the address may read along"
                )

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
