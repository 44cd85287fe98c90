"""What the README shows can be done as it stands there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import faultlane
from faultlane.cli.app import app as client_app
from faultlane.scenario import scenario_from, yaml_plain
from faultlane_server.cli import app as server_app

README = (Path(__file__).parents[2] / "README.md").read_text()
APPS = {"faultlane": client_app, "faultlane-server": server_app}


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Return the calls of our own commands, as words."""
    parts = re.split(r"\n| && ", "".join(blocks("sh")))
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
