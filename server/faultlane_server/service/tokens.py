"""Tokens: who may call, and what. A file has a line for each of them.

    # name  role    hash of the token   quotas of whoever has this name
    alice   submit  sha256:9f86d0...    queued_max=8 calls_per_minute_max=600
    alice   read    sha256:60303a...
    boss    admin   sha256:fd61a0...

The name says whose simulations the token is for: several tokens of one name are for the same
ones, so a token can be replaced while both are good. A token itself stands nowhere: it has 256
random bits, so that its hash can be read by anybody and gives nothing away.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

EVERYBODY = "everybody"  # who calls where nobody is asked who it is: no token has this name
PREFIX = "faultlane_"  # so that a search for secrets knows one when it meets it
TOKEN_BYTES = 32
FILE_BYTES_MAX = 1 << 20
QUOTAS = ("queued_max", "running_max", "streams_max", "disk_mib_max", "calls_per_minute_max")

WANTED_NAME = f"letters, digits and ._@-, at most 64, and not {EVERYBODY}"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_QUOTA = re.compile(r"([a-z_]+)=([0-9]{1,12})")

logger = logging.getLogger(__name__)


class Role(IntEnum):
    """What a token is good for; each may do what those before it may."""

    READ = 1  # the catalogue, and the simulations of its name
    SUBMIT = 2  # to make simulations, to end them, and to have them explained
    ADMIN = 3  # the same with everybody's simulations


class Token(NamedTuple):
    """A token, as far as the server knows it."""

    name: str
    role: Role
    hash: bytes

    def __repr__(self) -> str:
        return f"Token({self.name}, {self.role.name})"


class Tokens(NamedTuple):
    """What a file of tokens says."""

    all: tuple[Token, ...]
    quotas: Mapping[str, Mapping[str, int]]  # by name, then by quota

    def find(self, secret: str) -> Token | None:
        """Return whose token it is. Takes as long for a wrong one as for a right one."""
        hashed = hash_of(secret)
        found = None
        for token in self.all:
            if hmac.compare_digest(token.hash, hashed):
                found = token
        return found


class BadTokens(ValueError):
    """A file of tokens cannot be read: all that is wrong with it, and nothing that stands in it."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))


class TokenFile:
    """The tokens of a file, as they are now.

    The file is looked at with each use, and read again when it has changed. If it cannot be
    read then, the tokens that were good before stay good, and the log says so once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _look(path)
        self._tokens = read_tokens(path)

    @property
    def now(self) -> Tokens:
        seen = _look(self._path)
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._tokens

    def _read_again(self) -> None:
        try:
            self._tokens = read_tokens(self._path)
        except BadTokens as error:
            logger.error("the tokens stay as they were: %s", error)
        else:
            logger.info("tokens read again", extra={"tokens": len(self._tokens.all)})


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def line_of(name: str, role: Role, secret: str) -> str:
    """Return the line that makes a token good."""
    return f"{name} {role.name.lower()} sha256:{hash_of(secret).hex()}"


def add_token(path: Path, name: str, role: Role) -> str:
    """Add a new token to a file, which is made if it is not there, and return the token.

    The file is replaced and never half written, since a server may read it at any moment.
    """
    if not _is_name(name):
        raise BadTokens(path, [f"name: want {WANTED_NAME}, got {name!r}"])
    before = _content(path) if path.exists() else ""
    secret = new_token()
    separator = "" if not before or before.endswith("\n") else "\n"
    content = f"{before}{separator}{line_of(name, role, secret)}\n"
    parse_tokens(content, path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return secret


def read_tokens(path: Path) -> Tokens:
    """Read a file of tokens."""
    return parse_tokens(_content(path), path)


def parse_tokens(content: str, path: Path) -> Tokens:
    """Return what a file of tokens says; `path` is for errors."""
    reader = _Reader()
    for number, line in enumerate(content.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if words:
            reader.take(number, words)
    if not (reader.tokens or reader.problems):
        reader.problems.append("want a token, got none: see faultlane-server token --help")
    if reader.problems:
        raise BadTokens(path, reader.problems)
    return Tokens(tuple(reader.tokens), reader.quotas)


class _Reader:
    """Takes line after line; what it finds wrong never quotes a line, which may hold a secret."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.quotas: dict[str, dict[str, int]] = {}
        self.problems: list[str] = []

    def take(self, number: int, words: list[str]) -> None:
        name, role, hashed = (*words[:3], "", "", "")[:3]
        hash_found = _HASH.fullmatch(hashed)
        known = role.upper() in Role.__members__
        if not _is_name(name):
            self._object(number, "name", WANTED_NAME)
        if not known:
            self._object(number, "role", "read, submit or admin")
        if not hash_found:
            self._object(number, "hash", "sha256: and 64 hexadecimal digits")
        self._take_quotas(number, name, words[3:])
        if known and hash_found:
            token = Token(name, Role[role.upper()], bytes.fromhex(hash_found[1]))
            if token.hash in [each.hash for each in self.tokens]:
                self._object(number, "hash", "one that no other line has")
            self.tokens.append(token)

    def _take_quotas(self, number: int, name: str, words: list[str]) -> None:
        quotas = self.quotas.setdefault(name, {})
        for word in words:
            found = _QUOTA.fullmatch(word)
            if not found or found[1] not in QUOTAS or int(found[2]) == 0:
                self._object(number, "quota", f"one of {', '.join(QUOTAS)}, =, a number from 1 on")
            elif quotas.setdefault(found[1], int(found[2])) != int(found[2]):
                self._object(number, found[1], "the same as in other lines of this name")

    def _object(self, number: int, field: str, want: str) -> None:
        self.problems.append(f"line {number}: {field}: want {want}")


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name != EVERYBODY


def _content(path: Path) -> str:
    try:
        state = path.stat()
        if state.st_mode & 0o002:
            raise BadTokens(path, ["want a file that not everybody may write"])
        if state.st_size > FILE_BYTES_MAX:
            raise BadTokens(path, [f"want at most {FILE_BYTES_MAX} bytes, got {state.st_size}"])
        return path.read_text()
    except OSError as error:
        raise BadTokens(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise BadTokens(path, ["want text in UTF-8"]) from error


def _look(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file does; None while it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size
