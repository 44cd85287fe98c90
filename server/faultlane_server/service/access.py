"""Whether a call may be made: its token, its role, and how many calls there were before.

A call is refused before its request is read, so that what a stranger sends costs nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from faultlane_server.service.errors import NotAllowed, TooManyCalls, Unauthenticated
from faultlane_server.service.tokens import Role, Token, TokenFile

SCHEME = "bearer "
MINUTE_S = 60.0

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_CATALOG = "/faultlane.v1.CatalogService/"
_SIMULATIONS = "/faultlane.v1.SimulationService/"

# What role a call needs. A method that is not here needs ADMIN.
NEEDS: Mapping[str, Role] = {
    f"{_CATALOG}GetServerInfo": Role.READ,
    f"{_CATALOG}ListArchitectures": Role.READ,
    f"{_CATALOG}ListMachines": Role.READ,
    f"{_CATALOG}ListKernels": Role.READ,
    f"{_CATALOG}ListPolicies": Role.READ,
    f"{_CATALOG}ListPresets": Role.READ,
    f"{_CATALOG}GetPreset": Role.READ,
    f"{_SIMULATIONS}GetSimulation": Role.READ,
    f"{_SIMULATIONS}WatchSimulation": Role.READ,
    f"{_SIMULATIONS}ListSimulations": Role.READ,
    f"{_SIMULATIONS}StreamEvents": Role.READ,
    f"{_SIMULATIONS}StreamOperations": Role.READ,
    f"{_SIMULATIONS}CreateSimulation": Role.SUBMIT,
    f"{_SIMULATIONS}RunSimulation": Role.SUBMIT,
    f"{_SIMULATIONS}CancelSimulation": Role.SUBMIT,
    f"{_SIMULATIONS}DeleteSimulation": Role.SUBMIT,
    f"{_SIMULATIONS}ExplainFault": Role.SUBMIT,  # the run is simulated again
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.READ,
}


class Access:
    """Admits calls by the tokens of a file; without one, all of them."""

    def __init__(
        self, tokens: TokenFile | None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._clock_s = clock_s
        self._rates: dict[str, _Rate] = {}

    def admit(self, method: str, metadata: Metadata) -> Token | None:
        """Return the token of a call that may be made; None where nobody needs one.

        Raises
        ------
        Unauthenticated
            If it has no token, or one that is not good.
        NotAllowed
            If the role of its token is not enough for the method.
        TooManyCalls
            If whoever has the token calls more often than they may.
        """
        if self._tokens is None:
            return None
        token = _known(self._tokens, metadata)
        needs = NEEDS.get(method, Role.ADMIN)
        if token.role < needs:
            raise NotAllowed(token.role.name.lower(), needs.name.lower())
        self._count(self._tokens, token)
        return token

    def require_still_good(self, token: Token | None) -> None:
        """Raise `Unauthenticated` if a token is good no more: it ends streams that are open."""
        if self._tokens is not None and token not in self._tokens.now.all:
            raise _wrong_token()

    def _count(self, tokens: TokenFile, token: Token) -> None:
        calls_max = tokens.now.quotas.get(token.name, {}).get("calls_per_minute_max")
        if calls_max is None:
            self._rates.pop(token.name, None)
            return
        rate = self._rates.setdefault(token.name, _Rate(calls_max, self._clock_s()))
        rate.take_one(calls_max, self._clock_s())


class _Rate:
    """Counts calls: a minute's calls may come at once, and then come back evenly."""

    def __init__(self, calls_max: int, now_s: float) -> None:
        self._left = float(calls_max)
        self._at_s = now_s

    def take_one(self, calls_max: int, now_s: float) -> None:
        a_second = calls_max / MINUTE_S
        self._left = min(self._left + (now_s - self._at_s) * a_second, calls_max)
        self._at_s = now_s
        if self._left < 1:
            raise TooManyCalls(calls_max, (1 - self._left) / a_second)
        self._left -= 1


def _known(tokens: TokenFile, metadata: Metadata) -> Token:
    said = [value for name, value in metadata if name == "authorization"]
    if not said:
        raise Unauthenticated(
            "NO_TOKEN", "want a token, in the metadata `authorization: Bearer TOKEN`, got none"
        )
    value = said[0]
    if len(said) > 1 or not isinstance(value, str) or not value.lower().startswith(SCHEME):
        raise _wrong_token()
    token = tokens.now.find(value[len(SCHEME) :].strip())
    if token is None:
        raise _wrong_token()
    return token


def _wrong_token() -> Unauthenticated:
    return Unauthenticated("WRONG_TOKEN", "want a token that this server knows, got another")
