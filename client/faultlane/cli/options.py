"""Options that several commands have, and what they lead to: a client, a scenario."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from faultlane import v1 as pb
from faultlane.access import Access, read_token
from faultlane.cli.terminal import starting
from faultlane.client import Client
from faultlane.errors import NoSuchPreset
from faultlane.local import local
from faultlane.scenario import read_machine, read_scenario, set_fields, set_machine

FILE_ENDINGS = (".yaml", ".yml", ".json")
SEED_MAX = 2**64 - 1

Source = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario file, or the id of a preset.")
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="FAULTLANE_SERVER",
        help="The server; without it, one starts in this process.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field of the scenario; repeatable."),
]
MachineOption = Annotated[
    str | None,
    typer.Option(
        "--machine",
        metavar="FILE|PROFILE",
        help="What things cost: a file of faultlane calibrate, or a profile of faultlane machines.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=SEED_MAX, help="Replaces the scenario's seed.")
]


@contextmanager
def connected(server: str | None) -> Iterator[Client]:
    """A client of the server that was named, or of one that lives as long as the client."""
    if server == "":
        raise typer.BadParameter("want HOST:PORT, got ''", param_hint="--server")
    if server is not None:
        client = Client.connect(server, _access())
    else:
        with starting():
            client = local()
    with client:
        yield client


def show(
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The token for the server; or FAULTLANE_TOKEN_FILE, or FAULTLANE_TOKEN.",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Speak TLS with the server; or FAULTLANE_TLS=1.")
    ] = False,
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Speak TLS, and trust these certificates alone, in PEM; or FAULTLANE_CA.",
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The certificate to show, in PEM; or FAULTLANE_CERT."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Its private key, in PEM; or FAULTLANE_KEY."),
    ] = None,
) -> None:
    """Remember what is to be shown to a server, for the command that comes after."""
    _shown.set(_Shown(token_file, tls, ca, cert, key))


class _Shown(NamedTuple):
    """What the command line says of `Access`."""

    token_file: str | None = None
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


_shown: ContextVar[_Shown] = ContextVar("_shown")


def _access() -> Access:
    """Return what the command line says, and for the rest the environment."""
    said, known = _shown.get(_Shown()), Access.from_environment()
    return Access(
        token=read_token(said.token_file) if said.token_file else known.token,
        tls=said.tls or known.tls,
        ca=said.ca or known.ca,
        cert=said.cert or known.cert,
        key=said.key or known.key,
    )


def find(client: Client, source: str) -> pb.Preset:
    """The preset of that id, or a file as if it were one without an id."""
    if _is_file(source):
        return pb.Preset(scenario=read_scenario(source))
    try:
        return client.get_preset(source)
    except NoSuchPreset as error:
        known = ", ".join(preset.id for preset in client.list_presets())
        raise NoSuchPreset(f"{source}: no such file or preset; presets: {known}") from error


def change(
    scenario: pb.Scenario, machine: str | None, changes: list[str] | None, seed: int | None
) -> None:
    """Set what the options ask for, single fields last."""
    if machine is not None:
        set_machine(scenario, _machine(machine))
    set_fields(scenario, [_assignment(text) for text in changes or []])
    if seed is not None:
        scenario.seed = seed


def _machine(source: str) -> pb.Machine:
    """A file, or the profile of that name: whether there is one the server knows."""
    if _is_file(source):
        return read_machine(source)
    return pb.Machine(profile=source)


def _is_file(source: str) -> bool:
    return source.endswith(FILE_ENDINGS) or Path(source).is_file()


def _assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"want PATH=VALUE, got {text!r}", param_hint="--set")
    return path.strip(), value.strip()
