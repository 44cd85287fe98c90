"""An engine whose runs do exactly what the test says, and a server around it."""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from faultlane.v1 import catalog_service_pb2_grpc, simulation_service_pb2_grpc
from faultlane.v1 import scenario_pb2 as pb
from faultlane.v1 import simulation_service_pb2 as pb2
from faultlane.v1.simulation_pb2 import Simulation
from faultlane_server.codes import Activity, FaultLock, StopReason
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.explanation import Blocking, Explanation, FaultStep, Link
from faultlane_server.runs import Clock, Engine, Limits
from faultlane_server.runs.engine import Explain
from faultlane_server.scenario import Scenario
from faultlane_server.service.local import LocalServer
from faultlane_server.store import Columns
from faultlane_server.summary import (
    AttemptRow,
    Blame,
    BlameChain,
    BlameEdge,
    BlameLink,
    Diagnosis,
    Latency,
    LeftOut,
    LockInstanceRow,
    LockRow,
    LongestFault,
    Retries,
    RetryRow,
    Summary,
    Victim,
    WaitPart,
    Who,
)

M = TypeVar("M", bound=Message)

MODEL_VERSION = 7
FAULTS_A_SLICE = 1000
OPERATIONS_A_SLICE = 10
PATIENCE_S = 20.0

READERS = Who("fault_mmap", "readers")
MAPPER = Who("mprotect", "mapper")

SUMMARY = Summary(
    stop=StopReason.DEADLOCK,
    end_ns=123,
    measured_ns=100,
    fingerprint=0xFEDCBA9876543210,
    model_version=MODEL_VERSION,
    metrics={"vmstat.pgmajfault": 3.0, "faults.per_second": 0.5},
    latencies=(Latency("fault.file_read.major", 3, 1, 2.5, 1, 4, 2, 3, 4, 4, (1, 1, 1)),),
    locks=(LockRow("mmap_lock", "read", 5, 4, 3, 2, 1, 1),),
    blame=Blame(
        edges=(BlameEdge(READERS, "mmap_lock", "read", MAPPER, 2, 300, 200),),
        edges_left_out=LeftOut(1, 2, 3),
        chains=(
            BlameChain(
                READERS, (BlameLink("mmap_lock", "read", MAPPER),), "cpu", 2, 300, 200, 1, 100
            ),
        ),
        chains_left_out=LeftOut(0, 0, 0),
        victims=(Victim(READERS, 2, 300, 200, 300, 200, 100, 100, 1),),
        victims_left_out=LeftOut(0, 0, 0),
        locks=(LockInstanceRow("mmap_lock", "read", "reader", 2, 300, 200),),
        locks_left_out=LeftOut(0, 0, 0),
        waits_not_followed=4,
    ),
    retries=Retries(
        kinds=(RetryRow("file_read", (5, 4)),),
        longest=LongestFault(
            *(1, "readers", 7, "file_read", 10, 90, True, 2, 1),
            (AttemptRow("vma", False, "F7", 60, (WaitPart("device", 50),)),),
        ),
    ),
    diagnosis=Diagnosis("two threads wait for each other", ("1 for 2", "2 for 1")),
)


EXPLANATION = Explanation(
    subject="thread 0 (readers) of reader: read at 0x1000, VMA 0 (map)",
    steps=(
        FaultStep(
            start_ns=5,
            duration_ns=10,
            attempt=1,
            activity=Activity.SLEEPING,
            function="do_fault > filemap_fault",
            text="waits",
            notes=("vma_start_read",),
            lock=FaultLock.VMA,
            holds=("the VMA lock",),
            fault_flags=0x1254,
            result=0x404,
            spent_ns={"device": 10},
            blocking=(Blocking(5, 10, (Link(3, "thread 3"), Link(2**32 - 1, "disk")), 2),),
        ),
        FaultStep(start_ns=15, duration_ns=1, spent_ns={"cpu": 1}, steps_omitted=7),
    ),
)


def explain_at_once(
    scenario: Scenario, fault: Mapping[str, int], is_cancelled: Callable[[], bool]
) -> Explanation:
    """Explain every fault alike, without simulating anything."""
    return EXPLANATION


