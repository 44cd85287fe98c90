"""The commands. Results go to stdout; progress and errors go to stderr."""

from typing import Annotated

import typer

from faultlane import v1 as pb
from faultlane.calls import Choice
from faultlane.cli import calibrate, catalog, fidelity
from faultlane.cli.exits import EXIT_HELP, errors_as_exits, exit_after
from faultlane.cli.options import (
    SEED_MAX,
    Changes,
    Json,
    MachineOption,
    Seed,
    Server,
    Source,
    change,
    connected,
    find,
    show,
)
from faultlane.cli.plain import comparison_plain, message_plain, run_plain, to_json
from faultlane.cli.terminal import RunProgress, explaining
from faultlane.client import Client
from faultlane.compare import Comparison, compare
from faultlane.report.comparison import comparison_report
from faultlane.report.explanation import explanation_report
from faultlane.report.run import headline, run_report
from faultlane.report.streamed import Streamed

app = typer.Typer(
    help="Simulates how Linux page faults wait for locks and for I/O.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(show)
catalog.add_to(app)
calibrate.add_to(app)
fidelity.add_to(app)


@app.command(epilog=EXIT_HELP)
def run(
    source: Source,
    policy: Annotated[str | None, typer.Option(help="Replaces the scenario's policy.")] = None,
    machine: MachineOption = None,
    changes: Changes = None,
    seed: Seed = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Run a scenario and tell what became of its faults."""
    with errors_as_exits(), connected(server) as client:
        scenario = find(client, source).scenario
        change(scenario, machine, changes, seed)
        if policy is not None:
            scenario.kernel.policy_id = policy
        simulation, streamed = _stream(client, scenario)
        if as_json:
            typer.echo(to_json(run_plain(simulation, streamed)))
        else:
            typer.echo("\n".join(run_report(source, simulation, streamed)))
            if server is not None:
                typer.echo(f"\nkept as {simulation.name}: see faultlane explain --help")
        exit_after([simulation.summary])


LIVE_DESIGNS = ["mainline", "rfc", "hold"]  # those that upstream argues about


@app.command("compare", epilog=EXIT_HELP)
def compare_command(
    source: Source,
    policies: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="The policies; the first is what the others differ from. The default are those"
            " of the preset, or mainline,rfc,hold.",
        ),
    ] = "",
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="How many seeds; intervals take at least two.")
    ] = 1,
    machine: MachineOption = None,
    changes: Changes = None,
    seed: Seed = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Run a scenario under several policies with the same seeds, and tell the differences."""
    with errors_as_exits(), connected(server) as client:
        preset = find(client, source)
        change(preset.scenario, machine, changes, seed)
        chosen = _names(policies) or list(preset.policies) or LIVE_DESIGNS
        comparison = _compare(client, preset.scenario, chosen, seeds)
        if as_json:
            typer.echo(to_json(comparison_plain(comparison)))
        else:
            typer.echo("\n".join(comparison_report(source, comparison)))
        exit_after(
            result.simulation.summary
            for results in comparison.results.values()
            for result in results
        )


@app.command(epilog=EXIT_HELP)
def explain(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run that a server keeps, `simulations/...`; or a scenario file or the id of a"
            " preset, which is run first.",
        ),
    ],
    fault: Annotated[
        int | None, typer.Option(min=0, max=SEED_MAX, help="The fault in this row of the log.")
    ] = None,
    slowest: Annotated[
        bool, typer.Option("--slowest", help="The fault that took the longest: the default.")
    ] = False,
    most_retried: Annotated[
        bool, typer.Option("--most-retried", help="The fault that made the most attempts.")
    ] = False,
    policy: Annotated[
        str | None, typer.Option(help="Replaces the policy of a scenario that is run.")
    ] = None,
    machine: MachineOption = None,
    changes: Changes = None,
    seed: Seed = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Tell why one fault of a run took as long as it did: every step, and who was in the way."""
    if (fault is not None) + slowest + most_retried > 1:
        raise typer.BadParameter("want one of --fault, --slowest and --most-retried, got several")
    choice: Choice = "most retried" if most_retried else "slowest"
    is_kept = source.startswith(RUNS)
    if is_kept:
        _require_a_run_as_it_is(server, policy, machine, changes, seed)
    with errors_as_exits(), connected(server) as client:
        if is_kept:
            simulation = client.get_simulation(source)
        else:
            scenario = find(client, source).scenario
            change(scenario, machine, changes, seed)
            if policy is not None:
                scenario.kernel.policy_id = policy
            simulation, _ = _stream(client, scenario)
        with explaining():
            answer = client.explain(simulation.name, choice if fault is None else fault)
        if as_json:
            typer.echo(to_json(message_plain(answer)))
        else:
            title = headline(source, simulation.scenario)
            typer.echo("\n".join(explanation_report(title, answer)))


RUNS = "simulations/"


def _require_a_run_as_it_is(
    server: str | None,
    policy: str | None,
    machine: str | None,
    changes: list[str] | None,
    seed: int | None,
) -> None:
    if server is None:
        raise typer.BadParameter(
            "want HOST:PORT of the server that keeps the run", param_hint="--server"
        )
    if policy is not None or machine is not None or changes or seed is not None:
        raise typer.BadParameter(
            "--policy, --machine, --set and --seed are for scenarios that are run first"
        )


def _stream(client: Client, scenario: pb.Scenario) -> tuple[pb.Simulation, Streamed]:
    """Run to the end; return the simulation, and what was seen of its events."""
    streamed = Streamed()
    with client.run(scenario) as started, RunProgress(scenario.horizon_ns) as progress:
        for faults in started.events():
            streamed.see_faults(faults)
            progress.see(scenario, faults)
        for operations in started.operations():
            streamed.see_operations(operations)
        return started.result(), streamed


def _compare(client: Client, scenario: pb.Scenario, policies: list[str], seeds: int) -> Comparison:
    with RunProgress(scenario.horizon_ns) as progress:
        return compare(
            client,
            scenario,
            policies,
            [(scenario.seed + number) % (SEED_MAX + 1) for number in range(seeds)],
            progress.see,
        )


def _names(text: str) -> list[str]:
    """Names between commas, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
