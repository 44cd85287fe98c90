"""How a client shows who it is, and knows whom it talks to: a token, and TLS."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import grpc

from faultlane.calls import CHANNEL_OPTIONS
from faultlane.errors import InvalidRequest, Violation, want_got

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Access:
    """What a client has to show, and how it is sent.

    A token is sent over TLS, or to this machine; nobody else is given it in plain text.

    Parameters
    ----------
    token
        A token of the server, as `faultlane-server token` printed it.
    tls
        Whether to speak TLS; it is done in any case with `ca` or `cert`.
    ca
        File of the certificates that the server's must be signed with, in PEM; None trusts those
        that everybody trusts.
    cert, key
        Files of the certificate that the server asks for and its private key, in PEM.

    Examples
    --------
    >>> access = Access(token="faultlane_...", ca="ca.pem")
    >>> access
    Access(tls=False, ca='ca.pem', cert=None, key=None)

    A token is for whom it was given to:

    >>> Client.connect("faultlane.example:50051", Access(token="faultlane_..."))
    Traceback (most recent call last):
    faultlane.errors.InvalidRequest: server: want TLS where a token is sent, ...
    """

    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables FAULTLANE_TOKEN, or _TOKEN_FILE; _TLS, _CA, _CERT and _KEY."""

        def said(name: str) -> str | None:
            return environment.get(f"FAULTLANE_{name}") or None

        file = said("TOKEN_FILE")
        return cls(
            token=said("TOKEN") or (read_token(file) if file else None),
            tls=(said("TLS") or "0").lower() not in ("0", "false", "no"),
            ca=said("CA"),
            cert=said("CERT"),
            key=said("KEY"),
        )

    def channel(self, address: str) -> grpc.Channel:
        """Return a channel to the server at `host:port`.

        Raises
        ------
        InvalidRequest
            If what there is to show cannot be read, or must not be sent there.
        """
        self._check(address)
        if self._credentials is None:
            channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        else:
            channel = grpc.secure_channel(address, self._credentials, CHANNEL_OPTIONS)
        return grpc.intercept_channel(channel, _Bearer(self.token)) if self.token else channel

    def aio_channel(self, address: str) -> grpc.aio.Channel:
        """Return the same for asyncio."""
        self._check(address)
        bearers = _aio_bearers(self.token) if self.token else []
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, CHANNEL_OPTIONS, interceptors=bearers)
        return grpc.aio.secure_channel(
            address, self._credentials, CHANNEL_OPTIONS, interceptors=bearers
        )

    @property
    def _is_tls(self) -> bool:
        return self.tls or self.ca is not None or self.cert is not None

    @property
    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self._is_tls:
            return None
        return grpc.ssl_channel_credentials(
            _content("ca", self.ca), _content("key", self.key), _content("cert", self.cert)
        )

    def _check(self, address: str) -> None:
        violations = [*self._violations(address)]
        if violations:
            raise InvalidRequest(violations)

    def _violations(self, address: str) -> Iterator[Violation]:
        if (self.cert is None) != (self.key is None):
            yield Violation("cert", "want both of cert and key, or none, got one")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            yield Violation("token", "want printable ASCII, got other characters")
        if self.token and not self._is_tls and _host_of(address) not in LOOPBACK:
            want = "TLS where a token is sent, or an address of this machine"
            yield want_got("server", want, address)


def read_token(path: str | Path) -> str:
    """Return the token in a file.

    Raises
    ------
    InvalidRequest
        If there is none.
    """
    token = (_content("token file", path) or b"").decode(errors="replace").strip()
    if not token:
        raise InvalidRequest([Violation("token file", f"want a token, got an empty file: {path}")])
    return token


def _content(what: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        want = f"want a file that can be read, got {path}: {error.strerror}"
        raise InvalidRequest([Violation(what, want)]) from error


def _host_of(address: str) -> str:
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Shows a token with every call."""

    def __init__(self, token: str) -> None:
        self._shown = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._signed(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._signed(details), request)

    def _signed(self, details: Any) -> Any:
        return details._replace(metadata=(*(details.metadata or ()), self._shown))


def _aio_bearers(token: str) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors that do the same; a class can be of one kind alone."""

    class Unary(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(
            self, continuation: Callable[..., Any], client_call_details: Any, request: Any
        ) -> Any:
            return await continuation(_aio_signed(client_call_details, token), request)

    class Stream(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(
            self, continuation: Callable[..., Any], client_call_details: Any, request: Any
        ) -> Any:
            return await continuation(_aio_signed(client_call_details, token), request)

    return [Unary(), Stream()]


def _aio_signed(details: Any, token: str) -> Any:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add("authorization", f"Bearer {token}")
    return details._replace(metadata=metadata)
