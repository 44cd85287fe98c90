"""One run as text."""

from faultlane import v1 as pb
from faultlane.report.blame import chains, edges, victims
from faultlane.report.format import duration_text, figure_text, table
from faultlane.report.histogram import histogram, percentiles
from faultlane.report.locks import instance_table, lock_table
from faultlane.report.retries import longest_fault, retry_shares
from faultlane.report.streamed import Streamed

ENDS = {
    pb.StopReason.STOP_REASON_HORIZON: "ended at the horizon",
    pb.StopReason.STOP_REASON_FINISHED: "ended because all programs had ended",
    pb.StopReason.STOP_REASON_DEADLOCK: "ended in a DEADLOCK",
    pb.StopReason.STOP_REASON_NO_PROGRESS: "ended because a fault made NO PROGRESS",
}

ALL_TOGETHER = ".all"  # distributions over several kinds: in the table, but without a histogram


def run_report(title: str, simulation: pb.Simulation, streamed: Streamed) -> list[str]:
    """Everything that a run found out."""
    summary = simulation.summary
    sections = [
        [headline(title, simulation.scenario), outcome(summary)],
        diagnosis(summary),
        titled("totals", totals(summary)),
        titled("where time went, summed over all threads", waits(summary)),
        titled("times", percentiles(summary.latencies)),
        titled("attempts of the streamed faults", streamed.attempts()),
        *(titled(latency.name, histogram(latency)) for latency in _each(summary)),
        titled("retries, by kind of fault", retry_shares(summary.retries)),
        titled("the fault with most attempts", longest_fault(summary.retries)),
        titled("locks", lock_table(summary.locks)),
        titled("locks, one by one", instance_table(summary.blame.locks)),
        titled("who waited for whom", edges(summary.blame)),
        titled("what was in the way", chains(summary.blame)),
        titled("what waits were to whom", victims(summary.blame)),
    ]
    return joined(sections)


def headline(title: str, scenario: pb.Scenario) -> str:
    """What was run on what."""
    kernel, machine = policy_text(scenario.kernel), machine_text(scenario.machine)
    return f"{title}: {kernel} on {machine}, seed {scenario.seed}"


def policy_text(kernel: pb.Kernel) -> str:
    """The policy by its id, if it has one."""
    if kernel.HasField("retry_policy"):
        return "a policy by its columns"
    return f"policy {kernel.policy_id or 'mainline'}"


def machine_text(machine: pb.Machine) -> str:
    """The machine in a few words, its profile included."""
    profile = machine.profile or "neutral"
    cpus = "1 CPU" if machine.cpus == 1 else f"{machine.cpus} CPUs"
    return f"{machine.arch}, {cpus}, machine profile {profile}"


def outcome(summary: pb.Summary) -> str:
    """How the run ended."""
    end, measured = duration_text(summary.end_ns), duration_text(summary.measured_ns)
    return f"{ENDS.get(summary.stop, 'ended')} after {end} of simulated time, {measured} measured"


def diagnosis(summary: pb.Summary) -> list[str]:
    """Why the run could not go on, if it could not."""
    if not summary.HasField("diagnosis"):
        return []
    return [summary.diagnosis.message, *(f"  {line}" for line in summary.diagnosis.chain)]


def totals(summary: pb.Summary) -> list[str]:
    """Every counter and rate but the waits."""
    rows = [[metric.name, figure_text(metric.name, metric.value)] for metric in summary.metrics]
    return table([row for row in rows if not _is_wait(row[0])])


def waits(summary: pb.Summary) -> list[str]:
    """The waits by cause, and what part of all waiting each of them is."""
    found = {metric.name: metric.value for metric in summary.metrics if _is_wait(metric.name)}
    whole = sum(found.values())
    if not whole:
        return []
    rows = [
        [name, duration_text(ns), f"{ns / whole:.1%}"]
        for name, ns in sorted(found.items(), key=lambda item: -item[1])
    ]
    return table(rows)


def titled(title: str, lines: list[str]) -> list[str]:
    """A section, unless there is nothing to say."""
    return [title, *(f"  {line}" for line in lines)] if lines else []


def joined(sections: list[list[str]]) -> list[str]:
    """All sections, with an empty line between them."""
    lines: list[str] = []
    for section in filter(None, sections):
        lines += ["", *section] if lines else section
    return lines


def _each(summary: pb.Summary) -> list[pb.Latency]:
    return [each for each in summary.latencies if not each.name.endswith(ALL_TOGETHER)]


def _is_wait(name: str) -> bool:
    return name.startswith("wait.")
