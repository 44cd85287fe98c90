"""TLS for the server: its certificate, its key, and whose certificates its clients must show.

The files are looked at with each new connection, so that a certificate can be renewed while the
server runs. Files that do not fit each other leave the last ones that did.
"""

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

logger = logging.getLogger(__name__)


class TlsFiles(NamedTuple):
    """Files in PEM."""

    cert: Path  # of the server, followed by those that it was signed with
    key: Path
    client_ca: Path | None  # None: clients need no certificate


class BadCertificates(Exception):
    """The files cannot be read, or do not fit each other."""


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return what a port is opened with.

    Raises
    ------
    BadCertificates
        If the files cannot be used.
    """
    source = _Source(files)
    return grpc.dynamic_ssl_server_credentials(
        source.configuration(),
        source.new_configuration,  # type: ignore[arg-type]  # None: as before
        require_client_authentication=files.client_ca is not None,
    )


class _Source:
    """The files, and what they were when they were read."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._look()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Read the files."""
        files = self._files
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(files.cert, files.key, password="")
            if files.client_ca:
                trial.load_verify_locations(files.client_ca)
            return grpc.ssl_server_certificate_configuration(
                [(files.key.read_bytes(), files.cert.read_bytes())],
                files.client_ca.read_bytes() if files.client_ca else None,
            )
        except ssl.SSLError as error:
            raise BadCertificates(
                f"want a certificate, its key, and certificates to trust, in PEM and without a"
                f" password, got {', '.join(map(str, filter(None, files)))}: {error.reason}"
            ) from error
        except OSError as error:
            raise BadCertificates(f"TLS: a file cannot be read: {error}") from error

    def new_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the configuration if it has changed. Called by gRPC for each connection."""
        seen = self._look()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            configuration = self.configuration()
        except BadCertificates as error:
            logger.error("the certificates stay as they were: %s", error)
            return None
        logger.info("certificates read again")
        return configuration

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in self._files if path]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None while it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
