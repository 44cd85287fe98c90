"""The gRPC server: what it serves, where it listens, and how it begins and ends."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from faultlane.v1 import catalog_service_pb2, simulation_service_pb2
from faultlane_server.runs import Clock, Engine, Limits, RunEnd, Runs
from faultlane_server.scenario import LIMITS
from faultlane_server.service.access import Access
from faultlane_server.service.calls import Observer
from faultlane_server.service.catalog import CatalogServicer
from faultlane_server.service.guard import Guard
from faultlane_server.service.handlers import Door, handlers_of
from faultlane_server.service.quotas import quota_of
from faultlane_server.service.requests import BATCH_ROWS_MAX, PAGE_SIZE_MAX
from faultlane_server.service.simulations import SimulationServicer
from faultlane_server.service.tls import TlsFiles, server_credentials
from faultlane_server.service.tokens import TokenFile
from faultlane_server.service.translate import scenario_from_bytes
from faultlane_server.store import LOG_FORMAT

REQUEST_BYTES_MAX = 16 << 20
STOP_GRACE_S = 2.0
KEPT_BYTES = 16 << 20

_SIMULATIONS = simulation_service_pb2.DESCRIPTOR.services_by_name["SimulationService"]
_CATALOG = catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"]
_NAMES = (_SIMULATIONS.full_name, _CATALOG.full_name)

CALLS_MAX = 8192  # at once, health checks too: more than all owners together have a use for
HANDSHAKE_S_MAX = 10.0
IDLE_S_MAX = 600.0


class Security(NamedTuple):
    """Who may call, how they are told apart, and what they are told of the server itself."""

    tls: TlsFiles | None = None  # None: plain text
    tokens: TokenFile | None = None  # None: nobody needs one
    reflection: bool = True
    channelz: bool = False  # it tells who else is connected


class Options(NamedTuple):
    """Where a server listens, where it keeps everything, and how much it takes on."""

    address: str
    data_dir: Path
    limits: Limits
    clock: Clock | None = None  # None: the machine's
    is_private: bool = False  # removed at the end: nothing in it has to outlive a loss of power
    security: Security = Security()
    observers: Sequence[Observer] = ()
    on_run_end: Callable[[RunEnd], None] | None = None


class CannotListen(Exception):
    """The address is taken, or not one of this machine."""


class Server:
    """A server in the event loop that makes it."""

    def __init__(self, engine: Engine, options: Options) -> None:
        _keep_memory()
        security = options.security
        self.runs = Runs(
            engine,
            options.data_dir,
            options.limits,
            scenario_from_bytes,
            options.clock,
            durable=not options.is_private,
            quota_of=quota_of(options.limits, security.tokens),
            on_end=options.on_run_end,
        )
        self._options = options
        self._health = health.aio.HealthServicer()
        access = Access(security.tokens)
        door = Door(access, options.observers)
        self._server = grpc.aio.server(
            options=_channel_options(options),
            interceptors=[Guard(access)],
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        self._server.add_generic_rpc_handlers(
            (
                handlers_of(SimulationServicer(self.runs), _SIMULATIONS, door),
                handlers_of(CatalogServicer(_info(self.runs)), _CATALOG, door),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if security.reflection:
            reflection.enable_server_reflection(
                (*_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
            )
        if security.channelz:
            channelz.add_channelz_servicer(self._server)

    async def start(self) -> str:
        """Listen, and return the address; the health is NOT_SERVING until `load` has returned."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        host, _, _ = self._options.address.rpartition(":")
        try:
            port = self._open_port(self._options.address, self._options.security.tls)
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {self._options.address}") from error
        await self._server.start()
        return f"{host}:{port}"

    async def load(self) -> None:
        """Load the kernels and let simulations run."""
        await _in_daemon_thread(self.runs.start)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Tell who listens, let what runs stop where it is, and close."""
        await self._health.enter_graceful_shutdown()
        self.runs.drain()
        await self._server.stop(STOP_GRACE_S)
        await asyncio.to_thread(self.runs.close)

    async def run(
        self,
        stop: asyncio.Event,
        listens: Callable[[str], None],
        is_loaded: Callable[[], None],
    ) -> None:
        """Serve until `stop` is set; tell when the port is open and when simulations can run."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            listens(await self.start())
            loading = asyncio.ensure_future(self.load())
            await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                is_loaded()
            await stopped
        finally:
            stopped.cancel()
            await self.stop()

    def _open_port(self, address: str, tls: TlsFiles | None) -> int:
        if tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, server_credentials(tls))

    async def _set_health(self, status: int) -> None:
        for name in ("", *_NAMES):
            await self._health.set(name, status)


def _channel_options(options: Options) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # else two servers share a port and nobody notices
        ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.enable_channelz", int(options.security.channelz)),
        # A connection that begins nothing, or nothing any more, is closed; one whose other end
        # is gone is found out. Who pings more often than every ten seconds is sent away.
        ("grpc.max_allowed_incoming_connections", options.limits.connections_max),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S_MAX * 1000)),
        ("grpc.max_connection_idle_ms", int(IDLE_S_MAX * 1000)),
        ("grpc.keepalive_time_ms", 60 * 1000),
        ("grpc.keepalive_timeout_ms", 20 * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10 * 1000),
        # Of one connection: more than owners may have, so that they are told and not held up.
        ("grpc.max_concurrent_streams", 2048),
        # That begin at the same moment: beyond, gRPC ends calls without saying why.
        ("grpc.server.max_pending_requests", CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * CALLS_MAX),
    ]


def _keep_memory() -> None:
    """Let the memory of a message be used for the next one.

    glibc gives blocks above a threshold back to the system, which clears each page of the next
    one; the threshold is the largest block that was ever freed. This one is not even touched.
    """
    np.empty(KEPT_BYTES, np.uint8)


async def _in_daemon_thread(work: Callable[[], None]) -> None:
    """Wait for `work`, but let the process end without: it may compile for minutes."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="loading", daemon=True).start()
    await asyncio.wrap_future(done)


def _info(runs: Runs) -> catalog_service_pb2.GetServerInfoResponse:
    limits = runs.limits
    return catalog_service_pb2.GetServerInfoResponse(
        version=version("faultlane"),
        model_version=runs.engine.model_version,
        log_format=LOG_FORMAT,
        workers=limits.workers,
        limits={
            **LIMITS,
            "threads": limits.run.threads_max,
            "vmas": limits.run.vmas_max,
            "pages": limits.run.pages_max,
            "run_memory_bytes": limits.run.memory_bytes_max,
            "run_faults": limits.run.faults_max,
            "run_events": limits.run.events_max,
            "run_timeout_ms": int(limits.run.seconds_max * 1000),
            "batch_rows": BATCH_ROWS_MAX,
            "log_rows": limits.rows_max,
            "logs_bytes": limits.disk.bytes_max,
            "logs_bytes_of_owner": limits.disk.owner_bytes_max,
            "logs_kept_bytes": limits.disk.retain_bytes,
            "logs_kept_s": int(limits.disk.retain_s),
            "ended_simulations": limits.disk.retain_simulations,
            "queued_simulations": limits.queued_max,
            "faults_being_explained": limits.explained_max,
            "queued_simulations_of_owner": limits.owner.queued_max,
            "running_simulations_of_owner": limits.owner.running_max,
            "streams_of_owner": limits.owner.streams_max,
            "streams": limits.streams_max,
            "connections": limits.connections_max,
            "page_size": PAGE_SIZE_MAX,
            "request_bytes": REQUEST_BYTES_MAX,
        },
    )
