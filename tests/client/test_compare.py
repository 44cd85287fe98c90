"""A comparison asks for the same seeds under each policy, and pairs the same touches."""

from statistics import stdev
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from faultlane import Client, FaultEvents, InvalidScenario
from faultlane import v1 as pb
from faultlane.compare import (
    Comparison,
    Durations,
    Pairing,
    Result,
    compare,
    interval,
    pair,
    student_t,
)
from faultlane.report.comparison import comparison_report, intervals, pairs, side_by_side
from tests.client.fake import SUCCEEDED, FakeServer, Refusal, a_simulation, some_faults

ENDED = pb.Summary(stop=pb.StopReason.STOP_REASON_HORIZON)
SCENARIO = pb.Scenario(seed=5, machine=pb.Machine(arch="x86", cpus=4))


def ended(*touches: tuple[int, int, int]) -> Durations:
    """Ended faults by thread, ordinal of the touch, and duration."""
    return Durations.of(faults_of(list(touches)))


def faults_of(
    touches: list[tuple[int, int, int]], start_ns: int = 0, finished: int = 1
) -> FaultEvents:
    """Faults by thread, ordinal of the touch, and duration."""
    rows = len(touches)
    return FaultEvents.from_message(
        some_faults(
            [thread for thread, _, _ in touches],
            touch=[touch for _, touch, _ in touches],
            duration_ns=[duration for _, _, duration in touches],
            start_ns=[start_ns] * rows,
            finished=[finished] * rows,
        )
    )


def test_faults_pair_by_thread_and_touch() -> None:
    first = ended((0, 0, 100), (0, 1, 100), (1, 0, 100))
    other = ended((1, 0, 400), (0, 0, 90), (2, 0, 5), (2, 1, 5))

    assert pair(first, other) == Pairing(
        paired=2, first_alone=1, other_alone=2, difference_ns_mean=145.0
    )


def test_the_largest_thread_does_not_meet_another_ones_touch() -> None:
    first = ended((65535, 0, 1), (0, 2**48 - 1, 1))

    assert pair(first, ended((65535, 0, 1))) == Pairing(1, 1, 0, 0.0)


def test_unfinished_faults_and_those_of_the_warm_up_do_not_pair() -> None:
    begun_at_50 = faults_of([(0, 0, 100)], start_ns=50)
    unfinished = faults_of([(0, 0, 100)], finished=0)

    assert len(Durations.of(begun_at_50, since_ns=50).ns) == 1
    assert len(Durations.of(begun_at_50, since_ns=51).ns) == 0
    assert len(Durations.of(unfinished).ns) == 0


