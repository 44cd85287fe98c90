"""How fast events arrive: `python -m tests.bench.streaming` prints a table, `--json` an object.

A server in a process of its own simulates a workload; this process reads its faults over the
loopback interface into numpy arrays: while the run goes on, and again from its log. Beside it,
in turns with the reading of the log, Arrow Flight sends the same columns in as many rows to a
message, if pyarrow is installed (the extra `bench`). Flight has them in memory, the server reads
a file and checks it.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from subprocess import DEVNULL
from time import perf_counter
from typing import NamedTuple

import faultlane
from faultlane import Client, FaultEvents
from faultlane import v1 as pb
from tests.serving import ready_server

ROWS_A_MESSAGE = (1024, 4096)  # 4096 are as many as a block of the log has: a message has no more
ROUNDS = 5
FAULTS = 1 << 19  # one for each page of the file
THREADS = 64

SCENARIO = faultlane.scenario_from(
    {
        "workload": {
            "files": [
                {
                    "name": "data",
                    "size_bytes": "2GiB",
                    "device": "disk",
                    "initial": [{"state": "PAGE_STATE_CACHED"}],
                }
            ],
            "processes": [
                {
                    "name": "app",
                    "vmas": [{"name": "map", "length_bytes": "2GiB", "file": {"file": "data"}}],
                    "groups": [
                        {
                            "name": "readers",
                            "threads": THREADS,
                            "program": [
                                {
                                    "touch": {
                                        "vma": "map",
                                        "sequential": {"divided": True},
                                        "count": FAULTS // THREADS,
                                    }
                                }
                            ],
                        }
                    ],
                }
            ],
        },
        "machine": {
            "arch": "x86",
            "cpus": THREADS,
            "devices": [{"name": "disk", "latency": {"fixed_ns": "100us"}}],
        },
        "kernel": {"fault_around_bytes": "4KiB"},
        "horizon_ns": "1000s",
    }
)


class Way(NamedTuple):
    """A way to read the faults of a run; it returns how many there were."""

    name: str
    rows_a_message: int
    read: Callable[[], int]


@dataclass(frozen=True)
class Figures:
    """What was measured of one way."""

    name: str
    rows_a_message: int
    events: int
    seconds: tuple[float, ...]  # of each round

    @property
    def events_per_s(self) -> float:
        return self.events / median(self.seconds)


# An equal run would else be had from the log of the first one.
AGAIN = pb.RunOptions(skip_cache=True)


def simulate(client: Client) -> int:
    """Read nothing: events cannot arrive faster than this while a run goes on."""
    return client.submit(SCENARIO, options=AGAIN).wait().progress.fault_rows


def read_live(client: Client, rows: int) -> int:
    return sum(map(len, client.run(SCENARIO, batch_rows=rows, options=AGAIN).events()))


def read_log(client: Client, name: str, rows: int) -> int:
    messages = client.stream_events(name, batch_rows=rows)
    return sum(len(FaultEvents.from_message(message.faults)) for message in messages)


def ways_while_running(client: Client) -> list[Way]:
    return [
        Way("simulated, not read", 0, partial(simulate, client)),
        *(Way("live", rows, partial(read_live, client, rows)) for rows in ROWS_A_MESSAGE),
    ]


def ways_from_log(client: Client, name: str) -> list[Way]:
    return [
        Way("from the log", rows, partial(read_log, client, name, rows)) for rows in ROWS_A_MESSAGE
    ]


def measured(ways: list[Way]) -> list[Figures]:
    """Take the ways in turns, so that what else the machine does meets them all."""
    seconds: list[list[float]] = [[] for _ in ways]
    events = [0 for _ in ways]
    for _ in range(ROUNDS):
        for place, way in enumerate(ways):
            began = perf_counter()
            events[place] = way.read()
            seconds[place].append(perf_counter() - began)
    return [
        Figures(way.name, way.rows_a_message, events[place], tuple(seconds[place]))
        for place, way in enumerate(ways)
    ]


def measure(client: Client) -> list[Figures]:
    while_running = measured(ways_while_running(client))
    run = client.submit(SCENARIO, options=AGAIN)
    faults = FaultEvents.concat(run.events())
    from_log = ways_from_log(client, run.name)
    if find_spec("pyarrow") is None:
        return while_running + measured(from_log)
    from tests.bench.flight import flight_of

    with flight_of(faults.columns()) as read_all:
        flight = [Way("Arrow Flight", rows, partial(read_all, rows)) for rows in ROWS_A_MESSAGE]
        return while_running + measured(from_log + flight)


def table(figures: list[Figures]) -> str:
    """Return the figures for people."""
    event_bytes = sum(column.itemsize for column in FaultEvents.concat([]).columns().values())
    lines = [
        f"{'':20} {'rows a message':>14} {'Mevents/s':>10} {'MB/s':>6}"
        f" {'slowest':>8} {'fastest':>8}"
    ]
    for row in figures:
        extremes = (row.events / seconds / 1e6 for seconds in (max(row.seconds), min(row.seconds)))
        lines.append(
            f"{row.name:20} {row.rows_a_message or '':>14} {row.events_per_s / 1e6:10.2f}"
            f" {row.events_per_s * event_bytes / 1e6:6.0f}"
            + "".join(f" {extreme:8.2f}" for extreme in extremes)
        )
    return "\n".join([*lines, f"Medians of {ROUNDS} rounds; an event has {event_bytes} bytes."])


def main() -> None:
    """Measure all ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with ready_server(stderr=DEVNULL) as address, Client.connect(address) as client:
        figures = measure(client)
    if as_json:
        rows = [{**asdict(row), "events_per_s": row.events_per_s} for row in figures]
        print(json.dumps({"streaming": rows}, indent=2))
    else:
        print(table(figures))


if __name__ == "__main__":
    main()
