"""What the README shows can be done as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import faultlane
from faultlane.cli.app import app as client_app
from faultlane.scenario import scenario_from, yaml_plain
from faultlane_server.cli import app as server_app
from tests.npm import installed
from tests.serving import ready_server

README = (Path(__file__).parents[2] / "README.md").read_text()
NODE = Path(__file__).parent / "node"
APPS = {"faultlane": client_app, "faultlane-server": server_app}


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def buf() -> str:
    """Return the path of buf: $BUF, or the one in the PATH, or one from npm."""
    found = os.environ.get("BUF") or shutil.which("buf")
    return found or str(installed(NODE / "package.json") / ".bin" / "buf")


def objects(text: str) -> Iterator[Any]:
    """Return the JSON objects that follow each other in a text."""
    while text := text.lstrip():
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:]


def commands() -> list[list[str]]:
    """Return the calls of our own commands, as words."""
    ours = [block for block in blocks("sh") if not block.startswith("buf")]
    parts = re.split(r"\n| && ", "".join(ours))
    calls = [shlex.split(part.replace(".venv/bin/", "")) for part in parts]
    return [call for call in calls if call and call[0] in APPS]


@pytest.fixture(scope="module")
def client() -> Iterator[faultlane.Client]:
    with faultlane.local() as client:
        yield client


def test_the_scenario_is_one(client: faultlane.Client) -> None:
    [text] = blocks("yaml")

    client.create_simulation(scenario_from(yaml_plain(text)), validate_only=True)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [text] = blocks("python")

    exec(compile(text, "README.md", "exec"), {})

    assert "faults," in capsys.readouterr().out


@pytest.mark.parametrize("call", commands(), ids=" ".join)
def test_a_command_has_the_options_it_is_shown_with(call: list[str]) -> None:
    """Its help is asked for at the end, so that it is read but not run."""
    outcome = CliRunner().invoke(APPS[call[0]], [*call[1:], "--help"])

    assert outcome.exit_code == 0, outcome.output


def test_the_policies_of_the_table_are_those_of_the_server(client: faultlane.Client) -> None:
    told = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)

    assert sorted(told) == sorted(policy.id for policy in client.list_policies())


def test_the_calls_with_buf_list_the_policies_and_run_a_simulation() -> None:
    [script] = [block for block in blocks("sh") if block.startswith("buf")]
    with ready_server() as address:
        path = f"{Path(buf()).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-e", "-c", script.replace("127.0.0.1:50051", address)],
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            check=True,
        )

    listed, created, *messages = objects(done.stdout.decode())
    assert "rfc" in [policy["id"] for policy in listed["policies"]]
    assert created["simulation"]["state"] == "SIMULATION_STATE_QUEUED"
    assert messages[-1]["simulation"]["state"] == "SIMULATION_STATE_SUCCEEDED"
    assert sum(len(message["faults"]["thread"]) for message in messages if "faults" in message) > 0
