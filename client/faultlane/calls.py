"""What the two clients have in common: how they connect, and when a stream is over."""

import json
import uuid
from typing import Literal, Protocol, TypeVar

import numpy as np

from faultlane import v1 as pb
from faultlane.errors import InvalidRequest, want_got

TIMEOUT_S = 10.0  # of a call with one answer, unless it is told otherwise
EXPLAIN_TIMEOUT_S = 600.0  # the run is simulated again
MESSAGE_BYTES_MAX = 64 << 20  # 65536 rows, the longest batch there is, take 9 MB
KEPT_BYTES = 16 << 20

# A call with one answer is made again if the server is away for a moment: each of them can be
# repeated, CreateSimulation because of its request id. Streams are taken up again by `Run`.
_ONE_ANSWER = [
    "CreateSimulation",
    "GetSimulation",
    "ListSimulations",
    "CancelSimulation",
    "ExplainFault",
]
_CALLED_AGAIN = {
    "name": [
        {"service": "faultlane.v1.CatalogService"},
        *({"service": "faultlane.v1.SimulationService", "method": rpc} for rpc in _ONE_ANSWER),
    ],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "backoffMultiplier": 2,
        "maxBackoff": "1s",
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],  # see `errors`
    },
}

CHANNEL_OPTIONS = [
    ("grpc.service_config", json.dumps({"methodConfig": [_CALLED_AGAIN]})),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A server is then one message ahead of its reader. By default gRPC lets a window grow with
    # the speed of the connection: over loopback that is 12 MB, which wait in this process.
    ("grpc.http2.bdp_probe", 0),
    # A server that is started again is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]

ENDED = (
    pb.SimulationState.SIMULATION_STATE_SUCCEEDED,
    pb.SimulationState.SIMULATION_STATE_FAILED,
    pb.SimulationState.SIMULATION_STATE_CANCELLED,
)


Choice = Literal["slowest", "most retried"]
CHOICES: dict[Choice, pb.FaultChoice.ValueType] = {
    "slowest": pb.FaultChoice.FAULT_CHOICE_SLOWEST,
    "most retried": pb.FaultChoice.FAULT_CHOICE_MOST_RETRIED,
}
ROW_MAX = 2**64 - 1


class StreamMessage(Protocol):
    """A message of a stream, which carries the simulation if it is the last one."""

    @property
    def simulation(self) -> pb.Simulation: ...


Message = TypeVar("Message", bound=StreamMessage, covariant=True)


def new_request_id() -> str:
    """Return an id that makes it safe to ask for a simulation again."""
    return uuid.uuid4().hex


def explain_request(
    name: str, fault: int | None, choice: pb.FaultChoice.ValueType | None
) -> pb.ExplainFaultRequest:
    """Ask for the fault in a row of the log, or for one that is chosen."""
    if fault is not None and not 0 <= fault <= ROW_MAX:
        raise InvalidRequest([want_got("fault", f"0 to {ROW_MAX}", fault)])
    request = pb.ExplainFaultRequest(name=name)
    if fault is not None:
        request.fault = fault
    elif choice is not None:
        request.choice = choice
    return request


def keep_memory() -> None:
    """Let the memory of a message be used for the next one.

    glibc gives blocks above a threshold back to the system, which clears each page of the next
    one; the threshold is the largest block that was ever freed. This one is not even touched.
    """
    np.empty(KEPT_BYTES, np.uint8)


def stream_is_over(message: StreamMessage, number: int) -> bool:
    """The last message of a stream of one log is the only one with the simulation."""
    return bool(message.simulation.name)


def run_is_over(message: StreamMessage, number: int) -> bool:
    """The first message of a run has the simulation too, which may have ended before."""
    return number > 0 and message.simulation.state in ENDED


def watch_is_over(message: StreamMessage, number: int) -> bool:
    """Nothing comes after the simulation as it ended."""
    return message.simulation.state in ENDED
