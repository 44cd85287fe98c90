"""The client: one method for each rpc, and `run` and `submit` on top.

Messages of `faultlane.v1` are the types; the proto is their manual. Every error is one of
`faultlane.errors`.
"""

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

import grpc
import numpy as np

from faultlane import v1 as pb
from faultlane.errors import (
    InvalidRequest,
    InvalidScenario,
    NoSuchFault,
    NoSuchPreset,
    StreamCut,
    errors_from_status,
    want_got,
)
from faultlane.run import ENDED, Run
from faultlane.v1.catalog_service_pb2_grpc import CatalogServiceStub
from faultlane.v1.simulation_service_pb2_grpc import SimulationServiceStub

TIMEOUT_S = 10.0  # of a call with one answer, unless it is told otherwise
EXPLAIN_TIMEOUT_S = 600.0  # the run is simulated again
MESSAGE_BYTES_MAX = 64 << 20  # 65536 rows, the longest batch there is, take 9 MB
KEPT_BYTES = 16 << 20

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A server is then one message ahead of its reader. By default gRPC lets a window grow with
    # the speed of the connection: over loopback that is 12 MB, which wait in this process.
    ("grpc.http2.bdp_probe", 0),
]


Choice = Literal["slowest", "most retried"]
CHOICES: dict[Choice, pb.FaultChoice.ValueType] = {
    "slowest": pb.FaultChoice.FAULT_CHOICE_SLOWEST,
    "most retried": pb.FaultChoice.FAULT_CHOICE_MOST_RETRIED,
}
ROW_MAX = 2**64 - 1


class _StreamMessage(Protocol):
    @property
    def simulation(self) -> pb.Simulation: ...


Message = TypeVar("Message", bound=_StreamMessage, covariant=True)


class _Stream(Protocol[Message]):
    def __iter__(self) -> Iterator[Message]: ...

    def cancel(self) -> bool: ...


