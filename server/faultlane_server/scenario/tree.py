"""What can be asked for: the tree of a scenario.

The proto's `Scenario` is the manual: units, ranges and defaults stand there,
and every dataclass here has the fields of its message. What is missing on the
wire is filled in by `check`, once; past it nobody checks again.
"""

from dataclasses import dataclass, field

from faultlane_server.codes import (
    Access,
    Advice,
    DeviceKind,
    FileKind,
    ForkSkips,
    LruKind,
    Madvice,
    PageState,
    Preemption,
    Protection,
    RecordingKind,
    SchedPolicy,
    SignalKind,
)
from faultlane_server.policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Fixed:
    ns: int


@dataclass(frozen=True, slots=True)
class Exponential:
    mean_ns: int


@dataclass(frozen=True, slots=True)
class LogNormal:
    median_ns: int
    sigma_ppm: int


@dataclass(frozen=True, slots=True)
class Quantile:
    ppm: int
    ns: int


@dataclass(frozen=True, slots=True)
class Quantiles:
    points: tuple[Quantile, ...]


Duration = Fixed | Exponential | LogNormal | Quantiles


@dataclass(frozen=True, slots=True)
class Sequential:
    divided: bool = False


@dataclass(frozen=True, slots=True)
class Uniform:
    pass


@dataclass(frozen=True, slots=True)
class Zipf:
    theta_ppm: int


@dataclass(frozen=True, slots=True)
class Stride:
    stride_bytes: int
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Explicit:
    page_deltas: tuple[int, ...]
    slice: int = 0


Pattern = Sequential | Uniform | Zipf | Stride | Explicit


@dataclass(frozen=True, slots=True)
class Touch:
    vma: str
    pattern: Pattern
    access: Access = Access.READ
    count: int = 0
    offset_bytes: int = 0
    length_bytes: int = 0
    kernel_mode: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    duration: Duration


@dataclass(frozen=True, slots=True)
class Sleep:
    duration: Duration


@dataclass(frozen=True, slots=True)
class Mmap:
    name: str
    length_bytes: int
    merge: bool = False
    file: "FileMapping | None" = None
    own_file: bool = False
    protection: tuple[Protection, ...] = (Protection.READ, Protection.WRITE)
    over: str = ""
    over_offset_bytes: int = 0
    populate: bool = False
    hugetlb: "HugetlbMapping | None" = None


@dataclass(frozen=True, slots=True)
class Mremap:
    vma: str
    length_bytes: int = 0
    move: bool = False


@dataclass(frozen=True, slots=True)
class Brk:
    vma: str
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Munmap:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mprotect:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    protection: tuple[Protection, ...] = ()
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Madvise:
    vma: str
    advice: Madvice
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mlock:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Munlock:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mbind:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0
    policy: int = 0
    move: bool = False


@dataclass(frozen=True, slots=True)
class Prctl:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Khugepaged:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NumaScan:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    thread_offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Exec:
    pass


@dataclass(frozen=True, slots=True)
class ReadSmaps:
    process: str = ""


@dataclass(frozen=True, slots=True)
class ReadMaps:
    process: str = ""


@dataclass(frozen=True, slots=True)
class ClearRefs:
    process: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    child: Duration


@dataclass(frozen=True, slots=True)
class Ftruncate:
    file: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PunchHole:
    file: str
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SyncFileRange:
    file: str
    offset_bytes: int = 0
    length_bytes: int = 0
    wait: bool = False


@dataclass(frozen=True, slots=True)
class FadviseDontneed:
    file: str
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    signal: SignalKind
    process: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class UserfaultfdModes:
    missing: bool = False
    write_protect: bool = False


@dataclass(frozen=True, slots=True)
class UserfaultfdRegister:
    vma: str
    modes: UserfaultfdModes
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UserfaultfdCopy:
    vma: str


@dataclass(frozen=True, slots=True)
class UserfaultfdWriteprotect:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0
    resolve: bool = False


@dataclass(frozen=True, slots=True)
class UserfaultfdClose:
    pass


@dataclass(frozen=True, slots=True)
class Migrate:
    vma: str
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Barrier:
    name: str


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    steps: "tuple[Step, ...]"


@dataclass(frozen=True, slots=True)
class Loop:
    count: int
    steps: "tuple[Step, ...]"


# What changes the pages of a file, by name.
FileStep = Ftruncate | PunchHole | SyncFileRange | FadviseDontneed

# What is about a userfaultfd.
UserfaultfdStep = UserfaultfdRegister | UserfaultfdCopy | UserfaultfdWriteprotect | UserfaultfdClose
# What is about a range of a VMA, of which each thread can have its own.
RangeStep = Mprotect | Madvise | Mlock | Munlock | Mbind | Prctl | Khugepaged | NumaScan

