"""`faultlane-server serve`, from the outside."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import grpc
import pytest

from faultlane.v1 import catalog_service_pb2, simulation_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from tests.service.fake import Peer, a_scenario
from tests.serving import COMMAND, LOADING_S_MAX, serving, wait_until_it_serves

ENDING_S_MAX = 20.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    with serving("--data-dir", str(tmp_path)) as (process, address):
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
            request = pb.RunSimulationRequest(scenario=a_scenario())
            *_, last = Peer(channel).simulations.RunSimulation(request)

        process.send_signal(number)

        assert process.wait(ENDING_S_MAX) == 0
    assert last.simulation.state == simulation_pb2.SimulationState.SIMULATION_STATE_SUCCEEDED
    assert {path.name for path in tmp_path.glob("logs/*/*")} == {
        "faults.log",
        "faults.index",
        "operations.log",
        "operations.index",
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "faultlane.example"])
def test_it_refuses_to_be_reached_from_elsewhere_in_plain_text(host: str) -> None:
    refused = subprocess.run(
        [*COMMAND, "--host", host], capture_output=True, text=True, check=False
    )

    assert refused.returncode == 2
    assert "--insecure" in refused.stderr


def test_what_is_not_said_is_taken_from_the_environment() -> None:
    environment = {**os.environ, "FAULTLANE_HOST": "0.0.0.0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = ["--host", "127.0.0.1", "--port", str(taken.getsockname()[1])]
        refused, not_refused = (
            subprocess.run(
                [*COMMAND, *said], env=environment, capture_output=True, text=True, check=False
            )
            for said in ([], here)
        )

    assert "--insecure" in refused.stderr
    assert "cannot listen on 127.0.0.1" in not_refused.stderr


def test_it_logs_one_json_object_a_line() -> None:
    with serving(stderr=subprocess.PIPE) as (process, address):
        with grpc.insecure_channel(address) as channel:
            wait_until_it_serves(channel)
            list(
                Peer(channel).simulations.RunSimulation(
                    pb.RunSimulationRequest(scenario=a_scenario())
                )
            )
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr]

    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("ready", "stopped")
    assert sorted(events[1:-1]) == ["call ended", "simulation ended"]
    ended = {line["event"]: line for line in lines}
    assert ended["simulation ended"]["state"] == "SUCCEEDED"
    assert ended["call ended"]["simulation"] == ended["simulation ended"]["simulation"]
    assert {line["level"] for line in lines} == {"info"}


def test_it_says_so_if_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False
        )

    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_says_so_if_the_data_directory_is_in_use(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as (process, _):
        refused = subprocess.run(
            [*COMMAND, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False
        )

    assert refused.returncode == 1
    assert f"in use by another server, process {process.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_limits_can_be_set_and_are_told() -> None:
    with (
        serving("--run-seconds-max", "7.5", "--disk-mib-max", "3", "--workers", "2") as (
            _,
            address,
        ),
        grpc.insecure_channel(address) as channel,
    ):
        info = Peer(channel).catalog.GetServerInfo(
            catalog_service_pb2.GetServerInfoRequest(), wait_for_ready=True
        )

    assert info.workers == 2
    assert info.limits["run_timeout_ms"] == 7500
    assert info.limits["logs_bytes"] == 3 << 20
    assert info.limits["queued_simulations"] == 256


def test_it_can_be_told_that_plain_text_is_wanted() -> None:
    with serving("--host", "0.0.0.0", "--insecure") as (process, address):
        assert address.startswith("0.0.0.0:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LOADING_S_MAX) == 0
