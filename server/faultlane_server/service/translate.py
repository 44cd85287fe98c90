"""Messages to what the rooms below understand, and back."""

from dataclasses import asdict, fields
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from faultlane.v1 import (
    events_pb2,
    explanation_pb2,
    scenario_pb2,
    simulation_pb2,
    simulation_service_pb2,
)
from faultlane_server.explanation import FaultStep
from faultlane_server.runs import Estimate, Explained, LogKind, Simulation
from faultlane_server.scenario import InvalidScenario, Scenario, Violation, check
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.service.reader import MESSAGES_MAX, ScenarioReader, TooManyMessages
from faultlane_server.service.wire import batch_bytes
from faultlane_server.summary import Summary

UINT64_MAX = 2**64 - 1


def scenario_from_wire(message: scenario_pb2.Scenario | None) -> Scenario:
    """Return the checked scenario of a request; None if the request has none."""
    if message is None:
        raise InvalidRequest([Violation("scenario", "a scenario", None)])
    reader = ScenarioReader()
    try:
        checked: Scenario = check(reader.read(message, "scenario"))
    except InvalidScenario as error:
        found = [v._replace(field=f"scenario.{v.field}") for v in error.violations]
        raise InvalidRequest(reader.with_those_of_check(found)) from error
    except TooManyMessages as error:
        want = f"at most {MESSAGES_MAX} messages in it"
        raise InvalidRequest([Violation("scenario", want, "more")]) from error
    if reader.violations:
        raise InvalidRequest(reader.violations)
    return checked


def simulation_to_wire(simulation: Simulation) -> simulation_pb2.Simulation:
    """Return the message for a simulation."""
    message = simulation_pb2.Simulation(
        name=simulation.name,
        state=simulation_pb2.SimulationState.ValueType(simulation.state or 0),
        scenario=scenario_pb2.Scenario.FromString(simulation.scenario_as_asked),
        digest=simulation.digest,
        create_time=_timestamp(simulation.create_time),
        start_time=_timestamp(simulation.start_time),
        end_time=_timestamp(simulation.end_time),
        progress=simulation_pb2.Progress(
            **asdict(simulation.progress), horizon_ns=simulation.horizon_ns
        ),
        log_expired=simulation.log_expired,
        owner=simulation.owner,
    )
    message.options.CopyFrom(simulation_pb2.RunOptions(**asdict(simulation.options)))
    if simulation.summary:
        message.summary.CopyFrom(summary_to_wire(simulation.summary))
    if simulation.error:
        message.error.CopyFrom(simulation_pb2.RunError(**asdict(simulation.error)))
    return message


def scenario_from_bytes(content: bytes) -> Scenario:
    """Return the checked scenario of what somebody asked for earlier."""
    return scenario_from_wire(scenario_pb2.Scenario.FromString(content))


def estimate_to_wire(estimate: Estimate) -> simulation_service_pb2.CostEstimate:
    """Return the message for an estimate."""
    return simulation_service_pb2.CostEstimate(
        threads=estimate.threads,
        vmas=estimate.vmas,
        pages=estimate.pages,
        memory_bytes=estimate.memory_bytes,
        touches=_capped(estimate.touches),
        fault_log_bytes_max=_capped(estimate.fault_log_bytes_max),
    )


def _capped(count: int | None) -> int | None:
    """Return the count, or the largest that the wire can tell."""
    return None if count is None else min(count, UINT64_MAX)


def summary_to_wire(summary: Summary) -> simulation_pb2.Summary:
    """Return the message for a summary, its metrics in alphabetical order."""
    content = {field.name: getattr(summary, field.name) for field in fields(summary)}
    content["metrics"] = [
        simulation_pb2.Metric(name=name, value=value)
        for name, value in sorted(summary.metrics.items())
    ]
    content["latencies"] = [simulation_pb2.Latency(**asdict(row)) for row in summary.latencies]
    content["locks"] = [simulation_pb2.LockRow(**asdict(row)) for row in summary.locks]
    content["blame"] = simulation_pb2.Blame(**asdict(summary.blame))
    content["retries"] = simulation_pb2.Retries(**asdict(summary.retries))
    content["diagnosis"] = summary.diagnosis and simulation_pb2.Diagnosis(
        **asdict(summary.diagnosis)
    )
    return simulation_pb2.Summary(**content)


def explained_to_wire(explained: Explained) -> simulation_service_pb2.ExplainFaultResponse:
    """Return the message for a fault that was explained."""
    batch = batch_bytes(explained.columns, LogKind.FAULTS)
    return simulation_service_pb2.ExplainFaultResponse(
        fault=explained.row,
        event=events_pb2.FaultBatch.FromString(batch),
        explanation=explanation_pb2.FaultExplanation(
            subject=explained.explanation.subject,
            steps=[_step_to_wire(step) for step in explained.explanation.steps],
        ),
    )


def _step_to_wire(step: FaultStep) -> explanation_pb2.FaultStep:
    return explanation_pb2.FaultStep(**asdict(step))


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