# What looks at a whole process, its own or another one.
ProcessStep = ReadSmaps | ReadMaps | ClearRefs

Step = (
    Touch
    | Compute
    | Sleep
    | Mmap
    | Munmap
    | Mremap
    | Brk
    | RangeStep
    | ProcessStep
    | Fork
    | Exec
    | FileStep
    | UserfaultfdStep
    | Migrate
    | Kill
    | Barrier
    | Measure
    | Loop
)


@dataclass(frozen=True, slots=True)
class Scheduling:
    policy: SchedPolicy = SchedPolicy.OTHER
    nice: int = 0
    rt_priority: int = 0


@dataclass(frozen=True, slots=True)
class ThreadGroup:
    name: str
    threads: int
    program: tuple[Step, ...]
    daemon: bool = False
    scheduling: Scheduling = Scheduling()
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FileMapping:
    file: str
    offset_bytes: int = 0
    open: str = ""
    map_private: bool = False


@dataclass(frozen=True, slots=True)
class AnonymousMapping:
    pass


@dataclass(frozen=True, slots=True)
class HugetlbMapping:
    file: str = ""
    offset_bytes: int = 0
    map_private: bool = False
    no_reserve: bool = False


@dataclass(frozen=True, slots=True)
class ByteRange:
    offset_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Vma:
    name: str
    length_bytes: int
    backing: FileMapping | AnonymousMapping | HugetlbMapping
    address: int = 0
    protection: tuple[Protection, ...] = (Protection.READ,)
    advice: Advice = Advice.NORMAL
    mapped: tuple[ByteRange, ...] = ()
    swapped: tuple[ByteRange, ...] = ()
    grows_down_bytes: int = 0
    room: str = ""
    device_private: tuple[ByteRange, ...] = ()
    device_exclusive: tuple[ByteRange, ...] = ()
    numa_hinted: tuple[ByteRange, ...] = ()
    userfaultfd: UserfaultfdModes = UserfaultfdModes()
    room_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    name: str
    vmas: tuple[Vma, ...]
    groups: tuple[ThreadGroup, ...]
    memcg: str = ""
    oom_unkillable: bool = False


@dataclass(frozen=True, slots=True)
class FileRange:
    state: PageState
    offset_bytes: int = 0
    length_bytes: int = 0
    every_pages: int = 1


@dataclass(frozen=True, slots=True)
class File:
    name: str
    size_bytes: int
    device: str = ""
    initial: tuple[FileRange, ...] = ()
    kind: FileKind = FileKind.REGULAR
    bad: tuple[ByteRange, ...] = ()
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Memcg:
    name: str
    high_bytes: int = 0
    max_bytes: int = 0
    other_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    processes: tuple[Process, ...]
    files: tuple[File, ...] = ()
    memcgs: tuple[Memcg, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    latency: Duration | None = None
    channels: int = 1
    bandwidth_bytes_per_s: int = 0
    readahead_bytes: int = 131072
    write_latency: Duration | None = None
    error_ppm: int = 0
    stable_writes: bool = False
    kind: DeviceKind = DeviceKind.BLOCK
    iops_max: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    device: str
    size_bytes: int
    zswap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HugePages:
    page_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class Machine:
    arch: str
    cpus: int
    page_size_bytes: int = 4096
    profile: str = "neutral"
    costs_ns: dict[str, int] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    memory_bytes: int = 0
    swap: Swap | None = None
    huge_pages: HugePages | None = None
    cpus_per_cache: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    generation: str = "6.12"
    policy: str | RetryPolicy = "mainline"
    hz: int = 250
    fault_around_bytes: int = 65536
    dirty_bytes: int = 0
    dirty_background_bytes: int = 0
    lru: LruKind = LruKind.CLASSIC
    lru_gen_enabled: int = 7
    swappiness: int = 60
    page_cluster: int = 3
    fork_skips: ForkSkips = ForkSkips.NOTHING
    madvise_vma_lock: bool = False
    preemption: Preemption = Preemption.VOLUNTARY
    base_slice_ns: int = 0
    wakeup_preemption: bool = True


@dataclass(frozen=True, slots=True)
class Recording:
    kind: RecordingKind = RecordingKind.ALL
    sample_every: int = 1
    slower_than_ns: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    workload: Workload
    machine: Machine
    kernel: Kernel
    horizon_ns: int
    seed: int = 0
    warmup_ns: int = 0
    recording: Recording = Recording()
    attempts_max: int = 65536
