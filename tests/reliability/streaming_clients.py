"""Clients in a process of their own that stream whatever runs, until the process is ended.

    python -m tests.reliability.streaming_clients ADDRESS COUNT

It prints a line when each of them has had its first rows, as arrays.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from faultlane import Client, FaultEvents
from faultlane import v1 as pb

RUNNING = pb.SimulationState.SIMULATION_STATE_RUNNING


def main(address: str, count: int) -> None:
    """Stream until the process is ended."""
    together = threading.Barrier(count + 1)
    with ThreadPoolExecutor(count) as pool:
        for number in range(count):
            pool.submit(_stream, address, number, together)
        together.wait()
        print("streaming", flush=True)


def _stream(address: str, number: int, together: threading.Barrier) -> None:
    has_begun = False
    with Client.connect(address) as client:
        while True:
            for message in client.stream_events(_one_that_runs(client, number)):
                rows = FaultEvents.from_message(message.faults)
                if len(rows) and not has_begun:
                    has_begun = True
                    together.wait()


def _one_that_runs(client: Client, number: int) -> str:
    while True:
        if running := list(client.list_simulations(states=[RUNNING])):
            return running[number % len(running)].name
        threading.Event().wait(0.05)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