def a_scenario(**changes: object) -> pb.Scenario:
    """A small scenario that makes sense, but for `changes`."""
    scenario = pb.Scenario(
        workload=pb.Workload(
            files=[pb.File(name="data", size_bytes=1 << 20, device="disk")],
            processes=[
                pb.Process(
                    name="reader",
                    vmas=[
                        pb.Vma(name="map", length_bytes=1 << 20, file=pb.FileMapping(file="data"))
                    ],
                    groups=[
                        pb.ThreadGroup(
                            name="readers",
                            threads=2,
                            program=[
                                pb.Step(touch=pb.Touch(vma="map", uniform=pb.Uniform(), count=9))
                            ],
                        )
                    ],
                )
            ],
        ),
        machine=pb.Machine(
            arch="x86",
            cpus=2,
            devices=[pb.Device(name="disk", latency=pb.Duration(fixed_ns=100_000))],
        ),
        kernel=pb.Kernel(policy_id="mainline"),
        seed=1,
        horizon_ns=1_000_000_000,
    )
    scenario.MergeFrom(pb.Scenario(**changes))  # type: ignore[arg-type]
    return scenario


def columns_of(dtypes: dict[str, str], first: int, count: int, seed: int) -> Columns:
    """Rows that differ from each other, from column to column and from seed to seed."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return {
        name: ((numbers + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15 + 2 * place)).astype(
            dtype
        )
        for place, (name, dtype) in enumerate(dtypes.items())
    }


class FakeSimulator:
    """Makes rows out of the seed, and ends after so many slices."""

    def __init__(self, scenario: Scenario, slices: int, on_slice: Callable[[int], None]) -> None:
        self.now_ns = 0
        self.faults = 0
        self.events = 0
        self._seed = scenario.seed
        self._slices = slices
        self._slice = 0
        self._taken = 0
        self._on_slice = on_slice

    def advance(self) -> bool:
        self._on_slice(self._slice)
        self._slice += 1
        self.now_ns += 1000
        self.faults += FAULTS_A_SLICE
        self.events += 2 * FAULTS_A_SLICE
        return self._slice == self._slices

    def take_rows(self) -> tuple[Columns, Columns]:
        count = self._slice - self._taken
        faults = rows_of_faults(self._taken, count, self._seed)
        operations = rows_of_operations(self._taken, count, self._seed)
        self._taken = self._slice
        return faults, operations

    def summary(self) -> Summary:
        return SUMMARY


def rows_of_faults(first_slice: int, slices: int, seed: int = 1) -> Columns:
    first, count = first_slice * FAULTS_A_SLICE, slices * FAULTS_A_SLICE
    return columns_of(FAULT_COLUMNS, first, count, seed)


def rows_of_operations(first_slice: int, slices: int, seed: int = 1) -> Columns:
    first, count = first_slice * OPERATIONS_A_SLICE, slices * OPERATIONS_A_SLICE
    return columns_of(OPERATION_COLUMNS, first, count, seed)


def an_engine(
    slices: int = 3,
    on_slice: Callable[[int], None] = lambda _: None,
    warm_up: Callable[[], None] = lambda: None,
    on_begin: Callable[[], None] = lambda: None,
    model_version: int = MODEL_VERSION,
    explain: Explain = explain_at_once,
    memory_of: Callable[[Any], int] = lambda _: 0,
) -> Engine:
    def begin(scenario: Scenario) -> FakeSimulator:
        on_begin()
        return FakeSimulator(scenario, slices, on_slice)

    return Engine(model_version, warm_up, begin, explain, memory_of)


class Gate:
    """Closed until a test opens it; tells when somebody stands before it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S), "nobody opened the gate"


def endless(_: int) -> None:
    """A slice of a run that uses two milliseconds for it."""
    threading.Event().wait(0.002)


class Peer:
    """Stubs on one channel; a server that `knows_owners` hears who `owner` is."""

    def __init__(self, channel: grpc.Channel, owner: str = "") -> None:
        if owner:
            channel = grpc.intercept_channel(channel, _Signed(owner))
        self.channel = channel
        self.simulations = simulation_service_pb2_grpc.SimulationServiceStub(channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)


