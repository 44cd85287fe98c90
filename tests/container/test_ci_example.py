"""The example of a comparison in CI does what it says: it passes, and it fails on a regression."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from faultlane.scenario import read_scenario
from tests.container.podman import HARDENED, PODMAN, built_image, is_possible, podman

HERE = Path(__file__).parent / "ci_example"
FILES = {"workflow.yaml", "compare", "check.py", "workload.yaml", "budgets.json"}
SLOWER = "fault.file_read.major.p99_ns"


def comparison(*values: float, figure: str = SLOWER) -> dict[str, Any]:
    """What `faultlane compare --json` prints, as far as budgets look at it."""
    runs = [[{"figures": {figure: value}}] for value in values]
    policies = {
        policy: {"runs": run} for policy, run in zip(("mainline", "rfc"), runs, strict=True)
    }
    return {"first": "mainline", "policies": policies}


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Checks a comparison against one budget."""

    def checked(compared: Any, ratio_max: float) -> subprocess.CompletedProcess[str]:
        budgets = [{"policy": "rfc", "figure": SLOWER, "ratio_max": ratio_max}]
        paths = [tmp_path / "comparison.json", tmp_path / "budgets.json"]
        for path, content in zip(paths, (compared, budgets), strict=True):
            path.write_text(json.dumps(content))
        command: list[str | Path] = [sys.executable, HERE / "check.py", *paths]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return checked


@pytest.mark.parametrize(
    ("mainline", "rfc", "ratio_max", "code"),
    [(100, 100, 1.0, 0), (100, 104, 1.05, 0), (100, 106, 1.05, 1), (0, 0, 1.0, 0), (0, 1, 9.0, 1)],
)
def test_a_budget_is_kept_or_broken(
    check: Callable[..., subprocess.CompletedProcess[str]],
    mainline: float,
    rfc: float,
    ratio_max: float,
    code: int,
) -> None:
    done = check(comparison(mainline, rfc), ratio_max)

    assert done.returncode == code
    assert done.stdout.startswith("BROKEN" if code else "ok")


def test_a_figure_that_is_not_there_keeps_no_budget(
    check: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Else a name that is misspelt would be a budget that never breaks."""
    done = check(comparison(1, 1, figure="another"), 9.0)

    assert done.returncode == 1
    assert "no such figure" in done.stdout


def test_the_workflow_calls_the_script_with_files_that_are_there() -> None:
    workflow = yaml.safe_load((HERE / "workflow.yaml").read_text())
    steps = workflow["jobs"]["compare"]["steps"]
    [step] = [step for step in steps if step.get("name") == "Compare"]
    named = {word.removeprefix("latency/") for word in step["run"].split()}

    assert named == {"compare", "workload.yaml", "budgets.json"}
    assert set(step["env"]) <= set((HERE / "compare").read_text().split())
    assert {path.name for path in HERE.iterdir() if path.is_file()} == FILES
    assert read_scenario(HERE / "workload.yaml").workload.processes


needs_containers = [
    pytest.mark.container,
    pytest.mark.skipif(not is_possible(), reason="needs buildah, podman, runc and mmdebstrap"),
    pytest.mark.timeout(3600),
]


def compared(budgets: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    options = [option for option in HARDENED if option not in ("--network", "host")]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONTAINER": " ".join(PODMAN),
        "RUN_OPTIONS": " ".join(options),
        **variables,
    }
    command = [HERE / "compare", HERE / "workload.yaml", budgets]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image() -> str:
    return built_image()


class TestInAContainer:
    """The script with a server in a container, which is gone afterwards."""

    pytestmark = needs_containers

    def test_the_example_keeps_its_budgets(self, image: str) -> None:
        before = podman("ps", "--all", "--quiet")

        done = compared(HERE / "budgets.json", IMAGE=image)

        assert done.returncode == 0, done.stderr
        assert "BROKEN" not in done.stdout
        assert podman("ps", "--all", "--quiet") == before

    def test_a_regression_fails(self, image: str, tmp_path: Path) -> None:
        """As if rfc had been there before: with mainline, faults take mmap_lock again."""
        budgets = tmp_path / "budgets.json"
        figure = "lock.mmap_lock.read.acquired"
        budgets.write_text(json.dumps([{"policy": "mainline", "figure": figure, "ratio_max": 1.0}]))

        done = compared(budgets, IMAGE=image, POLICIES="rfc,mainline")

        assert done.returncode == 1, done.stdout + done.stderr
        assert "BROKEN mainline" in done.stdout

    def test_a_server_that_does_not_become_healthy_fails_and_says_why(self, image: str) -> None:
        done = compared(
            HERE / "budgets.json",
            IMAGE=image,
            HEALTHY_S_MAX="10",
            RUN_OPTIONS="--no-healthcheck --env FAULTLANE_WORKERS=nonsense "
            "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096",
        )

        assert done.returncode == 1
        assert "not healthy" in done.stderr
        assert "workers" in done.stderr
