"""Who calls. Every simulation belongs to the one who asked for it.

Nobody is asked for credentials yet, so everybody is the same owner. To tell callers
apart, `owner_of` is the one function to replace.
"""

from contextvars import ContextVar

from faultlane_server.service.status import Context

EVERYBODY = "everybody"

_owner: ContextVar[str] = ContextVar("owner")


def owner_of(_: Context) -> str:
    """Return whose call it is."""
    return EVERYBODY


def identify(context: Context) -> None:
    """Remember whose call it is, for as long as it is answered."""
    _owner.set(owner_of(context))


def owner() -> str:
    """Return whose call is being answered."""
    return _owner.get()
