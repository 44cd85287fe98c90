"""The wire changes nothing: whoever streams a run has what the engine made, byte for byte."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from faultlane.v1 import scenario_pb2, simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from faultlane_server.columns import FAULT_COLUMNS, OPERATION_COLUMNS
from faultlane_server.engine import Simulator
from faultlane_server.runs import Limits, compiled_engine
from faultlane_server.service.translate import scenario_from_wire
from faultlane_server.store import Columns
from tests.service.fake import Peer, Servers, a_scenario

LOADING_S_MAX = 280

pytestmark = pytest.mark.timeout(LOADING_S_MAX + 60)


@pytest.fixture(scope="module")
def peer(module_servers: Servers) -> Peer:
    return module_servers.start(compiled_engine(), Limits(workers=2))


def a_busy_scenario(seed: int) -> scenario_pb2.Scenario:
    """Readers that fault again and again, and a thread that maps and unmaps beside them."""
    scenario = a_scenario(horizon_ns=40_000_000)
    scenario.seed = seed
    scenario.kernel.fault_around_bytes = 0
    (process,) = scenario.workload.processes
    process.vmas[0].advice = scenario_pb2.Advice.ADVICE_RANDOM
    process.groups[0].program[0].touch.count = 200
    process.groups.add(
        name="mapper",
        threads=1,
        daemon=True,
        program=[
            scenario_pb2.Step(
                loop=scenario_pb2.Loop(
                    steps=[
                        scenario_pb2.Step(mmap=scenario_pb2.Mmap(name="new", length_bytes=8192)),
                        scenario_pb2.Step(munmap=scenario_pb2.Munmap(vma="new")),
                        scenario_pb2.Step(
                            sleep=scenario_pb2.Sleep(
                                duration=scenario_pb2.Duration(exponential_mean_ns=50_000)
                            )
                        ),
                    ]
                )
            )
        ],
    )
    return scenario


def run_directly(scenario: scenario_pb2.Scenario) -> tuple[dict[str, bytes], int]:
    """The bytes of both logs by column, and the fingerprint, without a server."""
    simulator = Simulator(scenario_from_wire(scenario))
    parts = []
    while not simulator.advance():
        parts.append(simulator.take_rows())
    parts.append(simulator.take_rows())
    faults, operations = zip(*parts, strict=True)
    return {**joined("faults", faults), **joined("operations", operations)}, (
        simulator.summary().fingerprint
    )


def joined(log: str, parts: tuple[Columns, ...]) -> dict[str, bytes]:
    return {
        f"{log}.{name}": np.concatenate([part[name] for part in parts]).tobytes()
        for name in parts[0]
    }


def run_over_the_wire(
    peer: Peer, scenario: scenario_pb2.Scenario, batch_rows: int = 0
) -> tuple[dict[str, bytes], int]:
    request = pb.RunSimulationRequest(scenario=scenario, batch_rows=batch_rows)
    columns = {f"faults.{name}": b"" for name in FAULT_COLUMNS}
    columns |= {f"operations.{name}": b"" for name in OPERATION_COLUMNS}
    for response in peer.simulations.RunSimulation(request):
        for log, dtypes in (("faults", FAULT_COLUMNS), ("operations", OPERATION_COLUMNS)):
            for name, dtype in dtypes.items():
                values = getattr(getattr(response, log), name)
                columns[f"{log}.{name}"] += np.array(values, dtype).tobytes()
    assert response.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_SUCCEEDED
    return columns, response.simulation.summary.fingerprint


@pytest.mark.parametrize("batch_rows", [0, 1, 97])
def test_a_run_is_the_same_over_the_wire_in_batches_of_any_size(
    peer: Peer, batch_rows: int
) -> None:
    scenario = a_busy_scenario(seed=3)

    directly = run_directly(scenario)

    assert run_over_the_wire(peer, scenario, batch_rows) == directly
    assert len(directly[0]["faults.thread"]) > 4 * 100
    assert len(directly[0]["operations.thread"]) > 4 * 100


def test_two_runs_at_once_are_those_that_each_would_have_been_alone(peer: Peer) -> None:
    scenarios = [a_busy_scenario(seed) for seed in (1, 2)]

    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda scenario: run_over_the_wire(peer, scenario), scenarios))

    assert at_once == [run_directly(scenario) for scenario in scenarios]
    assert at_once[0] != at_once[1]
