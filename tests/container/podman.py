"""Runs the image as one would where nothing is trusted: no root, nothing writable but data."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faultlane import Access, Client

BUILD = Path(__file__).parent / "build"
PODMAN = ["podman", "--runtime", "runc"]
HARDENED = [
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--no-healthcheck"),
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "2g", "--network", "host"),
]
USER = 65532
STARTING_S_MAX = 300.0
STOPPING_S = 60
NEEDED = ("buildah", "podman", "runc", "mmdebstrap")


def is_possible() -> bool:
    """Whether what it takes is installed."""
    return all(map(shutil.which, NEEDED))


def built_image() -> str:
    """Build the image, or take $FAULTLANE_IMAGE; return its name."""
    if given := os.environ.get("FAULTLANE_IMAGE"):
        return given
    done = subprocess.run([BUILD], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


def podman(*arguments: str) -> str:
    """Call podman, and return what it prints."""
    done = subprocess.run([*PODMAN, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"podman {arguments[0]}: {done.stderr}{done.stdout}")
    return done.stdout.strip()


class Container:
    """A container that was started and will be removed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began_s = time.monotonic()

    @property
    def address(self) -> str:
        """Where it listens, as soon as it does."""
        return self._soon(self._address_told)

    def health(self) -> str:
        """What the health check says, which runs inside."""
        command = ["exec", self.name, "faultlane-server", "health", "--address", self.address]
        done = subprocess.run([*PODMAN, *command], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def seconds_to_serving(self) -> float:
        """Wait until it can run simulations, and return how long that took from its start on."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with Access().channel(self.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=STARTING_S_MAX):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return time.monotonic() - self.began_s
        raise AssertionError(self.logs())

    def inside(self, *command: str) -> str:
        """Run a command in it."""
        return podman("exec", self.name, *command)

    def memory_bytes(self) -> int:
        """How much memory its processes have to themselves and share with nobody."""
        pid = podman("inspect", self.name, "--format", "{{.State.Pid}}")
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines[1:])
        return int(found["Rss"].split()[0]) << 10

    def stop(self) -> int:
        """Tell it to end, and return its exit code."""
        podman("stop", "--time", str(STOPPING_S), self.name)
        return int(podman("inspect", self.name, "--format", "{{.State.ExitCode}}"))

    def logs(self) -> str:
        """What it has said, on both ways out."""
        command = [*PODMAN, "logs", self.name]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return done.stdout

    def client(self) -> Client:
        return Client.connect(self.address, Access())

    def _address_told(self) -> str:
        logs = self.logs().splitlines()
        lead = "faultlane-server listening on "
        return next((line.removeprefix(lead) for line in logs if line.startswith(lead)), "")

    def _soon(self, look: Any) -> str:
        deadline_s = time.monotonic() + STARTING_S_MAX
        while not (found := look()):
            state = json.loads(podman("inspect", self.name))[0]["State"]
            assert state["Running"], self.logs()
            assert time.monotonic() < deadline_s, "it does not listen"
            time.sleep(0.05)
        return str(found)


@contextmanager
def running(image: str, data: Path) -> Iterator[Container]:
    """A container whose server has a port of its own."""
    os.chown(data, USER, USER)
    served = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", "/var/lib/faultlane"]
    volume = f"{data}:/var/lib/faultlane"
    container = Container(podman("run", "--detach", *HARDENED, "--volume", volume, image, *served))
    try:
        yield container
    finally:
        podman("rm", "--force", "--time", "0", container.name)
