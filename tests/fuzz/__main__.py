"""Sends inputs that are more or less wrong, and keeps those that find a bug.

    python -m tests.fuzz --inputs 200000 --seed 1

Requests go through everything that the service does with them, and accepted scenarios are run,
by the real engine with `--engine`; files go through what the client does with them.
"""

import argparse
import asyncio
import hashlib
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from faultlane.errors import InvalidScenario
from faultlane.scenario import read_scenario
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.runs import DiskLimits, Limits, RunLimits, compiled_engine
from tests.fuzz.front import Front
from tests.fuzz.inputs import CORPUS, File, Request, an_input
from tests.service.fake import an_engine

MEMORY = Path("/dev/shm")  # half of the time would else go into a disk
AT_ONCE = 50
HANGS_S = 60.0
GROWTH_BYTES_MAX = 512 << 20  # of the process, after the first tenth of the inputs
NEVER = ("INTERNAL", "UNKNOWN", "DATA_LOSS")
LIMITS = Limits(
    workers=1,
    heartbeat_s=0.2,
    run=RunLimits(events_max=50_000, seconds_max=1.0, memory_bytes_max=256 << 20),
    disk=DiskLimits(retain_simulations=200, retain_bytes=64 << 20),
    sweep_s=1.0,
)


async def try_one(front: Front, tried: Request | File, scratch: Path) -> tuple[str, str]:
    """Return what became of an input, and what is wrong with that if anything is."""
    if isinstance(tried, File):
        return _read(tried, scratch)
    try:
        answer = await front.answer(tried.method, tried.content, HANGS_S)
    except TimeoutError:
        return "hang", f"no end within {HANGS_S} s"
    except Exception as error:
        return "crash", repr(error)
    if front.broken:
        ended = front.broken.pop()
        return "broken run", f"{ended.simulation.error}"
    wrong = answer.message if answer.code.name in NEVER else ""
    return f"{answer.code.name}", wrong


def _read(tried: File, scratch: Path) -> tuple[str, str]:
    path = scratch / f"scenario{tried.ending}"
    path.write_bytes(tried.content)
    begin_s = time.monotonic()
    try:
        read_scenario(path)
        outcome = "file accepted"
    except InvalidScenario as error:
        outcome = "file refused"
        if not error.violations:
            return outcome, "nothing is named"
    except Exception as error:
        return "file crash", repr(error)[:500]
    late = time.monotonic() - begin_s > HANGS_S
    return outcome, f"no end within {HANGS_S} s" if late else ""


def keep(tried: Request | File) -> Path:
    """Write an input into the corpus."""
    name = hashlib.sha256(tried.content).hexdigest()[:16]
    kind = tried.ending if isinstance(tried, File) else f".{tried.method.rpartition('/')[2]}"
    path = CORPUS / f"{name}{kind}"
    path.write_bytes(tried.content)
    return path


def kept_inputs() -> list[Request | File]:
    """Return the inputs of the corpus."""
    found: list[Request | File] = []
    for path in sorted(CORPUS.iterdir()):
        if path.suffix in (".json", ".yaml"):
            found.append(File(path.suffix, path.read_bytes()))
        elif path.suffix != ".md":
            method = f"/faultlane.v1.SimulationService/{path.suffix[1:]}"
            found.append(Request(method, path.read_bytes()))
    return found


async def fuzz(front: Front, inputs: int, seed: int, scratch: Path) -> int:
    """Try so many inputs, some at a time, and return how many of them were too much."""
    outcomes: Counter[str] = Counter()
    found, begin_s, rss_bytes = 0, time.monotonic(), 0
    for first in range(0, inputs, AT_ONCE):
        names = await _names(front)
        numbers = range(first, min(first + AT_ONCE, inputs))
        tried = [an_input(random.Random(f"{seed}/{number}"), names) for number in numbers]
        ends = await asyncio.gather(*(try_one(front, each, scratch) for each in tried))
        for number, each, (outcome, wrong) in zip(numbers, tried, ends, strict=True):
            outcomes[outcome] += 1
            if wrong:
                found += 1
                print(f"{seed}/{number}: {outcome}: {wrong}: {keep(each)}", flush=True)
        rss_bytes = rss_bytes or (first >= inputs // 10 and _rss_bytes())
        if first % (100 * AT_ONCE) == 0:
            print(f"{first} {dict(outcomes)} {_rss_bytes() >> 20} MiB", flush=True)
    grown = _rss_bytes() - rss_bytes
    print(f"{inputs} inputs in {time.monotonic() - begin_s:.0f} s: {dict(outcomes)}")
    print(f"memory: {_rss_bytes() >> 20} MiB, {grown >> 20} MiB more than after a tenth of them")
    return found + (grown > GROWTH_BYTES_MAX)


async def _names(front: Front) -> list[str]:
    request = pb.ListSimulationsRequest(page_size=5).SerializeToString()
    method = "/faultlane.v1.SimulationService/ListSimulations"
    answer = await front.answer(method, request, HANGS_S)
    page = pb.ListSimulationsResponse.FromString(answer.responses[0])
    return [simulation.name for simulation in page.simulations]


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Try inputs; end with 1 if any of them found a bug."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", action="store_true", help="run what is accepted")
    said = parser.parse_args()
    engine = compiled_engine() if said.engine else an_engine(slices=1)
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch,
        Front(engine, Path(scratch) / "data", LIMITS) as front,
    ):
        sys.exit(bool(asyncio.run(fuzz(front, said.inputs, said.seed, Path(scratch)))))


if __name__ == "__main__":
    main()
