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
    hold_max_ns: int


@dataclass(frozen=True, slots=True)
class LockInstanceRow:
    """One of many locks, in one mode, that was waited for. Fields as in the proto."""

    lock: str
    mode: str
    instance: str
    contended: int
    wait_total_ns: int
    wait_max_ns: int


@dataclass(frozen=True, slots=True)
class Who:
    """What a thread does, and the group that it belongs to."""

    activity: str
    group: str


@dataclass(frozen=True, slots=True)
class BlameEdge:
    """How long some threads waited because of others. Fields as in the proto."""

    waiter: Who
    lock: str
    mode: str
    holder: Who
    waits: int
    wait_total_ns: int
    wait_max_ns: int


@dataclass(frozen=True, slots=True)
class BlameLink:
    """A lock, and who has it."""

    lock: str
    mode: str
    holder: Who


@dataclass(frozen=True, slots=True)
class BlameChain:
    """How long some threads waited, and what was in their way. Fields as in the proto."""

    waiter: Who
    links: tuple[BlameLink, ...]
    end: str
    waits: int
    wait_total_ns: int
    wait_max_ns: int
    bystander_waits: int
    bystander_total_ns: int


@dataclass(frozen=True, slots=True)
class Victim:
    """What waits were to some threads. Fields as in the proto."""

    waiter: Who
    waits: int
    wait_total_ns: int
    wait_max_ns: int
    d_state_total_ns: int
    d_state_max_ns: int
    inversion_total_ns: int
    inversion_max_ns: int
    inversion_max_thread: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not among some rows. Fields as in the proto."""

    rows: int
    waits: int
    wait_total_ns: int


@dataclass(frozen=True, slots=True)
class Blame:
    """Who waited for whom. Fields as in the proto."""

    edges: tuple[BlameEdge, ...]
    edges_left_out: LeftOut
    chains: tuple[BlameChain, ...]
    chains_left_out: LeftOut
    victims: tuple[Victim, ...]
    victims_left_out: LeftOut
    locks: tuple[LockInstanceRow, ...]
    locks_left_out: LeftOut
    waits_not_followed: int


@dataclass(frozen=True, slots=True)
class RetryRow:
    """How often faults of a kind were tried again. Fields as in the proto."""

    kind: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WaitPart:
    """What was waited for, and how long."""

    cause: str
    wait_ns: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """How an attempt of a fault ended. Fields as in the proto."""

    lock: str
    tried: bool
    reason: str
    end_ns: int
    waits: tuple[WaitPart, ...]


@dataclass(frozen=True, slots=True)
class LongestFault:
    """The fault that made most attempts. Fields as in the proto."""

    thread: int
    group: str
    touch: int
    kind: str
    start_ns: int
    duration_ns: int
    finished: bool
    attempts: int
    vma_retries: int
    rows: tuple[AttemptRow, ...]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often faults were tried again. Fields as in the proto."""

    kinds: tuple[RetryRow, ...]
    longest: LongestFault | None


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
    diagnosis: Diagnosis | None
    blame: Blame
    retries: Retries
