"""How much a server takes on. What goes beyond is refused or ended, and harms nobody else."""

import os
from typing import NamedTuple

from faultlane_server.runs.memory import machine_bytes
from faultlane_server.scenario import LIMITS

GIB = 1 << 30
DAY_S = 24 * 3600.0

FILES_OF_SERVER = 128  # the register, the event loops, modules that are loaded
FILES_OF_RUN = 8  # that is being simulated or explained: two logs with their indexes
FILES_OF_STREAM = 4  # of RunSimulation, which reads both logs


def default_workers() -> int:
    """One CPU is left to gRPC and to whoever reads."""
    return max(1, (os.cpu_count() or 1) - 1)


def default_memory_bytes(workers: int) -> int:
    """What a run may have so that all that run at once fit into memory, and leave a quarter.

    Each worker may have a run and an explanation under way.
    """
    return min(2 * GIB, machine_bytes() * 3 // 4 // (2 * workers))


class RunLimits(NamedTuple):
    """What one run may need."""

    threads_max: int = LIMITS["threads"]
    vmas_max: int = LIMITS["vmas"]
    pages_max: int = LIMITS["pages"]
    memory_bytes_max: int = 2 * GIB
    faults_max: int = 10**9
    events_max: int = 10**11
    seconds_max: float = 3600.0


class OwnerLimits(NamedTuple):
    """What one owner may have at once."""

    queued_max: int = 256
    running_max: int = 1024
    streams_max: int = 1024


class DiskLimits(NamedTuple):
    """How much room logs may take, and when they go."""

    bytes_max: int = 32 * GIB  # of all logs, and of the register of simulations
    owner_bytes_max: int = 32 * GIB  # of the logs that one owner has a simulation with
    free_bytes_min: int = GIB // 4  # left to everybody else on the file system
    retain_bytes: int = 16 * GIB  # beyond, logs go that were used the longest ago
    retain_s: float = 30 * DAY_S  # older logs go
    retain_simulations: int = 10_000  # beyond, the oldest ended simulations are forgotten


class Quota(NamedTuple):
    """All that one owner may have, on a server that may give more or less to others."""

    queued_max: int
    running_max: int
    streams_max: int
    log_bytes_max: int


class Limits(NamedTuple):
    """How much a server takes on."""

    workers: int
    queued_max: int = 256
    rows_max: int = 10_000_000  # in one log
    heartbeat_s: float = 5.0  # how long a stream is silent at most
    explained_max: int = 16  # faults that are being explained, or wait for it
    run: RunLimits = RunLimits()
    owner: OwnerLimits = OwnerLimits()
    disk: DiskLimits = DiskLimits()
    sweep_s: float = 60.0  # how often it is looked for logs that may go
    streams_max: int = 16384  # of all owners
    connections_max: int = 4096

    @classmethod
    def of_machine(cls, workers: int) -> "Limits":
        """Return the limits for so many workers on this machine."""
        return cls(workers, run=RunLimits(memory_bytes_max=default_memory_bytes(workers)))

    @property
    def quota(self) -> Quota:
        """What an owner may have of whom nothing else is said."""
        return Quota(*self.owner, self.disk.owner_bytes_max)


def within_files(limits: Limits, files_max: int) -> Limits:
    """Return the limits with as many connections and streams as there may be open files."""
    connections_max = min(limits.connections_max, max(files_max // 4, 1))
    left = files_max - connections_max - FILES_OF_SERVER - FILES_OF_RUN * limits.workers
    return limits._replace(
        connections_max=connections_max,
        streams_max=min(limits.streams_max, max(left // FILES_OF_STREAM, 1)),
    )
