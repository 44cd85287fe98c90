"""`faultlane fidelity` hands everything on to the server's command, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from faultlane.cli import main; main()", "fidelity"]
CLIENT = Path(__file__).parents[2] / "client"

A_SERVER = """
import sys
print("heard", sys.argv[1:])
sys.exit(7)
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A place that has the client, and a server that tells what it was asked."""
    package = tmp_path / "faultlane_server"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(A_SERVER)
    return tmp_path


def fidelity(*arguments: str, path: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--rows", "rows.csv", "--set", "icount", "--quick", "--json", "--html", "page.html"],
        ["--no-such-option", "and a word", ""],
    ],
)
def test_it_hands_on_its_arguments_and_the_exit_code(server: Path, arguments: list[str]) -> None:
    done = fidelity(*arguments, path=f"{server}:{CLIENT}")

    assert done.stdout == f"heard {['fidelity', *arguments]}\n"
    assert done.returncode == 7


def test_a_server_that_is_killed_ends_it_as_a_shell_would_tell(server: Path) -> None:
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    (server / "faultlane_server" / "__main__.py").write_text(dies)

    assert fidelity(path=f"{server}:{CLIENT}").returncode == 128 + 9


def test_without_a_server_it_says_how_to_install_it() -> None:
    alone = (
        "import importlib.util as util; real = util.find_spec;"
        "util.find_spec = lambda name: None if name == 'faultlane_server' else real(name);"
        "from faultlane.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", alone, "fidelity"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no server here: pip install 'faultlane[server]'\n"


def test_a_server_without_its_simulator_says_how_to_install_it() -> None:
    """The wheel has the server's code; what it needs is an extra."""
    without_numba = (
        "import sys; sys.modules['numba'] = None; sys.argv[:] = ['faultlane-server', 'fidelity'];"
        "from faultlane_server.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_numba], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no simulator here (")
    assert done.stderr.endswith("pip install 'faultlane[server]'\n")


def test_the_help_is_that_of_the_server() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--rows", "--set", "--quick", "--html"))
