"""The Dockerfile says what the command understands. It is built elsewhere."""

import inspect
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faultlane_server.cli import app, health

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def words(instruction: str) -> list[str]:
    """Return the words that an instruction gives as a JSON array."""
    [array] = re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return list(json.loads(array))


ENTRYPOINT, CMD, HEALTHCHECK = map(words, ("ENTRYPOINT", "CMD", "HEALTHCHECK .* CMD"))


@pytest.mark.parametrize("call", [ENTRYPOINT + CMD, HEALTHCHECK], ids=["serve", "health"])
def test_the_image_calls_the_command_with_options_that_it_has(call: list[str]) -> None:
    command, *arguments = call

    outcome = CliRunner().invoke(app, [*arguments, "--help"])

    assert command == "faultlane-server"
    assert outcome.exit_code == 0, outcome.output


def test_the_health_check_asks_at_the_port_where_the_image_serves() -> None:
    port = CMD[CMD.index("--port") + 1]

    assert inspect.signature(health).parameters["address"].default == f"127.0.0.1:{port}"
    assert f"EXPOSE {port}\n" in DOCKERFILE


def test_the_data_directory_is_made_for_the_user_who_serves() -> None:
    [user, group] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    data_dir = CMD[CMD.index("--data-dir") + 1]

    assert "0" not in (user, group)
    assert f"install -d -o {user} -g {group} -m 0700 {data_dir}\n" in DOCKERFILE


def test_what_is_copied_into_the_image_is_there() -> None:
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)

    assert copies
    assert [name for copy in copies for name in copy.split() if not (ROOT / name).exists()] == []
