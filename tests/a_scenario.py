"""A small checked scenario: a test names what it is about and takes the rest from here."""

from dataclasses import replace

from faultlane_server.codes import Advice, PageState, Protection
from faultlane_server.scenario import (
    Device,
    Duration,
    Exponential,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Kernel,
    Loop,
    Machine,
    Measure,
    Mmap,
    Mprotect,
    Munmap,
    Pattern,
    Process,
    Recording,
    Scenario,
    Sleep,
    Step,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    check,
)


def a_scenario(
    *,
    readers: int = 4,
    reads: int = 50,
    pattern: Pattern | None = None,
    program: tuple[Step, ...] = (),
    mappers: int = 0,
    protectors: int = 0,
    writer_pause_ns: int = 50_000,
    file_pages: int = 1024,
    cached: bool = False,
    advice: Advice = Advice.NORMAL,
    arch: str = "x86",
    page_size_bytes: int = 4096,
    cpus: int = 2,
    costs_ns: dict[str, int] | None = None,
    latency: Duration | None = None,
    channels: int = 4,
    readahead_bytes: int = 131072,
    policy: str = "mainline",
    generation: str = "6.12",
    hz: int = 0,
    fault_around_bytes: int = 65536,
    recording: Recording | None = None,
    seed: int = 0,
    warmup_ns: int = 0,
    horizon_ns: int = 10**12,
) -> Scenario:
    """Make `readers` threads touch a file on a slow device, beside threads that change VMAs.

    Every reader runs `program`, or else touches the VMA `data` of the file `data` `reads` times.
    Each of the `mappers` maps and unmaps a page of its own, and each of the `protectors` allows
    writing to a page of `data` and forbids it again, until the readers have ended.
    """
    touches = (Touch("data", pattern or Uniform(), count=reads),)
    groups = [
        ThreadGroup("readers", readers, program or touches),
        ThreadGroup("mappers", mappers, _mapping(page_size_bytes, writer_pause_ns), daemon=True),
        ThreadGroup(
            "protectors", protectors, _protecting(page_size_bytes, writer_pause_ns), daemon=True
        ),
    ]
    length_bytes = file_pages * page_size_bytes
    data = Vma("data", length_bytes, FileMapping("data"), advice=advice)
    state = PageState.CACHED if cached else PageState.ABSENT
    scenario = Scenario(
        workload=Workload(
            files=(File("data", length_bytes, "disk", (FileRange(state),)),),
            processes=(Process("app", (data,), tuple(g for g in groups if g.threads)),),
        ),
        machine=Machine(
            arch,
            cpus,
            page_size_bytes,
            costs_ns=costs_ns or {},
            devices=(
                Device(
                    "disk",
                    latency or Exponential(100_000),
                    channels,
                    readahead_bytes=readahead_bytes,
                ),
            ),
        ),
        kernel=Kernel(generation, policy, hz, fault_around_bytes),
        horizon_ns=horizon_ns,
        seed=seed,
        warmup_ns=warmup_ns,
        recording=recording or Recording(),
    )
    return check(scenario)


def _mapping(page_bytes: int, pause_ns: int) -> tuple[Step, ...]:
    pair = Measure("map_unmap", (Mmap("scratch", page_bytes), Munmap("scratch")))
    return (Loop(0, (pair, Sleep(Fixed(pause_ns)))),)


def _protecting(page_bytes: int, pause_ns: int) -> tuple[Step, ...]:
    give = Mprotect("data", 0, page_bytes, (Protection.READ, Protection.WRITE), 2 * page_bytes)
    take = replace(give, protection=(Protection.READ,))
    return (Loop(0, (Measure("protect", (give, take)), Sleep(Fixed(pause_ns)))),)
