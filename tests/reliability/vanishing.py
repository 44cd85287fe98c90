"""Clients in a process of their own that begin to stream and read no further, until they vanish.

    python -m tests.reliability.vanishing ADDRESS NAME COUNT

It prints a line when each of them has had its first rows.
"""

import sys
from contextlib import ExitStack

import grpc

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_service_pb2_grpc import SimulationServiceStub


def main(address: str, name: str, count: int) -> None:
    """Stream from `count` channels until standard input ends."""
    with ExitStack() as stack:
        streams = []
        for number in range(count):
            own = [("grpc.client", number)]  # else they would share a connection
            channel = stack.enter_context(grpc.insecure_channel(address, own))
            simulations = SimulationServiceStub(channel)
            streams.append(simulations.StreamEvents(pb.StreamEventsRequest(name=name)))
        for stream in streams:
            next(stream)
        print("streaming", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
