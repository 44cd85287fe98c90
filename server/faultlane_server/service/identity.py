"""Who calls. Every simulation belongs to the one who asked for it.

`owner_of` decides whose a call is. With a file of tokens it is the name of the token; without
one, the name in the client's certificate, if clients must show one; else everybody is the same
owner.
"""

from contextvars import ContextVar

from faultlane_server.service.calls import Context
from faultlane_server.service.tokens import EVERYBODY, Role, Token

# Of a certificate, the first one that it has.
NAMES_OF_CERTIFICATE = ("x509_common_name", "x509_subject_alternative_name")

_owner: ContextVar[str] = ContextVar("owner")
_token: ContextVar[Token | None] = ContextVar("token")


def owner_of(context: Context) -> str:
    """Return whose call it is."""
    token = _token.get()
    return token.name if token else _name_in_certificate(context) or EVERYBODY


def identify(context: Context, token: Token | None) -> None:
    """Remember whose call it is, for as long as it is answered."""
    _token.set(token)
    _owner.set(owner_of(context))


def owner() -> str:
    """Return whose call is being answered."""
    return _owner.get()


def reach() -> str | None:
    """Return whose simulations the call may be about; None stands for everybody's."""
    token = _token.get()
    return None if token and token.role is Role.ADMIN else owner()


def _name_in_certificate(context: Context) -> str | None:
    shown = context.auth_context()
    names = (name for field in NAMES_OF_CERTIFICATE for name in shown.get(field, ()))
    first = next(names, b"")
    return first.decode(errors="backslashreplace") or None
