"""How soon the first event is there: `python -m tests.bench.startup`, with `--json` as an object.

Two ways in: a server in a process of its own, to which a client that is there already connects;
and a script that starts one inside itself, as `faultlane run` does. Warm finds compiled kernels on
the disk, cold compiles them, which takes minutes: `--warm` leaves it out. All times count from the
start of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from time import monotonic

import grpc

from faultlane import Client
from tests.serving import serving, wait_until_it_serves

ROUNDS = 5
KERNELS = "FAULTLANE_CACHE_DIR"

# The clock is the same in all processes.
SCRIPT = """
import json
from time import monotonic
import faultlane
imported = monotonic()
with faultlane.local() as client:
    ready = monotonic()
    with client.run(client.get_preset("first-look").scenario) as run:
        next(run.events())
        first_event = monotonic()
        run.cancel()
print(json.dumps([imported, ready, first_event]))
"""


@dataclass(frozen=True)
class Start:
    """When a process had come how far, in seconds from its start."""

    way_in: str
    kernels: str  # "warm" or "cold"
    up_s: float  # it listens, or has imported the SDK
    ready_s: float  # it can run simulations
    first_event_s: float


def start_server(kernels: str, environment: Mapping[str, str]) -> Start:
    began = monotonic()
    with serving(env=environment, stderr=subprocess.DEVNULL) as (_, address):
        up = monotonic()
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
            ready = monotonic()
            client = Client(channel)
            with client.run(client.get_preset("first-look").scenario) as run:
                next(run.events())
                first_event = monotonic()
    return Start("server", kernels, up - began, ready - began, first_event - began)


def start_script(kernels: str, environment: Mapping[str, str]) -> Start:
    began = monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True
    )
    up, ready, first_event = json.loads(done.stdout)
    return Start("script", kernels, up - began, ready - began, first_event - began)


def warm_starts() -> list[Start]:
    """Start each way some times, after a first time that makes sure that all is warm."""
    starts = []
    for start in (start_server, start_script):
        start("warm", os.environ)
        rounds = [start("warm", os.environ) for _ in range(ROUNDS)]
        starts.append(sorted(rounds, key=lambda each: each.first_event_s)[ROUNDS // 2])
    return starts


def cold_start() -> Start:
    with tempfile.TemporaryDirectory() as empty:
        return start_server("cold", {**os.environ, KERNELS: empty})


def table(starts: list[Start]) -> str:
    """Return the figures for people."""
    lines = [f"{'':12} {'up s':>8} {'ready s':>8} {'first event s':>14}"]
    for row in starts:
        lines.append(
            f"{row.way_in:6} {row.kernels:5} {row.up_s:8.2f} {row.ready_s:8.2f}"
            f" {row.first_event_s:14.2f}"
        )
    return "\n".join([*lines, f"Warm: the median start of {ROUNDS}; cold: one."])


def main() -> None:
    """Measure all starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--warm", action="store_true", help="leave out the cold start")
    asked = parser.parse_args()
    starts = warm_starts() + ([] if asked.warm else [cold_start()])
    if asked.json:
        print(json.dumps({"startup": [asdict(row) for row in starts]}, indent=2))
    else:
        print(table(starts))


if __name__ == "__main__":
    main()
