"""Asks a server how it is, as the health check of a container does."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def health_of(address: str, timeout_s: float) -> str:
    """Return `SERVING`, another status of grpc.health.v1, or `UNREACHABLE` with the reason."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"UNREACHABLE: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
