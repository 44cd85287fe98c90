"""ExplainFault finds the fault in the log, hands the explanation on, and says why there is none."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import explanation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.codes import FaultChoice
from faultlane_server.explanation import Cancelled, Explanation, NotReproduced
from faultlane_server.runs import DiskLimits, Limits
from faultlane_server.scenario import Scenario
from tests.service.fake import (
    EXPLANATION,
    FAULTS_A_SLICE,
    MODEL_VERSION,
    PATIENCE_S,
    Gate,
    Peer,
    Servers,
    Steady,
    an_engine,
    delete,
    detail,
    endless,
    first_starts,
    get,
    knows_owners,
    rows_of_faults,
    run,
)
from tests.service.test_errors import create, outcome, refused, violations

Wire = explanation_pb2.FaultChoice
ROWS = 3 * FAULTS_A_SLICE


def ended(peer: Peer, **changes: Any) -> str:
    """The name of a simulation that has ended."""
    return run(peer, **changes).name


def explained(peer: Peer, name: str, **which: int) -> pb.ExplainFaultResponse:
    request = pb.ExplainFaultRequest(name=name, **which)  # type: ignore[arg-type]
    return peer.simulations.ExplainFault(request, timeout=PATIENCE_S)


def not_explained(peer: Peer, name: str, **which: int) -> grpc.RpcError:
    request = pb.ExplainFaultRequest(name=name, **which)  # type: ignore[arg-type]
    return refused(peer.simulations.ExplainFault, request)


def refused_as_one_too_many(peer: Peer, request: pb.ExplainFaultRequest) -> grpc.RpcError:
    """Ask until as many explanations wait as may: those asked for may still be on their way."""
    while True:
        with pytest.raises(grpc.RpcError) as caught:
            peer.simulations.ExplainFault(request, timeout=0.5)
        if caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return caught.value


class Explaining:
    """Explains as the test says, and remembers what was asked for."""

    def __init__(self, then: Callable[[Callable[[], bool]], None] = lambda _: None) -> None:
        self.faults: list[Mapping[str, int]] = []
        self.scenarios: list[Scenario] = []
        self._then = then

    def __call__(
        self, scenario: Scenario, fault: Mapping[str, int], is_cancelled: Callable[[], bool]
    ) -> Explanation:
        self.faults.append(fault)
        self.scenarios.append(scenario)
        self._then(is_cancelled)
        return EXPLANATION


@pytest.mark.parametrize("row", [0, 1, 999, 1000, ROWS - 1])
def test_the_fault_of_a_row_is_explained_with_what_the_log_has_of_it(
    servers: Servers, row: int
) -> None:
    explain = Explaining()
    peer = servers.start(an_engine(explain=explain))

    answer = explained(peer, ended(peer), fault=row)

    logged = {name: int(column[row]) for name, column in rows_of_faults(0, 3).items()}
    assert answer.fault == row
    assert {name: getattr(answer.event, name)[0] for name in logged} == logged
    assert explain.faults == [logged]


def test_an_explanation_arrives_as_it_was_made(peer: Peer) -> None:
    answer = explained(peer, ended(peer), fault=0).explanation

    first, second = answer.steps
    assert answer.subject == EXPLANATION.subject
    assert (first.start_ns, first.duration_ns, first.attempt) == (5, 10, 1)
    assert first.activity == explanation_pb2.Activity.ACTIVITY_SLEEPING
    assert (first.function, first.text) == ("do_fault > filemap_fault", "waits")
    assert (list(first.notes), list(first.holds)) == (["vma_start_read"], ["the VMA lock"])
    assert (first.lock, first.fault_flags, first.result) == (1, 0x1254, 0x404)
    assert dict(first.spent_ns) == {"device": 10}
    (blocking,) = first.blocking
    assert (blocking.start_ns, blocking.duration_ns, blocking.changes_omitted) == (5, 10, 2)
    assert [link.thread for link in blocking.chain] == [3, 2**32 - 1]
    assert (second.activity, second.steps_omitted) == (0, 7)


@pytest.mark.parametrize("choice", FaultChoice)
def test_a_fault_that_stands_out_is_found_in_the_whole_log(peer: Peer, choice: FaultChoice) -> None:
    faults = rows_of_faults(0, 3)
    rows = range(ROWS)
    if choice is FaultChoice.SLOWEST:
        best = max(rows, key=lambda row: (int(faults["duration_ns"][row]), -row))
    else:
        keys = ("attempts", "duration_ns")
        best = max(rows, key=lambda row: (*(int(faults[key][row]) for key in keys), -row))

    assert explained(peer, ended(peer), choice=choice).fault == best


@pytest.mark.parametrize("row", [ROWS, 2**64 - 1])
def test_a_row_that_the_log_has_not_is_out_of_range(peer: Peer, row: int) -> None:
    error = not_explained(peer, ended(peer), fault=row)

    assert outcome(error) == (grpc.StatusCode.OUT_OF_RANGE, "NO_SUCH_FAULT")
    assert error.details() == f"want a fault of 0 to {ROWS - 1}, got {row}"


@pytest.mark.parametrize(
    ("which", "field"), [({}, "which"), ({"choice": 0}, "choice"), ({"choice": 99}, "choice")]
)
def test_a_request_has_to_say_which_fault(peer: Peer, which: dict[str, int], field: str) -> None:
    error = not_explained(peer, "simulations/nobody", **which)

    assert violations(error).keys() == {field}


def test_all_that_is_wrong_with_a_request_is_told(peer: Peer) -> None:
    assert violations(not_explained(peer, "nonsense")).keys() == {"name", "which"}


def test_a_simulation_that_nobody_made_is_not_found(peer: Peer) -> None:
    error = not_explained(peer, "simulations/nobody", fault=0)

    assert outcome(error) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_SIMULATION")


def test_a_simulation_that_has_not_ended_is_not_explained(servers: Servers) -> None:
    gate = Gate()
    peer = servers.start(an_engine(on_slice=lambda _: gate.pass_through()), Limits(workers=1))
    name = create(peer)
    assert gate.reached.wait(PATIENCE_S)

    for which in ({"fault": 0}, {"choice": Wire.FAULT_CHOICE_SLOWEST}):
        error = not_explained(peer, name, **which)
        assert outcome(error) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENDED")
    gate.opened.set()


def test_a_cancelled_simulation_is_explained_as_far_as_its_log_goes(servers: Servers) -> None:
    peer = servers.start(an_engine(slices=10**9, on_slice=endless), Limits(workers=1))
    name = create(peer)
    first_starts(peer, name, least=FAULTS_A_SLICE + 1)
    peer.simulations.CancelSimulation(pb.CancelSimulationRequest(name=name), timeout=PATIENCE_S)

    assert explained(peer, name, fault=FAULTS_A_SLICE).fault == FAULTS_A_SLICE


def test_a_simulation_without_faults_has_none_to_choose_from(servers: Servers) -> None:
    """Here it is cancelled before its first slice, so it has no log at all."""
    gate = Gate()
    peer = servers.start(an_engine(on_begin=gate.pass_through), Limits(workers=1))
    create(peer)
    assert gate.reached.wait(PATIENCE_S)
    name = create(peer, seed=2)
    peer.simulations.CancelSimulation(pb.CancelSimulationRequest(name=name), timeout=PATIENCE_S)

    error = not_explained(peer, name, choice=Wire.FAULT_CHOICE_SLOWEST)
    assert outcome(error) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_FAULTS")
    error = not_explained(peer, name, fault=0)
    assert outcome(error) == (grpc.StatusCode.OUT_OF_RANGE, "NO_SUCH_FAULT")
    gate.opened.set()


def test_a_run_of_another_model_is_not_explained(servers: Servers, tmp_path: Path) -> None:
    server = servers.server(directory=tmp_path)
    name = ended(servers.peer(server.address))
    server.close()
    newer = an_engine(model_version=MODEL_VERSION + 1)
    peer = servers.start(newer, directory=tmp_path)

    error = not_explained(peer, name, fault=0)

    assert outcome(error) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CHANGED")
    assert f"version {MODEL_VERSION} of the model" in str(error.details())


def test_what_an_earlier_server_simulated_is_explained(servers: Servers, tmp_path: Path) -> None:
    """The scenario is read out of what the caller asked for then."""
    server = servers.server(directory=tmp_path)
    name = ended(servers.peer(server.address), seed=5)
    server.close()
    explain = Explaining()
    peer = servers.start(an_engine(explain=explain), directory=tmp_path)

    assert explained(peer, name, fault=1001).fault == 1001

    logged = {name: int(column[1001]) for name, column in rows_of_faults(0, 3, seed=5).items()}
    assert explain.faults == [logged]
    assert [scenario.seed for scenario in explain.scenarios] == [5]


def test_a_simulation_that_shares_its_log_is_explained_after_the_other_has_gone(
    servers: Servers,
) -> None:
    explain = Explaining()
    server = servers.server(an_engine(explain=explain))
    peer = servers.peer(server.address)
    first, second = ended(peer), ended(peer)
    assert len(list(server.directory.glob("logs/*"))) == 1

    before = explained(peer, first, fault=7)
    delete(peer, first)

    assert explained(peer, second, fault=7) == before
    assert not_explained(peer, first, fault=7).code() == grpc.StatusCode.NOT_FOUND
    assert explain.faults[0] == explain.faults[1]


def test_nobody_has_the_simulation_of_another_owner_explained(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_owners(monkeypatch)
    explain = Explaining()
    server = servers.server(an_engine(explain=explain))
    ours, theirs = (servers.peer(server.address, owner) for owner in ("we", "they"))
    name = ended(ours)

    error = not_explained(theirs, name, fault=0)

    assert outcome(error) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_SIMULATION")
    assert explain.faults == []
    assert explained(ours, name, fault=0).fault == 0


def test_no_fault_of_an_expired_log_is_explained(servers: Servers) -> None:
    time = Steady()
    limits = Limits(workers=1, disk=DiskLimits(retain_s=1), sweep_s=0.01)
    peer = servers.start(limits=limits, clock=time.clock())
    name = ended(peer)
    time.go_on(2)
    for _ in range(2000):  # the server looks every 10 ms
        if get(peer, name).log_expired:
            break

    for which in ({"fault": ROWS - 1}, {"choice": Wire.FAULT_CHOICE_SLOWEST}):
        error = not_explained(peer, name, **which)
        assert outcome(error) == (grpc.StatusCode.OUT_OF_RANGE, "LOG_EXPIRED")
        assert detail(error, details.ErrorInfo).metadata["earliest_offset"] == str(ROWS)
    error = not_explained(peer, name, fault=ROWS)
    assert outcome(error) == (grpc.StatusCode.OUT_OF_RANGE, "NO_SUCH_FAULT")


def test_a_simulation_that_goes_while_its_explanation_waits_is_not_found(servers: Servers) -> None:
    gate = Gate()
    explain = Explaining(lambda _: gate.pass_through())
    limits = Limits(workers=1, explained_max=2)
    peer = servers.start(an_engine(explain=explain), limits)
    first, second = ended(peer), ended(peer, seed=2)
    request = pb.ExplainFaultRequest(name=first, fault=0)
    under_way = peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S)
    assert gate.reached.wait(PATIENCE_S)
    request = pb.ExplainFaultRequest(name=second, fault=0)
    call = peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S)
    refused_as_one_too_many(peer, request)

    delete(peer, second)
    gate.opened.set()

    assert under_way.result().fault == 0
    with pytest.raises(grpc.RpcError) as caught:
        call.result()
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_run_that_is_not_what_it_was_is_not_explained(servers: Servers) -> None:
    def fail(_: Callable[[], bool]) -> None:
        raise NotReproduced("the fault does not end when it did")

    peer = servers.start(an_engine(explain=Explaining(fail)))

    error = not_explained(peer, ended(peer), fault=0)

    assert outcome(error) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_REPRODUCED")
    assert error.details() == "the fault does not end when it did"


def test_a_damaged_log_is_data_loss(servers: Servers) -> None:
    server = servers.server()
    peer = servers.peer(server.address)
    name = ended(peer)
    (path,) = server.directory.glob("logs/*/faults.log")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    error = not_explained(peer, name, choice=Wire.FAULT_CHOICE_SLOWEST)

    assert outcome(error) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_LOG")


class Endless:
    """Explains until it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    def __call__(self, is_cancelled: Callable[[], bool]) -> None:
        self.begun.set()
        while not is_cancelled():
            threading.Event().wait(0.002)
        self.cancelled.set()
        raise Cancelled


