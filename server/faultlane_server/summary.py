"""What a run found out, and the registry of metric names."""

from dataclasses import dataclass

from faultlane_server.codes import StopReason


@dataclass(frozen=True, slots=True)
class Latency:
    """How some lengths of time are distributed. Fields as in the proto."""

    name: str
    count: int
    censored: int
    mean_ns: float
    min_ns: int
    max_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    log2_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LockRow:
    """One lock, in one mode. Fields as in the proto."""

    lock: str
    mode: str
    acquired: int
    contended: int
    wait_total_ns: int
    wait_max_ns: int
    hold_total_ns: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a run could not go on."""

    message: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found out. Fields as in the proto; `metrics` by dotted name."""

    stop: StopReason
    end_ns: int
    measured_ns: int
    fingerprint: int
    model_version: int
    metrics: dict[str, float]
    latencies: tuple[Latency, ...]
    locks: tuple[LockRow, ...]
    diagnosis: Diagnosis | None = None