class _Signed(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Says with every call whose it is."""

    def __init__(self, owner: str) -> None:
        self._metadata = (("owner", owner),)

    def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
        return call(details._replace(metadata=self._metadata), request)

    def intercept_unary_stream(self, call: Any, details: Any, request: Any) -> Any:
        return call(details._replace(metadata=self._metadata), request)


def knows_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers take the word of their callers for who they are."""
    monkeypatch.setattr(
        "faultlane_server.service.identity.owner_of",
        lambda context: str(dict(context.invocation_metadata()).get("owner", "nobody")),
    )


class Servers:
    """Starts servers that end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(
        self, engine: Engine | None = None, limits: Limits | None = None, **of_server: Any
    ) -> Peer:
        """Return a peer of a server that is ready."""
        return self.peer(self.server(engine, limits, **of_server).address)

    def server(
        self, engine: Engine | None = None, limits: Limits | None = None, **of_server: Any
    ) -> LocalServer:
        """Return a server that is ready."""
        server = LocalServer(
            engine=engine or an_engine(), limits=limits or Limits(workers=2), **of_server
        )
        return self._stack.enter_context(server)

    def peer(self, address: str, owner: str = "") -> Peer:
        return Peer(self._stack.enter_context(grpc.insecure_channel(address)), owner)


def status_of(error: grpc.RpcError) -> Status:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an error is a call too
    assert status is not None, "the error carries no details"
    return status


def detail(error: grpc.RpcError, kind: type[M]) -> M:
    """The only detail of its kind."""
    (packed,) = (entry for entry in status_of(error).details if entry.Is(kind.DESCRIPTOR))
    found = kind()
    packed.Unpack(found)
    return found


class Steady:
    """A clock that goes on when a test says so."""

    def __init__(self) -> None:
        self.steady_ns = 10**9
        self.wall_ns = 1_700_000_000 * 10**9

    def clock(self) -> Clock:
        """The clock of one server."""
        return Clock(lambda: self.wall_ns, lambda: self.steady_ns)

    def go_on(self, seconds: float) -> None:
        self.steady_ns += int(seconds * 1e9)
        self.wall_ns += int(seconds * 1e9)


def create(peer: Peer, request_id: str = "", **fields: Any) -> Simulation:
    """Ask for a simulation; `options` are its options, all else changes the scenario."""
    options = fields.pop("options", None)
    request = pb2.CreateSimulationRequest(
        scenario=a_scenario(**fields), request_id=request_id, options=options
    )
    return peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation


def get(peer: Peer, name: str) -> Simulation:
    request = pb2.GetSimulationRequest(name=name)
    return peer.simulations.GetSimulation(request, timeout=PATIENCE_S).simulation


def cancel(peer: Peer, name: str) -> Simulation:
    request = pb2.CancelSimulationRequest(name=name)
    return peer.simulations.CancelSimulation(request, timeout=PATIENCE_S).simulation


def delete(peer: Peer, name: str) -> None:
    peer.simulations.DeleteSimulation(pb2.DeleteSimulationRequest(name=name), timeout=PATIENCE_S)


def wait(peer: Peer, name: str) -> Simulation:
    """Watch a simulation to its end."""
    request = pb2.WatchSimulationRequest(name=name)
    *_, last = peer.simulations.WatchSimulation(request, timeout=PATIENCE_S)
    return last.simulation


def run(peer: Peer, **fields: Any) -> Simulation:
    """Ask for a simulation, and wait until it has ended."""
    return wait(peer, create(peer, **fields).name)


def starts(peer: Peer, name: str, offset: int = 0) -> list[int]:
    """The begins of all faults from an offset on, which differ from row to row."""
    request = pb2.StreamEventsRequest(name=name, offset=offset)
    responses = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)
    return [start for response in responses for start in response.faults.start_ns]


def first_starts(peer: Peer, name: str, least: int) -> list[int]:
    """The same of a run that may go on: what a stream has brought when that is enough."""
    request = pb2.StreamEventsRequest(name=name)
    stream = peer.simulations.StreamEvents(request, timeout=PATIENCE_S)
    found: list[int] = []
    while len(found) < least:
        found += next(stream).faults.start_ns
    stream.cancel()
    return found


def starts_of_run(slices: int, seed: int = 1) -> list[int]:
    """The same, as the fake engine makes them."""
    return [int(start) for start in rows_of_faults(0, slices, seed)["start_ns"]]


def refused(call: Callable[[], object]) -> grpc.RpcError:
    """The error with which a call ends."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was not refused")


def reason(error: grpc.RpcError) -> str:
    return str(detail(error, error_details_pb2.ErrorInfo).reason)
