"""Asks a server how it is, as the health check of a container does."""

from pathlib import Path
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class ProbeTls(NamedTuple):
    """Files in PEM, and the name in the server's certificate if it is not that of the address."""

    ca: Path
    cert: Path | None
    key: Path | None
    server_name: str | None


def health_of(address: str, timeout_s: float, tls: ProbeTls | None = None) -> str:
    """Return `SERVING`, another status of grpc.health.v1, or `UNREACHABLE` with the reason."""
    with _channel(address, tls) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"UNREACHABLE: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _channel(address: str, tls: ProbeTls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.cert.read_bytes() if tls.cert else None,
    )
    name = tls.server_name
    return grpc.secure_channel(
        address, credentials, [("grpc.ssl_target_name_override", name)] if name else None
    )
