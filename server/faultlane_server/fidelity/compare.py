"""What a row measured, beside what its scenario gives when it is simulated."""

from typing import NamedTuple

from faultlane_server.engine import Simulator
from faultlane_server.fidelity.rows import Row, scenario_of
from faultlane_server.summary import Summary

# The counters of a measured run include two faults of the harness itself, which take mmap_lock:
# in every row without a writer, `pgfault` is the number of touches and two.
HARNESS_MMAP_READS = 2


class Quantity(NamedTuple):
    """One number of a row, measured and simulated."""

    name: str  # the column of the row
    measured: float
    simulated: float


def simulate(row: Row, *, profile: str, cpus: int) -> Summary:
    """Run the scenario of a row to its end."""
    simulator = Simulator(scenario_of(row, profile=profile, cpus=cpus))
    while not simulator.advance():
        pass
    return simulator.summary()


def compare(row: Row, *, profile: str, cpus: int) -> list[Quantity]:
    """Return every number of a row that the simulation has as well."""
    simulated = _quantities(simulate(row, profile=profile, cpus=cpus))
    return [
        Quantity(name, float(row[name]), value) for name, value in simulated.items() if row[name]
    ]


def _quantities(summary: Summary) -> dict[str, float]:
    metrics = summary.metrics
    touches = metrics["touches.count"]
    latencies = {latency.name: latency for latency in summary.latencies}
    touch = latencies["touch.all"]
    quantities = {
        "touches_per_s_median": touches * 1e9 / summary.end_ns,
        "touch_p50_ns_median": float(touch.p50_ns),
        "touch_p99_ns_median": float(touch.p99_ns),
        "mmap_read_per_touch_median": (metrics["mmap_lock.read.acquired"] + HARNESS_MMAP_READS)
        / touches,
        "pgmajfault_median": metrics["vmstat.pgmajfault"],
    }
    if "section.writer" in latencies:
        writer = latencies["section.writer"]
        quantities["writer_p50_ns_median"] = float(writer.p50_ns)
        quantities["writer_p99_ns_median"] = float(writer.p99_ns)
        quantities["writer_ops_per_s_median"] = writer.count * 1e9 / summary.end_ns
    return quantities
