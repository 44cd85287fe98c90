"""The `faultlane-server` command.

Each subcommand imports what it needs: `health` is asked for every few seconds.
"""

from pathlib import Path
from typing import Annotated

import typer

from faultlane_server.config import BadSettings, Settings

DAY_S = 24 * 3600

app = typer.Typer(add_completion=False, no_args_is_help=True)


def main() -> None:
    """Run the command."""
    app()


@app.callback()
def faultlane_server() -> None:
    """Simulate Linux page faults for whoever asks over gRPC."""


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(envvar="FAULTLANE_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="FAULTLANE_PORT", min=0, max=65535, help="Port; 0 takes a free one."),
    ] = 50051,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_DATA_DIR",
            show_default="a private directory",
            help="Where simulations and logs are kept over restarts.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="FAULTLANE_INSECURE",
            help="Allow an address beyond loopback, in plain text.",
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_TLS_CERT",
            show_default="plain text",
            help="Certificate of the server, with those it was signed with, in PEM. It is read"
            " again when it has changed, as are the other files.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(envvar="FAULTLANE_TLS_KEY", help="Its private key, in PEM."),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_TLS_CLIENT_CA",
            show_default="clients need no certificate",
            help="Whose certificates clients must show, in PEM. Without tokens the name in it is"
            " the owner of what its client asks for.",
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_TOKENS",
            show_default="clients need no token",
            help="File of the tokens that clients must have: see faultlane-server token.",
        ),
    ] = None,
    reflection: Annotated[
        bool,
        typer.Option(
            envvar="FAULTLANE_REFLECTION",
            help="Tell clients which services and messages there are.",
        ),
    ] = True,
    channelz: Annotated[
        bool,
        typer.Option(
            envvar="FAULTLANE_CHANNELZ",
            help="Tell of all connections, by grpc.channelz; with tokens, only the role admin.",
        ),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_METRICS_PORT",
            min=0,
            max=65535,
            show_default="no metrics",
            help="Serve metrics for Prometheus on this port, with TLS if the server has it; they"
            " tell how much all owners do together, and want no token.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(envvar="FAULTLANE_METRICS_HOST", help="Address for that port.")
    ] = "127.0.0.1",
    traces: Annotated[
        bool,
        typer.Option(
            "--traces",
            envvar="FAULTLANE_TRACES",
            help="Send traces by OTLP, as the variables OTEL_* say; needs the extra otel.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_WORKERS",
            min=1,
            max=1024,
            show_default="CPUs - 1",
            help="Simulations at once.",
        ),
    ] = None,
    queued_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_QUEUED_MAX",
            min=1,
            show_default="256",
            help="Simulations that may wait.",
        ),
    ] = None,
    streams_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_STREAMS_MAX",
            min=1,
            show_default="16384, or as files may be open",
            help="Streams at once.",
        ),
    ] = None,
    connections_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_CONNECTIONS_MAX",
            min=1,
            show_default="4096, or as files may be open",
            help="Connections at once.",
        ),
    ] = None,
    explained_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_EXPLAINED_MAX",
            min=1,
            show_default="16",
            help="Faults that are being explained, or wait for it.",
        ),
    ] = None,
    owner_queued_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_OWNER_QUEUED_MAX",
            min=1,
            show_default="256",
            help="Simulations of one owner that may wait.",
        ),
    ] = None,
    owner_running_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_OWNER_RUNNING_MAX",
            min=1,
            show_default="1024",
            help="Simulations of one owner at once.",
        ),
    ] = None,
    owner_streams_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_OWNER_STREAMS_MAX",
            min=1,
            show_default="1024",
            help="Streams of one owner at once.",
        ),
    ] = None,
    run_seconds_max: Annotated[
        float | None,
        typer.Option(
            envvar="FAULTLANE_RUN_SECONDS_MAX",
            min=0.001,
            show_default="3600",
            help="Seconds that a run may take.",
        ),
    ] = None,
    run_memory_mib_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_MEMORY_MIB_MAX",
            min=1,
            show_default="2048, or less if the machine has less for each worker",
            help="MiB of memory that a run may take.",
        ),
    ] = None,
    run_threads_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_THREADS_MAX",
            min=1,
            show_default="65536",
            help="Threads of a scenario.",
        ),
    ] = None,
    run_vmas_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_VMAS_MAX",
            min=1,
            show_default="131072",
            help="VMAs of a scenario.",
        ),
    ] = None,
    run_pages_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_PAGES_MAX",
            min=1,
            show_default="16777216",
            help="Pages of a scenario.",
        ),
    ] = None,
    run_faults_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_FAULTS_MAX", min=1, show_default="10^9", help="Faults of a run."
        ),
    ] = None,
    run_events_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RUN_EVENTS_MAX", min=1, show_default="10^11", help="Events of a run."
        ),
    ] = None,
    rows_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_ROWS_MAX", min=1, show_default="10^7", help="Rows of a log."
        ),
    ] = None,
    disk_mib_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_DISK_MIB_MAX",
            min=1,
            show_default="32768",
            help="MiB that all logs may take.",
        ),
    ] = None,
    owner_disk_mib_max: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_OWNER_DISK_MIB_MAX",
            min=1,
            show_default="32768",
            help="MiB that the logs of one owner may take.",
        ),
    ] = None,
    disk_free_mib_min: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_DISK_FREE_MIB_MIN",
            min=0,
            show_default="256",
            help="MiB of the disk to leave free.",
        ),
    ] = None,
    retain_mib: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RETAIN_MIB",
            min=0,
            show_default="16384",
            help="MiB of logs of ended simulations to keep.",
        ),
    ] = None,
    retain_days: Annotated[
        float | None,
        typer.Option(
            envvar="FAULTLANE_RETAIN_DAYS", min=0, show_default="30", help="Days to keep logs for."
        ),
    ] = None,
    retain_simulations: Annotated[
        int | None,
        typer.Option(
            envvar="FAULTLANE_RETAIN_SIMULATIONS",
            min=1,
            show_default="10000",
            help="Ended simulations to remember.",
        ),
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    try:
        settings = Settings(
            host,
            port,
            insecure,
            tls_cert,
            tls_key,
            tls_client_ca,
            tokens,
            reflection,
            channelz,
            metrics_host,
            metrics_port,
            traces,
            data_dir,
            {
                "workers": workers,
                "queued_max": queued_max,
                "streams_max": streams_max,
                "connections_max": connections_max,
                "explained_max": explained_max,
                "rows_max": rows_max,
                "run.threads_max": run_threads_max,
                "run.vmas_max": run_vmas_max,
                "run.pages_max": run_pages_max,
                "run.memory_bytes_max": _bytes(run_memory_mib_max),
                "run.faults_max": run_faults_max,
                "run.events_max": run_events_max,
                "run.seconds_max": run_seconds_max,
                "owner.queued_max": owner_queued_max,
                "owner.running_max": owner_running_max,
                "owner.streams_max": owner_streams_max,
                "disk.bytes_max": _bytes(disk_mib_max),
                "disk.owner_bytes_max": _bytes(owner_disk_mib_max),
                "disk.free_bytes_min": _bytes(disk_free_mib_min),
                "disk.retain_bytes": _bytes(retain_mib),
                "disk.retain_s": None if retain_days is None else retain_days * DAY_S,
                "disk.retain_simulations": retain_simulations,
            },
        )
    except BadSettings as error:
        raise typer.BadParameter(str(error)) from error
    from faultlane_server import wiring

    try:
        wiring.serve(settings)
    except wiring.CannotServe as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Whose simulations it is for.")],
    tokens: Annotated[
        Path, typer.Option(envvar="FAULTLANE_TOKENS", help="File to add it to, or to make.")
    ],
    role: Annotated[
        str,
        typer.Option(
            metavar="read|submit|admin",
            help="read: the catalogue, and the simulations of the name; submit: to make, end and"
            " explain them too; admin: the same with everybody's.",
        ),
    ] = "submit",
) -> None:
    """Make a token, and print it: once, since the file has nothing but its hash.

    A server that uses the file needs no restart. To take a token back, delete its line. After the
    hash a line may have quotas for all tokens of its name, such as queued_max=8 running_max=2
    streams_max=64 disk_mib_max=1024 calls_per_minute_max=600.
    """
    from faultlane_server.service.tokens import BadTokens, Role, add_token

    if role.upper() not in Role.__members__:
        raise typer.BadParameter(f"want read, submit or admin, got {role!r}", param_hint="--role")
    try:
        typer.echo(add_token(tokens, name, Role[role.upper()]))
    except (BadTokens, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def health(
    address: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1:50051",
    timeout_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for an answer.")] = 2.0,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="FAULTLANE_HEALTH_CA",
            show_default="plain text",
            help="What the certificate of the server is signed with, or itself, in PEM.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(envvar="FAULTLANE_HEALTH_CERT", help="Certificate to show, in PEM."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="FAULTLANE_HEALTH_KEY", help="Its private key, in PEM.")
    ] = None,
    server_name: Annotated[
        str | None,
        typer.Option(
            envvar="FAULTLANE_HEALTH_SERVER_NAME",
            show_default="the host of the address",
            help="The name in the certificate of the server.",
        ),
    ] = None,
) -> None:
    """Say how a server is; exit with 0 if it can run simulations and with 1 if not."""
    from faultlane_server.service.probe import ProbeTls, health_of

    if bool(cert) != bool(key) or (ca is None and (cert or server_name)):
        raise typer.BadParameter("want --ca with --server-name and --cert, and --cert with --key")
    try:
        tls = ProbeTls(ca, cert, key, server_name) if ca else None
        found = health_of(address, timeout_s, tls)
    except OSError as error:
        found = f"UNREACHABLE: {error}"
    typer.echo(found)
    raise typer.Exit(0 if found == "SERVING" else 1)


@app.command()
def fidelity(
    rows: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            show_default="all that were published with this program",
            help="Rows of medians to simulate instead: a CSV file.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--set", help="Only rows of this set, such as icount.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only every eighth row.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a page with plots as well.")
    ] = None,
) -> None:
    """Simulate what was measured on a real kernel, and tell how near that comes."""
    try:
        from faultlane_server.fidelity.command import BadPage, BadRows, report
        from faultlane_server.fidelity.page import MissingPlots
    except ModuleNotFoundError as error:
        typer.echo(f"no simulator here ({error}): pip install 'faultlane[server]'", err=True)
        raise typer.Exit(2) from error
    try:
        problems = report(rows=rows, only=only, quick=quick, as_json=as_json, html=html)
    except (BadRows, BadPage, MissingPlots) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(1 if problems else 0)


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib << 20
