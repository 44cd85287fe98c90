"""A server that simulates nothing: it hears requests and says what a test told it to say."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from faultlane import v1 as pb
from faultlane.v1 import catalog_service_pb2_grpc, simulation_service_pb2_grpc

NAME = "simulations/one"
SUCCEEDED = pb.SimulationState.SIMULATION_STATE_SUCCEEDED
RUNNING = pb.SimulationState.SIMULATION_STATE_RUNNING
QUEUED = pb.SimulationState.SIMULATION_STATE_QUEUED


class FakeServer:
    """Listens from the beginning until `stop`.

    Attributes
    ----------
    address
        Where it listens.
    says
        For each rpc, by its name, what it answers to a request: a message, for a stream some
        messages, or a function that makes them of the request. An exception is not sent but raised.
    heard
        All requests, in order.
    """

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.heard: list[Any] = []
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)]
        )
        simulation_service_pb2_grpc.add_SimulationServiceServicer_to_server(
            _Simulations(self), self._server
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(_Catalog(self), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Cut all calls."""
        self._server.stop(grace=None).wait()

    def answer(self, rpc: str, request: Message, context: grpc.ServicerContext) -> Any:
        """Look up what to say."""
        self.heard.append(request)
        said = self.says[rpc]
        if callable(said):
            said = said(request)
        if isinstance(said, Refusal):
            context.abort_with_status(rpc_status.to_status(said.status))
        return said


class Refusal:
    """Says no, with a status and its details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        self.status = Status(code=code.value[0], message=message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            self.status.details.append(packed)


def _unary(rpc: str) -> Callable[..., Any]:
    def method(self: Any, request: Message, context: grpc.ServicerContext) -> Any:
        return self.fake.answer(rpc, request, context)

    return method


def _stream(rpc: str) -> Callable[..., Any]:
    def method(self: Any, request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
        for said in self.fake.answer(rpc, request, context):
            if isinstance(said, Refusal):
                context.abort_with_status(rpc_status.to_status(said.status))
            yield said

    return method


class _Simulations(simulation_service_pb2_grpc.SimulationServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    CreateSimulation = _unary("CreateSimulation")
    RunSimulation = _stream("RunSimulation")
    GetSimulation = _unary("GetSimulation")
    WatchSimulation = _stream("WatchSimulation")
    ListSimulations = _unary("ListSimulations")
    DeleteSimulation = _unary("DeleteSimulation")
    StreamEvents = _stream("StreamEvents")
    StreamOperations = _stream("StreamOperations")
    CancelSimulation = _unary("CancelSimulation")
    ExplainFault = _unary("ExplainFault")


class _Catalog(catalog_service_pb2_grpc.CatalogServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    GetServerInfo = _unary("GetServerInfo")
    ListArchitectures = _unary("ListArchitectures")
    ListMachines = _unary("ListMachines")
    ListKernels = _unary("ListKernels")
    ListPolicies = _unary("ListPolicies")
    ListPresets = _unary("ListPresets")
    GetPreset = _unary("GetPreset")


def a_simulation(state: pb.SimulationState.ValueType = SUCCEEDED, **fields: Any) -> pb.Simulation:
    """A simulation of which a test says only what it is about."""
    return pb.Simulation(**{"name": NAME, "state": state, **fields})


def some_faults(threads: list[int], **columns: list[int]) -> pb.FaultBatch:
    """A fault for each thread; columns that a test does not name are zero."""
    return pb.FaultBatch(**_filled(pb.FaultBatch, {"thread": threads, **columns}))


def some_operations(threads: list[int], **columns: list[int]) -> pb.OperationBatch:
    """An operation for each thread; columns that a test does not name are zero."""
    return pb.OperationBatch(**_filled(pb.OperationBatch, {"thread": threads, **columns}))


def an_explanation(row: int = 7) -> pb.ExplainFaultResponse:
    """A fault that has waited for a lock, behind a thread that waits for a disk."""
    chain = [
        pb.BlockingLink(thread=3, text="thread 3 (mappers) holds mmap_lock for write"),
        pb.BlockingLink(thread=2**32 - 1, text="disk: in service, reads pages 0 to 31 of data"),
    ]
    steps = [
        pb.FaultStep(
            start_ns=1_000,
            duration_ns=200,
            activity=pb.Activity.ACTIVITY_RUNNING,
            function="do_user_addr_fault > lock_vma_under_rcu",
            text="the maple tree is searched",
            spent_ns={"cpu": 125, "lock_word": 75},
        ),
        pb.FaultStep(
            start_ns=1_200,
            duration_ns=1_000_000,
            attempt=1,
            activity=pb.Activity.ACTIVITY_SLEEPING,
            function="rwsem_down_read_slowpath",
            text="waits for mmap_lock for read",
            notes=["VMA_LOCK_ABORT: VMA 0 (data) is write-locked by thread 3 (mappers)"],
            lock=pb.FaultLock.FAULT_LOCK_VMA,
            holds=["the folio lock of page 1 of data"],
            spent_ns={"mmap_lock": 1_000_000},
            blocking=[
                pb.Blocking(start_ns=1_200, duration_ns=400_000, chain=chain),
                pb.Blocking(
                    start_ns=401_200, duration_ns=600_000, chain=chain[:1], changes_omitted=4
                ),
            ],
        ),
        pb.FaultStep(start_ns=1_001_200, duration_ns=50, steps_omitted=1234, spent_ns={"cpu": 50}),
    ]
    event = some_faults(
        [2],
        kind=[pb.FaultKind.FAULT_KIND_FILE_READ],
        attempts=[2],
        start_ns=[1_000],
        duration_ns=[1_000_250],
        major=[1],
        finished=[1],
        blocker=[3],
    )
    explanation = pb.FaultExplanation(subject="thread 2 (readers) of app: read", steps=steps)
    return pb.ExplainFaultResponse(fault=row, event=event, explanation=explanation)


def _filled(kind: type[Message], columns: dict[str, list[int]]) -> dict[str, list[int]]:
    rows = len(columns["thread"])
    return {field.name: columns.get(field.name, [0] * rows) for field in kind.DESCRIPTOR.fields}


def as_list(column: np.ndarray[Any, Any]) -> list[int]:
    """The numbers of a column."""
    return [int(number) for number in column]
