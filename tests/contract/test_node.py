"""A client in another language, made from the protos alone, reads what the Python SDK reads."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from faultlane import Client, FaultEvents, OperationEvents, Run
from tests.npm import installed
from tests.serving import ready_server

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node"
PRESET = "first-look"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ready_server() as address:
        yield address


@pytest.fixture(scope="module")
def in_node(address: str) -> Any:
    """What a run looks like from Node."""
    node = shutil.which("node")
    assert node, "node is not in the PATH: install Node.js"
    done = subprocess.run(
        [node, NODE / "run_preset.js", address, ROOT / "protos", PRESET],
        env={**os.environ, "NODE_PATH": str(installed(NODE / "package.json"))},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def in_python(address: str) -> Iterator[Run]:
    with Client.connect(address) as client:
        yield client.submit(client.get_preset(PRESET).scenario)


def as_node_tells_it(events: FaultEvents | OperationEvents) -> dict[str, object]:
    columns = {name: column.astype("<u8") for name, column in events.columns().items()}
    return {
        "rows": len(events),
        "columns": {
            name: {
                "sum": str(sum(column.tolist())),
                "sha256": sha256(column.tobytes()).hexdigest(),
            }
            for name, column in columns.items()
        },
    }


def test_node_reads_every_fault_as_the_python_sdk_does(in_node: Any, in_python: Run) -> None:
    faults = FaultEvents.concat(in_python.events())

    assert len(faults) > 20_000
    assert in_node["faults"] == as_node_tells_it(faults)


def test_node_reads_every_operation_as_the_python_sdk_does(in_node: Any, in_python: Run) -> None:
    operations = OperationEvents.concat(in_python.operations())

    assert len(operations) > 1_000
    assert in_node["operations"] == as_node_tells_it(operations)


def test_node_and_the_python_sdk_are_told_of_the_same_run(in_node: Any, in_python: Run) -> None:
    simulation = in_python.result()

    assert in_node["simulation"]["state"] == "SIMULATION_STATE_SUCCEEDED"
    assert in_node["simulation"]["digest"] == simulation.digest
    assert int(in_node["simulation"]["summary"]["fingerprint"]) == simulation.summary.fingerprint
