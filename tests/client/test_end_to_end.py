"""The command and the SDK against a server of this process, with the real engine behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import faultlane
from faultlane import Client, FaultEvents, OperationEvents
from faultlane import v1 as pb
from faultlane.errors import NoSuchFault
from faultlane.scenario import read_machine

COMMAND = [sys.executable, "-c", "from faultlane.cli import main; main()"]

SCENARIO = faultlane.scenario_from(
    {
        "workload": {
            "files": [{"name": "data", "size_bytes": "16MiB", "device": "disk"}],
            "processes": [
                {
                    "name": "app",
                    "vmas": [{"name": "map", "length_bytes": "16MiB", "file": {"file": "data"}}],
                    "groups": [
                        {
                            "name": "readers",
                            "threads": 4,
                            "program": [{"touch": {"vma": "map", "uniform": {}, "count": 200}}],
                        },
                        {
                            "name": "mappers",
                            "threads": 1,
                            "program": [
                                {
                                    "loop": {
                                        "count": 50,
                                        "steps": [
                                            {"mmap": {"name": "new", "length_bytes": "64KiB"}},
                                            {"munmap": {"vma": "new"}},
                                        ],
                                    }
                                }
                            ],
                        },
                    ],
                }
            ],
        },
        "machine": {
            "arch": "x86",
            "cpus": 2,
            "devices": [{"name": "disk", "latency": {"exponential_mean_ns": "100us"}}],
        },
        "kernel": {"policy_id": "rfc"},
        "horizon_ns": "1s",
    }
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with faultlane.local(workers=1) as client:
        yield client


def test_what_is_streamed_is_what_the_summary_counts(client: Client) -> None:
    with client.run(SCENARIO) as run:
        faults = FaultEvents.concat(run.events())
        operations = OperationEvents.concat(run.operations())

    metrics = {metric.name: metric.value for metric in run.summary.metrics}
    assert run.summary.stop == pb.StopReason.STOP_REASON_FINISHED
    assert len(faults) == metrics["faults.count"] == run.simulation.progress.fault_rows > 0
    assert len(operations) == metrics["operations.count"] == 100
    assert int(faults.major.sum()) == metrics["vmstat.pgmajfault"]


def test_waits_and_cpu_time_add_up_to_the_duration(client: Client) -> None:
    with client.run(SCENARIO) as run:
        columns = FaultEvents.concat(run.events()).columns()

    parts = [column for name, column in columns.items() if name.startswith(("cpu_ns", "wait_"))]
    assert np.array_equal(sum(parts), columns["duration_ns"])


def test_both_ways_of_streaming_give_the_same_columns(client: Client) -> None:
    with client.run(SCENARIO, batch_rows=7) as run:
        streamed = FaultEvents.concat(run.events()).columns()
    submitted = client.submit(SCENARIO)
    followed = FaultEvents.concat(submitted.events()).columns()

    assert run.summary.fingerprint == submitted.summary.fingerprint
    for name, column in streamed.items():
        assert np.array_equal(column, followed[name]), name


def test_an_explanation_adds_up_to_the_fault_that_was_streamed(client: Client) -> None:
    run = client.submit(SCENARIO)
    faults = FaultEvents.concat(run.events()).columns()
    slowest = int(np.argmax(faults["duration_ns"]))
    most_retried = max(
        range(len(faults["thread"])),
        key=lambda row: (faults["attempts"][row], faults["duration_ns"][row], -row),
    )

    answers = {
        slowest: client.explain(run),
        most_retried: client.explain(run, "most retried"),
        0: client.explain(run.name, 0),
    }

    for row, answer in answers.items():
        steps = answer.explanation.steps
        logged = {name: int(column[row]) for name, column in faults.items()}
        assert answer.fault == row
        assert {name: getattr(answer.event, name)[0] for name in logged} == logged
        assert steps[0].start_ns == logged["start_ns"]
        assert sum(step.duration_ns for step in steps) == logged["duration_ns"]
        assert sum(step.spent_ns["device"] for step in steps) == logged["wait_device_ns"]
    assert answers[0].explanation.steps[0].function == "do_user_addr_fault > lock_vma_under_rcu"


def test_a_row_behind_the_log_is_no_fault(client: Client) -> None:
    run = client.submit(SCENARIO)
    run.wait()
    rows = run.simulation.progress.fault_rows

    with pytest.raises(NoSuchFault, match=f"want a fault of 0 to {rows - 1}, got {rows}"):
        client.explain(run, rows)


def test_explain_of_the_first_preset_tells_who_was_in_the_way_under_hold() -> None:
    done = subprocess.run(
        [*COMMAND, "explain", "first-look", "--policy", "hold"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 100
    story = " ".join(done.stdout.split())
    assert "(protectors) holds mmap_lock for write: mprotect sleeps in vma_start_write" in story
    assert "(of shard0) for read: a page fault at" in story
    assert "< disk: in service, reads pages" in story


def test_a_run_uses_what_was_measured_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    subprocess.run([*COMMAND, "calibrate", str(file), "--quick"], check=True, capture_output=True)

    done = subprocess.run(
        [*COMMAND, "run", "first-look", "--machine", str(file), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )

    simulation = json.loads(done.stdout)["simulation"]
    assert simulation["state"] == "SIMULATION_STATE_SUCCEEDED"
    assert simulation["scenario"]["machine"]["costs_ns"] == dict(read_machine(file).costs_ns)


def test_a_cost_of_no_known_name_is_told_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text("costs_ns: {trp: 100}")

    done = subprocess.run(
        [*COMMAND, "run", "first-look", "--machine", str(file)], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert done.stderr.startswith("machine.costs_ns: want one of ")
    assert "'trp'" in done.stderr


def test_run_of_the_first_preset_prints_json_and_nothing_else() -> None:
    done = subprocess.run(
        [*COMMAND, "run", "first-look", "--json"], capture_output=True, text=True, check=True
    )

    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert told["simulation"]["state"] == "SIMULATION_STATE_SUCCEEDED"
    assert told["streamed"]["faults"] > 0
    assert told["streamed"]["operations"] > 0


def test_the_first_comparison_shows_that_rfc_and_hold_spare_mmap_lock() -> None:
    policies = ["--policies", "mainline,rfc,hold"]
    done = subprocess.run(
        [*COMMAND, "compare", "first-look", *policies, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )

    told = json.loads(done.stdout)["policies"]
    reads = {
        policy: told[policy]["runs"][0]["figures"]["mmap_lock.read.per_touch"] for policy in told
    }
    assert list(reads) == ["mainline", "rfc", "hold"]
    assert reads["rfc"] < reads["mainline"]
    assert reads["hold"] < reads["mainline"]
    assert all(told[policy]["runs"][0]["pairing"]["paired"] > 0 for policy in told)
