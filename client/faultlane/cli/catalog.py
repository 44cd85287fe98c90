"""The commands that tell what a scenario may ask for."""

from collections import Counter
from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Annotated, TypeVar

import typer
from google.protobuf.message import Message

from faultlane import v1 as pb
from faultlane.cli.exits import errors_as_exits
from faultlane.cli.options import Json, Server, connected
from faultlane.cli.plain import message_plain, to_json
from faultlane.client import Client
from faultlane.report.format import duration_text, text_table

WIDTH = 100  # of running text

Entry = TypeVar("Entry", bound=Message)


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `app`."""
    for command in (presets, archs, policies, machines, kernels):
        app.command()(command)


def presets(server: Server = None, as_json: Json = False) -> None:
    """List the scenarios that come with the server."""
    _tell(server, as_json, Client.list_presets, _preset_lines)


def archs(server: Server = None, as_json: Json = False) -> None:
    """List the architectures."""
    _tell(server, as_json, Client.list_architectures, _arch_lines)


def policies(server: Server = None, as_json: Json = False) -> None:
    """List the retry policies."""
    _tell(server, as_json, Client.list_policies, _policy_lines)


def machines(
    profile: Annotated[
        str, typer.Argument(help="Tell every cost of this one, and its source.")
    ] = "",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """List the machine profiles: how many costs are known, and how. Or tell one of them."""

    def ask(client: Client) -> Sequence[pb.MachineProfile]:
        listed = client.list_machines()
        return [_machine_named(profile, listed)] if profile else listed

    _tell(server, as_json, ask, _cost_lines if profile else _machine_lines)


def kernels(server: Server = None, as_json: Json = False) -> None:
    """List the kernel generations."""
    _tell(server, as_json, Client.list_kernels, _kernel_lines)


def _tell(
    server: str | None,
    as_json: bool,
    ask: Callable[[Client], Sequence[Entry]],
    lines_of: Callable[[Sequence[Entry]], list[str]],
) -> None:
    with errors_as_exits(), connected(server) as client:
        entries = ask(client)
    if as_json:
        typer.echo(to_json([message_plain(entry) for entry in entries]))
    else:
        typer.echo("\n".join(lines_of(entries)))


def _preset_lines(presets: Sequence[pb.Preset]) -> list[str]:
    lines = []
    for preset in presets:
        policies = ", ".join(preset.policies)
        lines += [
            f"{preset.id}: {preset.title}",
            *wrap(preset.description, WIDTH, initial_indent="  ", subsequent_indent="  "),
            f"  policies: {policies}",
        ]
    return lines


def _arch_lines(archs: Sequence[pb.Architecture]) -> list[str]:
    head = ["arch", "page sizes", "HZ", "VMA lock since", "source"]
    rows = []
    for arch in archs:
        sizes = ", ".join(f"{size >> 10}K" for size in arch.page_sizes_bytes)
        rows.append([arch.name, sizes, str(arch.hz), arch.vma_lock_since, arch.source])
    return text_table([head, *rows])


def _policy_lines(policies: Sequence[pb.Policy]) -> list[str]:
    head = ["policy", "VMA lock on", "drop for I/O", "more", "what it does", "source"]
    rows = [
        [
            policy.id,
            _exits(policy.columns.file),
            _short(pb.DropForIo.Name(policy.columns.file.drop_for_io)),
            _more(policy.columns),
            policy.description,
            policy.source,
        ]
        for policy in policies
    ]
    return text_table([head, *rows])


def _exits(rule: pb.RetryRule) -> str:
    """Say which exits go back to the VMA lock."""
    names = [_short(pb.RetryReason.Name(reason)) for reason in rule.vma_lock_on]
    if len(names) == len(pb.RetryReason.values()) - 1:
        return "any"
    return ", ".join(names) or "-"


def _more(columns: pb.RetryPolicy) -> str:
    """Say what else a policy has."""
    rule = columns.file
    parts = []
    if columns.mmap_lock_only:
        parts.append("no VMA lock")
    if rule.vma_retries_max:
        parts.append(f"at most {rule.vma_retries_max} times")
    if rule.uptodate_direct > pb.UptodateDirect.UPTODATE_DIRECT_NO:
        parts.append("waits for folios that are up to date")
    if rule.relock_and_map > pb.RelockAndMap.RELOCK_AND_MAP_NO:
        parts.append(f"relock {_short(pb.RelockAndMap.Name(rule.relock_and_map))}")
    return ", ".join(parts) or "-"


def _short(name: str) -> str:
    """Leave the name of its enum out of a member's name."""
    for enum in ("RETRY_REASON_", "DROP_FOR_IO_", "RELOCK_AND_MAP_"):
        name = name.removeprefix(enum)
    return name.lower()


def _machine_named(name: str, machines: Sequence[pb.MachineProfile]) -> pb.MachineProfile:
    names = {machine.name: machine for machine in machines}
    if name not in names:
        raise typer.BadParameter(f"want one of {', '.join(names)}, got {name!r}")
    return names[name]


SOURCES = ("measured", "published", "derived", "assumed")


def _machine_lines(machines: Sequence[pb.MachineProfile]) -> list[str]:
    rows = [["profile", *SOURCES, "what it is"]]
    for machine in machines:
        found = Counter(cost.source.partition(":")[0] for cost in machine.costs)
        counts = [str(found[source]) for source in SOURCES]
        rows.append([machine.name, *counts, machine.description])
    return text_table(rows)


def _cost_lines(machines: Sequence[pb.MachineProfile]) -> list[str]:
    [machine] = machines
    rows = [
        [cost.name, duration_text(cost.ns), cost.source, cost.description] for cost in machine.costs
    ]
    return [f"{machine.name}: {machine.description}", *(f"  {line}" for line in text_table(rows))]


def _kernel_lines(kernels: Sequence[pb.KernelGeneration]) -> list[str]:
    head = ["kernel", "VMA lock", "enough for", "what it stands for"]
    rows = [
        [kernel.name, kernel.vma_lock, kernel.vma_lock_faults, kernel.description]
        for kernel in kernels
    ]
    return text_table([head, *rows])
