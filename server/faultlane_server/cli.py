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
            show_default="2048",
            help="MiB of memory that a run may need.",
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
            data_dir,
            {
                "workers": workers,
                "queued_max": queued_max,
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
    except (wiring.CannotListen, wiring.DataDirError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def health(
    address: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1:50051",
    timeout_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for an answer.")] = 2.0,
) -> None:
    """Say how a server is; exit with 0 if it can run simulations and with 1 if not."""
    from faultlane_server.service.probe import health_of

    found = health_of(address, timeout_s)
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