def test_an_explanation_ends_when_the_deadline_has_passed(servers: Servers) -> None:
    endless = Endless()
    peer = servers.start(an_engine(explain=Explaining(endless)))
    request = pb.ExplainFaultRequest(name=ended(peer), fault=0)

    with pytest.raises(grpc.RpcError) as caught:
        peer.simulations.ExplainFault(request, timeout=0.2)

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert endless.cancelled.wait(PATIENCE_S)


def test_an_explanation_ends_when_the_caller_goes_away(servers: Servers) -> None:
    endless = Endless()
    peer = servers.start(an_engine(explain=Explaining(endless)))
    request = pb.ExplainFaultRequest(name=ended(peer), fault=0)
    call = peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S)
    assert endless.begun.wait(PATIENCE_S)

    call.cancel()

    assert endless.cancelled.wait(PATIENCE_S)


def test_an_explanation_ends_when_the_server_does(servers: Servers) -> None:
    endless = Endless()
    server = servers.server(an_engine(explain=Explaining(endless)))
    peer = servers.peer(server.address)
    request = pb.ExplainFaultRequest(name=ended(peer), fault=0)
    call = peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S)
    assert endless.begun.wait(PATIENCE_S)

    server.begin_to_close()

    with pytest.raises(grpc.RpcError) as caught:
        call.result()
    assert outcome(caught.value) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert endless.cancelled.wait(PATIENCE_S)


def test_of_too_many_explanations_the_last_is_refused_and_the_others_are_given(
    servers: Servers,
) -> None:
    gate = Gate()
    explain = Explaining(lambda _: gate.pass_through())
    limits = Limits(workers=1, explained_max=2)
    peer = servers.start(an_engine(explain=explain), limits)
    name = ended(peer)
    request = pb.ExplainFaultRequest(name=name, fault=0)
    calls = [peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S)]
    assert gate.reached.wait(PATIENCE_S)
    calls.append(peer.simulations.ExplainFault.future(request, timeout=PATIENCE_S))

    error = refused_as_one_too_many(peer, request)

    assert outcome(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_EXPLAINED")
    assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
    gate.opened.set()
    assert [call.result().fault for call in calls] == [0, 0]