@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 9)), st.integers(0, 10**9)),
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 9)), st.integers(0, 10**9)),
)
def test_pairing_agrees_with_a_naive_one(
    first: dict[tuple[int, int], int], other: dict[tuple[int, int], int]
) -> None:
    both = sorted(first.keys() & other.keys())
    differences = [other[key] - first[key] for key in both]

    found = pair(
        ended(*((*key, first[key]) for key in first)),
        ended(*((*key, other[key]) for key in other)),
    )

    assert found[:3] == (len(both), len(first) - len(both), len(other) - len(both))
    assert found.difference_ns_mean == pytest.approx(
        sum(differences) / len(both) if both else 0.0, rel=1e-9
    )


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 15, 30, 99, 999])
def test_students_t_is_right_to_three_digits(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


def test_an_interval_is_that_of_the_textbook() -> None:
    values = [1.0, 2.0, 4.0, 7.0]

    found = interval(values)

    low, high = stats.t.interval(0.95, 3, loc=3.5, scale=stdev(values) / 2)
    assert found.mean == 3.5
    assert found.margin == pytest.approx((high - low) / 2, rel=1e-3)
    assert not found.excludes_zero
    assert interval([5.0, 5.1, 4.9]).excludes_zero


def test_one_value_has_no_interval() -> None:
    assert interval([3.0]) == (3.0, None)
    assert not interval([3.0]).excludes_zero


def run_of(request: pb.RunSimulationRequest) -> list[pb.RunSimulationResponse]:
    """A fault whose duration tells policy and seed, and a metric that tells the policy."""
    scenario = request.scenario
    slow = {"mainline": 1000, "rfc": 600}[scenario.kernel.policy_id]
    summary = pb.Summary(
        stop=pb.StopReason.STOP_REASON_HORIZON,
        metrics=[pb.Metric(name="faults.per_second", value=slow + scenario.seed)],
    )
    faults = some_faults([0], duration_ns=[slow + scenario.seed], finished=[1])
    return [
        pb.RunSimulationResponse(
            simulation=a_simulation(pb.SimulationState.SIMULATION_STATE_QUEUED)
        ),
        pb.RunSimulationResponse(
            faults=faults,
            next_fault_offset=1,
            simulation=a_simulation(SUCCEEDED, scenario=scenario, summary=summary),
        ),
    ]


def test_every_policy_runs_with_every_seed(client: Client, server: FakeServer) -> None:
    server.says["CreateSimulation"] = pb.CreateSimulationResponse()
    server.says["RunSimulation"] = run_of
    seen: list[tuple[str, int, int]] = []

    comparison = compare(
        client,
        SCENARIO,
        ["mainline", "rfc"],
        [5, 6],
        lambda scenario, faults: seen.append(
            (scenario.kernel.policy_id, scenario.seed, len(faults))
        ),
    )

    order = [("mainline", 5), ("rfc", 5), ("mainline", 6), ("rfc", 6)]
    runs = [request for request in server.heard if isinstance(request, pb.RunSimulationRequest)]
    assert [(r.scenario.kernel.policy_id, r.scenario.seed) for r in runs] == order
    assert all(run.scenario.machine == SCENARIO.machine for run in runs)
    assert seen == [(*run, 1) for run in order]
    assert comparison.values("rfc", "faults.per_second") == [605, 606]
    assert comparison.difference("rfc", "faults.per_second") == (-400, 0)
    assert comparison.results["rfc"][1].pairing == Pairing(1, 0, 0, -400.0)
    assert SCENARIO.seed == 5
    assert not SCENARIO.HasField("kernel")


def test_a_policy_that_makes_no_sense_is_told_before_the_first_run(
    client: Client, server: FakeServer
) -> None:
    bad = BadRequest(field_violations=[{"field": "kernel.policy_id", "description": "want ..."}])
    server.says["CreateSimulation"] = lambda request: (
        Refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad", bad)
        if request.scenario.kernel.policy_id == "none"
        else pb.CreateSimulationResponse()
    )

    with pytest.raises(InvalidScenario):
        compare(client, SCENARIO, ["mainline", "none"], [1])

    assert all(request.validate_only for request in server.heard)


def a_comparison(**figures: list[list[float]]) -> Comparison:
    """Figures by policy and seed, under mainline and rfc."""
    names = list(figures)
    seeds = len(next(iter(figures.values()))[0])
    scenario = pb.Scenario(machine=pb.Machine(arch="x86", cpus=4))
    results: dict[str, list[Any]] = {}
    for number, policy in enumerate(["mainline", "rfc"]):
        results[policy] = [
            Result(
                a_simulation(scenario=scenario, summary=ENDED),
                {name.replace("__", "."): figures[name][number][seed] for name in names},
                faults=10,
                operations=2,
                pairing=Pairing(9, 1, 0, -50.0 * number),
            )
            for seed in range(seeds)
        ]
    return Comparison(list(range(seeds)), results)


def test_policies_stand_side_by_side_with_their_ratios() -> None:
    comparison = a_comparison(
        fault__x__p99_ns=[[4000], [2000]],
        faults__per_second=[[1000], [1500]],
        other=[[1], [1]],
        fault__never__count=[[0], [0]],
        operation__mmap__p99_ns=[[0], [3000]],
    )

    assert side_by_side(comparison) == [
        "                         mainline       rfc  ratio",
        "throughput",
        "  faults.per_second      1.00 k/s  1.50 k/s  x1.50",
        "",
        "faults",
        "  fault.x.p99_ns          4.00 us   2.00 us  x0.50",
        "",
        "writers",
        "  operation.mmap.p99_ns      0 ns   3.00 us      -",
    ]


def test_a_figure_that_a_run_does_not_have_leaves_a_gap() -> None:
    comparison = a_comparison(faults__per_second=[[1, 2], [3, 4]])
    del comparison.results["rfc"][1].figures["faults.per_second"]

    assert side_by_side(comparison)[-1] == "  faults.per_second   1.50 /s    -      -"
    assert intervals(comparison) == [
        "                   rfc",
        "faults.per_second    -",
    ]


def test_a_mark_stands_where_chance_alone_is_unlikely() -> None:
    comparison = a_comparison(faults__per_second=[[100, 102, 104], [200, 201, 205]])

    assert side_by_side(comparison)[-1].endswith("x1.98*")


def test_intervals_take_more_than_one_seed() -> None:
    assert intervals(a_comparison(faults__per_second=[[100], [200]])) == []
    assert intervals(a_comparison(faults__per_second=[[100, 102, 104], [200, 201, 205]])) == [
        "                                   rfc",
        "faults.per_second  +100 /s +- 2.48 /s*",
    ]


def test_pairs_are_summed_and_their_differences_averaged_over_seeds() -> None:
    assert pairs(a_comparison(x=[[1, 1], [1, 1]])) == [
        "     pairs   took longer by  only mainline  only here",
        "rfc     18  -50 ns +- 0 ns*              2          0",
    ]


def test_a_comparison_begins_with_what_was_compared() -> None:
    comparison = a_comparison(faults__per_second=[[1000], [1500]])

    lines = comparison_report("first-look", comparison)

    assert lines[:5] == [
        "first-look: policy mainline against rfc on x86, 4 CPUs, machine profile neutral, seeds 0",
        "2 runs streamed 20 faults and 4 operations",
        "",
        "                     mainline       rfc  ratio",
        "throughput",
    ]


def test_a_run_that_could_not_go_on_is_told() -> None:
    comparison = a_comparison(faults__per_second=[[1000], [1500]])
    stuck = comparison.results["rfc"][0].simulation.summary
    stuck.stop = pb.StopReason.STOP_REASON_DEADLOCK
    stuck.diagnosis.message = "0 waits for 0"

    lines = comparison_report("first-look", comparison)

    assert lines[3:5] == ["rfc, seed 0: ended in a DEADLOCK", "0 waits for 0"]
