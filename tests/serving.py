"""`faultlane-server serve` in a process of its own, for tests from the outside."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LOADING_S_MAX = 240.0

COMMAND = [sys.executable, "-m", "faultlane_server", "serve", "--port", "0"]


@contextmanager
def serving(*options: str, **of_process: Any) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server that listens, and its address as it printed it."""
    command = [*COMMAND, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **of_process) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, line.removeprefix("faultlane-server listening on ").strip()
        finally:
            process.kill()


@contextmanager
def ready_server(**of_process: Any) -> Iterator[str]:
    """The address of a server that has loaded its kernels."""
    with serving(**of_process) as (_, address), grpc.insecure_channel(address) as channel:
        wait_until_it_serves(channel)
        yield address


def wait_until_it_serves(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for response in stub.Watch(health_pb2.HealthCheckRequest(), timeout=LOADING_S_MAX):
        if response.status == health_pb2.HealthCheckResponse.SERVING:
            return