class Client:
    """A connection to a server; safe to be used by many threads.

    Parameters
    ----------
    channel
        The channel to call through; `close` closes it.
    on_close
        Called after the channel was closed.
    """

    def __init__(
        self, channel: grpc.Channel, *, on_close: Callable[[], None] = lambda: None
    ) -> None:
        self._channel = channel
        self._on_close = on_close
        self._simulations = SimulationServiceStub(channel)
        self._catalog = CatalogServiceStub(channel)

    @classmethod
    def connect(cls, address: str, *, on_close: Callable[[], None] = lambda: None) -> Self:
        """Make a client for the server at `host:port`; the first call opens the connection."""
        _keep_memory()
        return cls(grpc.insecure_channel(address, _OPTIONS), on_close=on_close)

    def close(self) -> None:
        """Close the connection: calls under way end with an error."""
        self._channel.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # On top of the rpcs.

    def submit(self, scenario: pb.Scenario, *, request_id: str = "") -> Run:
        """Queue a scenario and return at once.

        Raises
        ------
        InvalidScenario
            If fields of the scenario have values that make no sense; `.violations` has them all.
        QueueFull
            If the server has no room; `.retry_after_s` says when to come back.
        """
        return Run(self, self.create_simulation(scenario, request_id=request_id))

    def run(self, scenario: pb.Scenario, *, request_id: str = "", batch_rows: int = 0) -> Run:
        """Queue a scenario and stream its faults and operations, all in one call.

        Errors are those of `submit`.
        """
        messages = self.run_simulation(scenario, request_id=request_id, batch_rows=batch_rows)
        return Run.begun_by(self, messages)

    def explain(
        self,
        run: Run | str,
        fault: int | Choice = "slowest",
        *,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Tell why a fault took as long as it did: every step and wait, and who was in the way.

        `faultlane.report.explanation.explanation_report` makes text of it.

        Parameters
        ----------
        run
            The run, which must have ended, or its name.
        fault
            The row of a fault in the log, or which one is to be chosen.

        Raises
        ------
        NoSuchSimulation
            If the server does not know the run.
        NoSuchFault
            If the log has no such row.
        CannotExplain
            If the run has not ended, has no faults to choose from, or cannot be had again.
        """
        name = run if isinstance(run, str) else run.name
        if isinstance(fault, int):
            return self.explain_fault(name, fault=fault, timeout_s=timeout_s)
        return self.explain_fault(name, choice=CHOICES[fault], timeout_s=timeout_s)

    # SimulationService.

    def create_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        validate_only: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> pb.Simulation:
        """Queue a scenario on the server, or only check it.

        Raises
        ------
        InvalidScenario
            If fields of the scenario have values that make no sense; `.violations` has them all.
        AlreadyExists
            If `request_id` was used before, with another request.
        QueueFull
            If the server has no room; `.retry_after_s` says when to come back.
        """
        request = pb.CreateSimulationRequest(
            scenario=scenario, request_id=request_id, validate_only=validate_only
        )
        with errors_from_status(invalid=InvalidScenario):
            return self._simulations.CreateSimulation(request, timeout=timeout_s).simulation

    def run_simulation(
        self,
        scenario: pb.Scenario,
        *,
        request_id: str = "",
        batch_rows: int = 0,
        timeout_s: float | None = None,
    ) -> Generator[pb.RunSimulationResponse, None, None]:
        """Queue a scenario and stream its faults and operations until it has ended.

        Errors come with the first message; they are those of `create_simulation`.

        Raises
        ------
        StreamCut
            If the stream ends before the run; it can be read on with `stream_events` and
            `stream_operations`.
        """
        request = pb.RunSimulationRequest(
            scenario=scenario, request_id=request_id, batch_rows=batch_rows
        )
        call = self._simulations.RunSimulation(request, timeout=timeout_s)
        return _until(_run_is_over, call, invalid=InvalidScenario)

    def get_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """Tell how far a simulation is, and what it found out.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        """
        with errors_from_status():
            request = pb.GetSimulationRequest(name=name)
            return self._simulations.GetSimulation(request, timeout=timeout_s).simulation

    def stream_events(
        self,
        name: str,
        *,
        offset: int = 0,
        batch_rows: int = 0,
        limit: int = 0,
        no_follow: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[pb.StreamEventsResponse, None, None]:
        """Stream the faults of a simulation from an offset on, until it has ended.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        OffsetOutOfRange
            If the simulation has ended and its log is shorter.
        StreamCut
            If the stream ends without its last message.
        """
        request = pb.StreamEventsRequest(
            name=name, offset=offset, batch_rows=batch_rows, limit=limit, no_follow=no_follow
        )
        return _until(_stream_is_over, self._simulations.StreamEvents(request, timeout=timeout_s))

    def stream_operations(
        self,
        name: str,
        *,
        offset: int = 0,
        batch_rows: int = 0,
        limit: int = 0,
        no_follow: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[pb.StreamOperationsResponse, None, None]:
        """Stream the operations of a simulation; all else as in `stream_events`."""
        request = pb.StreamOperationsRequest(
            name=name, offset=offset, batch_rows=batch_rows, limit=limit, no_follow=no_follow
        )
        call = self._simulations.StreamOperations(request, timeout=timeout_s)
        return _until(_stream_is_over, call)

    def cancel_simulation(self, name: str, *, timeout_s: float = TIMEOUT_S) -> pb.Simulation:
        """End a simulation, and return it as it ended.

        Raises
        ------
        NoSuchSimulation
            If there is no simulation of that name.
        """
        with errors_from_status():
            request = pb.CancelSimulationRequest(name=name)
            return self._simulations.CancelSimulation(request, timeout=timeout_s).simulation

    def explain_fault(
        self,
        name: str,
        *,
        fault: int | None = None,
        choice: pb.FaultChoice.ValueType | None = None,
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> pb.ExplainFaultResponse:
        """Explain the fault in a row of the log, or one that is chosen; errors as in `explain`."""
        if fault is not None and not 0 <= fault <= ROW_MAX:
            raise InvalidRequest([want_got("fault", f"0 to {ROW_MAX}", fault)])
        request = pb.ExplainFaultRequest(name=name)
        if fault is not None:
            request.fault = fault
        elif choice is not None:
            request.choice = choice
        with errors_from_status(out_of_range=NoSuchFault):
            return self._simulations.ExplainFault(request, timeout=timeout_s)

    # CatalogService.

    def get_server_info(self, *, timeout_s: float = TIMEOUT_S) -> pb.GetServerInfoResponse:
        """Tell versions and limits of the server."""
        with errors_from_status():
            return self._catalog.GetServerInfo(pb.GetServerInfoRequest(), timeout=timeout_s)

    def list_architectures(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Architecture]:
        """List the architectures."""
        with errors_from_status():
            request = pb.ListArchitecturesRequest()
            answer = self._catalog.ListArchitectures(request, timeout=timeout_s)
        return list(answer.architectures)

    def list_machines(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.MachineProfile]:
        """List the machine profiles, with every cost and its source."""
        with errors_from_status():
            answer = self._catalog.ListMachines(pb.ListMachinesRequest(), timeout=timeout_s)
        return list(answer.machines)

    def list_kernels(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.KernelGeneration]:
        """List the kernel generations."""
        with errors_from_status():
            answer = self._catalog.ListKernels(pb.ListKernelsRequest(), timeout=timeout_s)
        return list(answer.kernels)

    def list_policies(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Policy]:
        """List the retry policies."""
        with errors_from_status():
            answer = self._catalog.ListPolicies(pb.ListPoliciesRequest(), timeout=timeout_s)
        return list(answer.policies)

    def list_presets(self, *, timeout_s: float = TIMEOUT_S) -> list[pb.Preset]:
        """List the scenarios that come with the server, without the scenarios themselves."""
        with errors_from_status():
            answer = self._catalog.ListPresets(pb.ListPresetsRequest(), timeout=timeout_s)
        return list(answer.presets)

    def get_preset(self, preset_id: str, *, timeout_s: float = TIMEOUT_S) -> pb.Preset:
        """Return one of them, its scenario ready to be run or changed.

        Raises
        ------
        NoSuchPreset
            If there is no preset of that id.
        """
        with errors_from_status(not_found=NoSuchPreset):
            request = pb.GetPresetRequest(id=preset_id)
            return self._catalog.GetPreset(request, timeout=timeout_s).preset


def _keep_memory() -> None:
    """Let the memory of a message be used for the next one.

    glibc gives blocks above a threshold back to the system, which clears each page of the next
    one; the threshold is the largest block that was ever freed. This one is not even touched.
    """
    np.empty(KEPT_BYTES, np.uint8)


def _until(
    is_over: Callable[[Message], bool],
    call: _Stream[Message],
    *,
    invalid: type[InvalidRequest] = InvalidRequest,
) -> Generator[Message, None, None]:
    """Hand out the messages of a stream; the call ends when the reader stops reading."""
    over = False
    try:
        with errors_from_status(invalid=invalid):
            for message in call:
                over = is_over(message)
                yield message
    finally:
        call.cancel()
    if not over:
        raise StreamCut("the stream ended before its last message")


def _stream_is_over(message: _StreamMessage) -> bool:
    """The last message of a stream of one log is the only one with the simulation."""
    return bool(message.simulation.name)


def _run_is_over(message: _StreamMessage) -> bool:
    """The first message of a run has the simulation too, but it has not ended yet."""
    return message.simulation.state in ENDED
