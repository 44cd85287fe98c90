"""No run takes more memory than was estimated, and one that may not have it fails alone."""

from pathlib import Path

import pytest

from faultlane.v1 import scenario_pb2 as pb
from faultlane.v1 import simulation_service_pb2 as pb2
from faultlane.v1.simulation_pb2 import SimulationState
from faultlane_server.runs import Limits, RunLimits, compiled_engine, estimate_of
from faultlane_server.service.translate import scenario_from_wire
from tests.engine.random_scenarios import a_random_scenario
from tests.reliability.figures import tell
from tests.service.fake import Servers, a_scenario, create, wait
from tests.serving import LOADING_S_MAX

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LOADING_S_MAX)]

SLICES = 40
MIB = 1 << 20


def test_no_run_takes_more_memory_than_was_estimated() -> None:
    """So the estimate, by which a scenario is refused, is a limit and not a guess."""
    engine = compiled_engine()
    shares = []
    for seed in range(60):
        scenario = a_random_scenario(seed)
        simulator = engine.simulator(scenario)
        for _ in range(SLICES):
            if simulator.advance():
                break
            simulator.take_rows()
        shares.append(engine.memory_of(simulator) / estimate_of(scenario).memory_bytes)
    tell("memory of a run by its estimate", runs=len(shares), least=min(shares), most=max(shares))

    assert max(shares) <= 1


def a_large_scenario() -> pb.Scenario:
    """Threads that write to eight gigabytes, each to its part, again and again."""
    scenario = a_scenario(horizon_ns=10**13)
    (process,) = scenario.workload.processes
    process.vmas[0].length_bytes = 8 << 30
    process.vmas[0].ClearField("backing")
    process.vmas[0].anonymous.SetInParent()
    process.vmas[0].protection[:] = [pb.Protection.PROTECTION_READ, pb.Protection.PROTECTION_WRITE]
    touch = pb.Touch(
        vma="map",
        sequential=pb.Sequential(divided=True),
        access=pb.Access.ACCESS_WRITE,
        count=1 << 20,
    )
    loop = pb.Loop(steps=[pb.Step(touch=touch)])
    process.groups[0].program[0].loop.CopyFrom(loop)
    return scenario


def test_what_is_estimated_of_a_large_run_is_what_it_takes() -> None:
    """Else a server would refuse what it has room for."""
    engine = compiled_engine()
    scenario = scenario_from_wire(a_large_scenario())
    simulator = engine.simulator(scenario)
    while simulator.faults < 2 << 20:
        simulator.advance()
        simulator.take_rows()
    taken, estimated = engine.memory_of(simulator), estimate_of(scenario).memory_bytes
    tell("memory of a large run", MiB=taken >> 20, estimated=estimated >> 20)

    assert 0.8 * estimated < taken <= estimated


def test_a_run_that_is_too_large_since_a_restart_fails_and_the_one_beside_it_does_not(
    servers: Servers, tmp_path: Path
) -> None:
    """It was accepted by a server that allowed more; what it takes is measured as it runs."""
    before = servers.server(compiled_engine(), Limits(workers=1), directory=tmp_path)
    peer = servers.peer(before.address)
    request = pb2.CreateSimulationRequest(scenario=a_large_scenario())
    large = peer.simulations.CreateSimulation(request).simulation.name
    before.close()

    limits = Limits(workers=2, run=RunLimits(memory_bytes_max=100 * MIB))
    peer = servers.start(compiled_engine(), limits, directory=tmp_path)
    small = wait(peer, create(peer, seed=2).name)
    failed = wait(peer, large)
    tell("a run without its memory", message=failed.error.message)

    assert small.state == SimulationState.SIMULATION_STATE_SUCCEEDED
    assert failed.error.reason == "MEMORY_LIMIT"
