"""A scenario is checked once, completely, and filled in."""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane import v1 as pb
from faultlane_server.codes import (
    Access,
    Advice,
    FileKind,
    Madvice,
    PageState,
    Protection,
    RecordingKind,
    SignalKind,
)
from faultlane_server.kernels import KERNELS
from faultlane_server.policy import POLICIES
from faultlane_server.scenario import (
    AnonymousMapping,
    Barrier,
    Brk,
    ByteRange,
    Compute,
    Device,
    Exec,
    Explicit,
    Exponential,
    File,
    FileMapping,
    FileRange,
    Fixed,
    Ftruncate,
    HugePages,
    HugetlbMapping,
    InvalidScenario,
    Kernel,
    Kill,
    LogNormal,
    Loop,
    Machine,
    Madvise,
    Mbind,
    Measure,
    Migrate,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Prctl,
    Process,
    PunchHole,
    Quantile,
    Quantiles,
    ReadSmaps,
    Recording,
    Scenario,
    Sequential,
    Sleep,
    Step,
    Stride,
    Swap,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    Zipf,
    check,
)
from tests.a_scenario import a_scenario

PAGE = 4096

TOUCH = Touch("data", Uniform())
FILE = File("data", 16 * PAGE, "disk")
VMA = Vma("data", 16 * PAGE, FileMapping("data"))
HEAP = Vma("heap", 8 * PAGE, AnonymousMapping())
GROUP = ThreadGroup("readers", 4, (TOUCH,))
DEVICE = Device("disk", Fixed(1000))


def plain(
    *program: Step,
    threads: int = 4,
    vmas: tuple[Vma, ...] = (VMA, HEAP),
    files: tuple[File, ...] = (FILE,),
    groups: tuple[ThreadGroup, ...] | None = None,
    devices: tuple[Device, ...] = (DEVICE,),
    machine: Machine | None = None,
    kernel: Kernel | None = None,
    **rest: Any,
) -> Scenario:
    """Return an unchecked scenario of one process."""
    chosen = groups or (ThreadGroup("readers", threads, program or (TOUCH,)),)
    return Scenario(
        workload=Workload((Process("app", vmas, chosen),), files),
        machine=machine or Machine("x86", 2, devices=devices),
        kernel=kernel or Kernel(),
        **({"horizon_ns": 10**9} | rest),
    )


def touching(**values: Any) -> Scenario:
    return plain(replace(TOUCH, **values))


def quantiles(*points: tuple[int, int]) -> Scenario:
    return plain(Sleep(Quantiles(tuple(Quantile(*point) for point in points))))


def nested(depth: int) -> Step:
    step: Step = TOUCH
    for _ in range(depth):
        step = Loop(2, (step,))
    return step


def file_of(pages: int, *initial: FileRange) -> File:
    return File("data", pages * PAGE, "disk", initial)


HUGE = 2**21
HUGE_VMA = Vma("huge", 4 * HUGE, HugetlbMapping())
HUGE_FILE = File("huge", 8 * HUGE, kind=FileKind.HUGETLB)
HUGE_PLACE = "workload.processes[0].vmas[1]"


def huge(
    *program: Step,
    vma: Vma = HUGE_VMA,
    file: File = HUGE_FILE,
    size: int = HUGE,
    count: int = 8,
    swap: bool = False,
) -> Scenario:
    """Return an unchecked scenario with a VMA of huge pages, and a file of them."""
    machine = Machine(
        "x86",
        2,
        devices=(DEVICE,),
        huge_pages=HugePages(size, count),
        swap=Swap("disk", 2**30) if swap else None,
    )
    files, vmas = (FILE, file), (VMA, vma, HEAP)
    return plain(*program, threads=1, vmas=vmas, files=files, machine=machine)


PROCESS = "workload.processes[0]"
STEP = f"{PROCESS}.groups[0].program[0]"
ELSEWHERE = Vma("else", PAGE, AnonymousMapping())

# The scenario, and the one field that is wrong with it.
BROKEN: list[tuple[str, Scenario, str]] = [
    # the run
    ("no horizon", plain(horizon_ns=0), "horizon_ns"),
    ("a horizon too far", plain(horizon_ns=10**15 + 1), "horizon_ns"),
    ("a warm-up to the end", plain(warmup_ns=10**9), "warmup_ns"),
    ("a seed of 65 bits", plain(seed=2**64), "seed"),
    ("attempts beyond 31 bits", plain(attempts_max=2**31), "attempts_max"),
    ("no rate", plain(recording=Recording(RecordingKind.SAMPLED, 0)), "recording.sample_every"),
    ("no kind", plain(recording=Recording(9)), "recording.kind"),  # type: ignore[arg-type]
    # the machine
    ("no architecture", plain(machine=Machine("", 2, devices=(DEVICE,))), "machine.arch"),
    ("not its page", plain(machine=Machine("x86", 2, 16384, devices=(DEVICE,))),
     "machine.page_size_bytes"),
    ("no CPU", plain(machine=Machine("x86", 0, devices=(DEVICE,))), "machine.cpus"),
    ("a cache for more CPUs than there are",
     plain(machine=Machine("x86", 2, devices=(DEVICE,), cpus_per_cache=3)),
     "machine.cpus_per_cache"),
    ("513 CPUs", plain(machine=Machine("x86", 513, devices=(DEVICE,))), "machine.cpus"),
    ("no such profile", plain(machine=Machine("x86", 2, profile="fast", devices=(DEVICE,))),
     "machine.profile"),
    ("no such cost", plain(machine=Machine("x86", 2, costs_ns={"trip": 1}, devices=(DEVICE,))),
     "machine.costs_ns"),
    ("a cost of seconds",
     plain(machine=Machine("x86", 2, costs_ns={"trap": 10**9 + 1}, devices=(DEVICE,))),
     "machine.costs_ns.trap"),
    ("65 devices", plain(devices=(DEVICE, *(Device(f"d{n}", Fixed(1)) for n in range(64)))),
     "machine.devices"),
    ("a device twice", plain(devices=(DEVICE, DEVICE)), "machine.devices[1].name"),
    ("a device with a space", plain(devices=(DEVICE, Device("a b", Fixed(1)))),
     "machine.devices[1].name"),
    ("channels", plain(devices=(replace(DEVICE, channels=4097),)), "machine.devices[0].channels"),
    ("bandwidth", plain(devices=(replace(DEVICE, bandwidth_bytes_per_s=2**63),)),
     "machine.devices[0].bandwidth_bytes_per_s"),
    ("readahead", plain(devices=(replace(DEVICE, readahead_bytes=2**25),)),
     "machine.devices[0].readahead_bytes"),
    ("a latency of an hour", plain(devices=(Device("disk", Fixed(3600 * 10**9)),)),
     "machine.devices[0].latency.fixed_ns"),
    # the kernel
    ("generation", plain(kernel=Kernel(generation="6.1")), "kernel.generation"),
    ("policy", plain(kernel=Kernel(policy="main")), "kernel.policy_id"),
    ("hz", plain(kernel=Kernel(hz=60)), "kernel.hz"),
    ("half a page around", plain(kernel=Kernel(fault_around_bytes=2048)),
     "kernel.fault_around_bytes"),
    ("three pages around", plain(kernel=Kernel(fault_around_bytes=3 * PAGE)),
     "kernel.fault_around_bytes"),
    # durations
    ("exponential of nothing", plain(Sleep(Exponential(0))),
     f"{STEP}.sleep.duration.exponential_mean_ns"),
    ("median of nothing", plain(Compute(LogNormal(0, 5))),
     f"{STEP}.compute.duration.log_normal.median_ns"),
    ("a wide sigma", plain(Compute(LogNormal(5, 4_000_001))),
     f"{STEP}.compute.duration.log_normal.sigma_ppm"),
    ("one quantile", quantiles((0, 5)), f"{STEP}.sleep.duration.quantiles.points"),
    ("no lowest quantile", quantiles((1, 5), (1_000_000, 6)),
     f"{STEP}.sleep.duration.quantiles.points[0].ppm"),
    ("no highest quantile", quantiles((0, 5), (999_999, 6)),
     f"{STEP}.sleep.duration.quantiles.points[1].ppm"),
    ("a quantile twice", quantiles((0, 5), (7, 5), (7, 6), (1_000_000, 6)),
     f"{STEP}.sleep.duration.quantiles.points[2].ppm"),
    ("quantiles that fall", quantiles((0, 5), (1_000_000, 4)),
     f"{STEP}.sleep.duration.quantiles.points[1].ns"),
    # files
    ("an empty file", plain(files=(FILE, File("none", 0, "disk"))), "workload.files[1].size_bytes"),
    ("a file twice", plain(files=(FILE, FILE)), "workload.files[1].name"),
    ("a file without a name", plain(files=(FILE, File("", 1, "disk"))), "workload.files[1].name"),
    ("a file on no device", plain(files=(replace(FILE, device="disc"),)),
     "workload.files[0].device"),
    ("a range within a page", plain(files=(file_of(16, FileRange(PageState.CACHED, 100)),)),
     "workload.files[0].initial[0].offset_bytes"),
    ("a range past the end", plain(files=(file_of(16, FileRange(PageState.CACHED, 16 * PAGE)),)),
     "workload.files[0].initial[0].offset_bytes"),
    ("a range too long",
     plain(files=(file_of(16, FileRange(PageState.CACHED, PAGE, 16 * PAGE)),)),
     "workload.files[0].initial[0].length_bytes"),
    ("no state", plain(files=(file_of(16, FileRange(0)),)),  # type: ignore[arg-type]
     "workload.files[0].initial[0].state"),
    ("too many pages", plain(files=(FILE, File("huge", 2**36, "disk"))), "workload"),
    # processes and VMAs
    ("no process", replace(plain(), workload=Workload(())), "workload.processes"),
    ("a process twice",
     replace(plain(), workload=Workload(2 * plain().workload.processes, (FILE,))),
     "workload.processes[1].name"),
    ("a VMA twice", plain(vmas=(VMA, VMA)), f"{PROCESS}.vmas[1].name"),
    ("a VMA of no page", plain(vmas=(VMA, replace(HEAP, length_bytes=0))),
     f"{PROCESS}.vmas[1].length_bytes"),
    ("a VMA of half a page", plain(vmas=(VMA, replace(HEAP, length_bytes=2048))),
     f"{PROCESS}.vmas[1].length_bytes"),
    ("an address within a page", plain(vmas=(VMA, replace(HEAP, address=5))),
     f"{PROCESS}.vmas[1].address"),
    ("an address too high", plain(vmas=(VMA, replace(HEAP, address=2**47 - PAGE))),
     f"{PROCESS}.vmas[1].address"),
    ("VMAs on top of each other",
     plain(vmas=(replace(VMA, address=2**20), replace(HEAP, address=2**20 + 15 * PAGE))),
     f"{PROCESS}.vmas[1].address"),
    ("a VMA around another",
     plain(vmas=(replace(VMA, address=2**20), replace(HEAP, address=2**21),
                 replace(ELSEWHERE, address=2**20 + PAGE))),
     f"{PROCESS}.vmas[2].address"),
    ("no such file", plain(vmas=(replace(VMA, backing=FileMapping("date")),)),
     f"{PROCESS}.vmas[0].file.file"),
    ("a mapping within a page", plain(vmas=(replace(VMA, backing=FileMapping("data", 7)),)),
     f"{PROCESS}.vmas[0].file.offset_bytes"),
    ("a mapping past its file", plain(vmas=(replace(VMA, backing=FileMapping("data", PAGE)),)),
     f"{PROCESS}.vmas[0].length_bytes"),
    ("a mapping behind its file",
     plain(vmas=(replace(VMA, backing=FileMapping("data", 16 * PAGE)),)),
     f"{PROCESS}.vmas[0].file.offset_bytes"),
    ("a long open", plain(vmas=(replace(VMA, backing=FileMapping("data", 0, "x" * 129)),)),
     f"{PROCESS}.vmas[0].file.open"),
    ("a right twice", plain(vmas=(replace(VMA, protection=(Protection.READ, Protection.READ)),)),
     f"{PROCESS}.vmas[0].protection[1]"),
    ("no such advice", plain(vmas=(replace(VMA, advice=7),)),  # type: ignore[arg-type]
     f"{PROCESS}.vmas[0].advice"),
    ("mapped, but not cached", plain(vmas=(replace(VMA, mapped=(ByteRange(),)),)),
     f"{PROCESS}.vmas[0].mapped[0]"),
    ("mapped, but every second not cached",
     plain(files=(file_of(16, FileRange(PageState.CACHED, every_pages=2)),),
           vmas=(replace(VMA, mapped=(ByteRange(0, PAGE), ByteRange(0, 2 * PAGE))),)),
     f"{PROCESS}.vmas[0].mapped[1]"),
    ("mapped past the end", plain(vmas=(replace(VMA, mapped=(ByteRange(0, 17 * PAGE),)),)),
     f"{PROCESS}.vmas[0].mapped[0].length_bytes"),
    ("anonymous memory mapped past its end",
     plain(vmas=(VMA, replace(HEAP, mapped=(ByteRange(0, 9 * PAGE),)))),
     f"{PROCESS}.vmas[1].mapped[0].length_bytes"),
    # groups and threads
    ("no group", replace(plain(), workload=Workload((Process("app", (VMA,), ()),), (FILE,))),
     f"{PROCESS}.groups"),
    ("a group twice", plain(groups=(GROUP, GROUP)), f"{PROCESS}.groups[1].name"),
    ("no thread", plain(threads=0), f"{PROCESS}.groups[0].threads"),
    ("too many threads in all", plain(groups=(GROUP, ThreadGroup("more", 65533, (TOUCH,)))),
     "workload.processes"),
    ("no step", plain(groups=(ThreadGroup("idle", 1, ()),)), f"{PROCESS}.groups[0].program"),
    ("too many steps", plain(*[Barrier("b")] * 65537), "workload.processes"),
    # touches
    ("no such VMA", touching(vma="dada"), f"{STEP}.touch.vma"),
    ("memory of an mmap that is gone",
     plain(Mmap("mine", PAGE), Munmap("mine"), Touch("mine", Uniform())),
     f"{PROCESS}.groups[0].program[2].touch.vma"),
    ("past the end of an mmap",
     plain(Mmap("mine", PAGE), Touch("mine", Uniform(), length_bytes=2 * PAGE), Munmap("mine")),
     f"{PROCESS}.groups[0].program[1].touch.length_bytes"),
    ("a list past the end of an mmap",
     plain(Mmap("mine", PAGE), Touch("mine", Explicit((0, 1))), Munmap("mine")),
     f"{PROCESS}.groups[0].program[1].touch.explicit.page_deltas[1]"),
    ("a part within a page", touching(offset_bytes=100), f"{STEP}.touch.offset_bytes"),
    ("a part past the end", touching(offset_bytes=PAGE, length_bytes=16 * PAGE),
     f"{STEP}.touch.length_bytes"),
    ("touches beyond 63 bits", touching(count=2**61 + 1), f"{STEP}.touch.count"),
    ("no such access", touching(access=7), f"{STEP}.touch.access"),
    ("less pages than threads", touching(pattern=Sequential(True), length_bytes=3 * PAGE),
     f"{STEP}.touch.length_bytes"),
    ("theta of nothing", touching(pattern=Zipf(0)), f"{STEP}.touch.zipf.theta_ppm"),
    ("a stride of nothing", touching(pattern=Stride(0)), f"{STEP}.touch.stride.stride_bytes"),
    ("a start within a page", touching(pattern=Stride(PAGE, 5)),
     f"{STEP}.touch.stride.thread_offset_bytes"),
    ("an empty list", touching(pattern=Explicit(())), f"{STEP}.touch.explicit.page_deltas"),
    ("a long list", touching(pattern=Explicit((0,) * 262145)),
     f"{STEP}.touch.explicit.page_deltas"),
    ("a page past the end", touching(pattern=Explicit((15, 1))),
     f"{STEP}.touch.explicit.page_deltas[1]"),
    ("a page before the start", touching(pattern=Explicit((0, -1))),
     f"{STEP}.touch.explicit.page_deltas[1]"),
    ("a slice for three", touching(pattern=Explicit((0,) * 7, 2)), f"{STEP}.touch.explicit.slice"),
    ("a part of a list", touching(pattern=Explicit((0,)), offset_bytes=PAGE),
     f"{STEP}.touch.offset_bytes"),
    # operations
    ("an mmap of nothing", plain(Mmap("mine", 0)), f"{STEP}.mmap.length_bytes"),
    ("an mmap of more than a GiB", plain(Mmap("mine", 2**30 + PAGE)), f"{STEP}.mmap.length_bytes"),
    ("an mmap with the name of a VMA", plain(Mmap("heap", PAGE)), f"{STEP}.mmap.name"),
    ("an mmap twice", plain(Mmap("mine", PAGE), Mmap("mine", PAGE)),
     f"{PROCESS}.groups[0].program[1].mmap.name"),
    ("an mmap in a loop", plain(Loop(2, (Mmap("mine", PAGE),))), f"{STEP}.loop.steps"),
    ("a munmap in a loop", plain(Mmap("mine", PAGE), Loop(2, (Munmap("mine"),))),
     f"{PROCESS}.groups[0].program[1].loop.steps"),
    ("a munmap before its mmap", plain(Munmap("mine"), Mmap("mine", PAGE)), f"{STEP}.munmap.vma"),
    ("a munmap past the end", plain(Munmap("heap", PAGE, 8 * PAGE)),
     f"{STEP}.munmap.length_bytes"),
    ("a munmap from the middle", plain(Mmap("mine", 2 * PAGE), Munmap("mine", PAGE)),
     f"{PROCESS}.groups[0].program[1].munmap.offset_bytes"),
    ("a munmap of a half", plain(Mmap("mine", 2 * PAGE), Munmap("mine", 0, PAGE)),
     f"{PROCESS}.groups[0].program[1].munmap.length_bytes"),
    ("an mprotect of an mmap", plain(Mmap("mine", PAGE), Mprotect("mine")),
     f"{PROCESS}.groups[0].program[1].mprotect.vma"),
    ("an mprotect past the end", plain(Mprotect("heap", 8 * PAGE)),
     f"{STEP}.mprotect.offset_bytes"),
    ("an mprotect past the end by the last thread",
     plain(Mprotect("heap", 0, 2 * PAGE, thread_offset_bytes=3 * PAGE)),
     f"{STEP}.mprotect.thread_offset_bytes"),
    ("a right twice in an mprotect", plain(Mprotect("heap", protection=(Protection.READ,) * 2)),
     f"{STEP}.mprotect.protection[1]"),
    ("an mmap of no such file", plain(Mmap("mine", PAGE, file=FileMapping("none"))),
     f"{STEP}.mmap.file.file"),
    ("an mmap past the end of its file",
     plain(Mmap("mine", 2 * PAGE, file=FileMapping("data", 15 * PAGE))),
     f"{STEP}.mmap.length_bytes"),
    ("an mmap of a file that merges", plain(Mmap("mine", PAGE, True, FileMapping("data"))),
     f"{STEP}.mmap.merge"),
    ("files of their own for more threads than there are",
     plain(Mmap("mine", PAGE, file=FileMapping("data"), own_file=True), threads=2),
     f"{STEP}.mmap.own_file"),
    ("a file of its own for memory", plain(Mmap("mine", PAGE, own_file=True)),
     f"{STEP}.mmap.own_file"),
    ("an mmap over nothing", plain(Mmap("", PAGE, over="none")), f"{STEP}.mmap.over"),
    ("an mmap over a VMA with a name", plain(Mmap("mine", PAGE, over="heap")), f"{STEP}.mmap.name"),
    ("an mmap over more than a VMA", plain(Mmap("", 9 * PAGE, over="heap")),
     f"{STEP}.mmap.length_bytes"),
    ("an offset over nothing", plain(Mmap("mine", PAGE, over_offset_bytes=PAGE)),
     f"{STEP}.mmap.over_offset_bytes"),
    ("an mremap past the room", plain(Mremap("heap", 9 * PAGE)), f"{STEP}.mremap.length_bytes"),
    ("an mremap of nothing", plain(Mremap("none")), f"{STEP}.mremap.vma"),
    ("an mremap past the end of a file",
     plain(Mmap("mine", PAGE, file=FileMapping("data", 15 * PAGE)), Mremap("mine", 2 * PAGE)),
     f"{PROCESS}.groups[0].program[1].mremap.length_bytes"),
    ("a brk of a file", plain(Brk("data", PAGE)), f"{STEP}.brk.vma"),
    ("a brk past the room", plain(Brk("heap", 9 * PAGE)), f"{STEP}.brk.length_bytes"),
    ("room past the end of a file", plain(vmas=(replace(VMA, room_bytes=PAGE), HEAP)),
     f"{PROCESS}.vmas[0].room_bytes"),
    ("no such policy", plain(Mbind("heap", policy=65536)), f"{STEP}.mbind.policy"),
    ("a long name", plain(Prctl("heap", name="n" * 81)), f"{STEP}.prctl.name"),
    ("an mlock past the end", plain(Mlock("heap", 8 * PAGE)), f"{STEP}.mlock.offset_bytes"),
    ("smaps of nobody", plain(ReadSmaps("nobody")), f"{STEP}.read_smaps.process"),
    ("an exec among threads", plain(Exec(), threads=2), f"{STEP}.exec"),
    ("no copy of a file", plain(files=(replace(file_of(16), copies=-1),)),
     "workload.files[0].copies"),
    ("mmaps of too many pages", plain(Mmap("mine", 2**30), threads=64), "workload"),
    ("too many VMAs to split off", plain(*[Mprotect("heap", PAGE, PAGE)] * 17, threads=4096),
     "workload.processes"),
    ("states for the same pages again and again",
     plain(files=(file_of(2**23, *[FileRange(PageState.CACHED)] * 33),)), "workload"),
    ("bad pages again and again",
     plain(files=(replace(file_of(2**23), bad=(ByteRange(),) * 33),)), "workload"),
    ("zipf laws over too many pages",
     plain(Touch("big", Zipf(5)), Touch("big", Zipf(6)), files=(file_of(2**21 + 1),),
           vmas=(replace(VMA, name="big", length_bytes=(2**21 + 1) * PAGE),)),
     "workload.processes"),
    ("too long lists in all", plain(*[Touch("data", Explicit((0,) * 262144))] * 33),
     "workload.processes"),
    ("too many walks in all", plain(*[Touch("data", Sequential())] * 65, threads=65536),
     "workload.processes"),
    # huge pages
    ("huge pages without a pool", plain(vmas=(VMA, HUGE_VMA, HEAP)), f"{HUGE_PLACE}.hugetlb"),
    ("a pool of pages that are no power of two", huge(size=3 * PAGE),
     "machine.huge_pages.page_bytes"),
    ("a pool of small pages", huge(size=PAGE), "machine.huge_pages.page_bytes"),
    ("a pool of huger pages", huge(size=2**31), "machine.huge_pages.page_bytes"),
    ("an empty pool", huge(count=0), "machine.huge_pages.count"),
    ("a pool that has less than was reserved", huge(count=3), "machine.huge_pages.count"),
    ("a pool that has less than is there and was reserved",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("huge")), count=4,
          file=replace(HUGE_FILE, initial=(FileRange(PageState.CACHED, 4 * HUGE, HUGE),))),
     "machine.huge_pages.count"),
    ("half a huge page", huge(vma=replace(HUGE_VMA, length_bytes=HUGE + PAGE)),
     f"{HUGE_PLACE}.length_bytes"),
    ("a place between huge pages", huge(vma=replace(HUGE_VMA, address=2**32 + PAGE)),
     f"{HUGE_PLACE}.address"),
    ("huge pages of a file of small ones",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("data"))),
     f"{HUGE_PLACE}.hugetlb.file"),
    ("small pages of a file of huge ones",
     huge(vma=replace(HUGE_VMA, backing=FileMapping("huge"))), f"{HUGE_PLACE}.file.file"),
    ("huge pages past the end of their file",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("huge", 6 * HUGE))),
     f"{HUGE_PLACE}.length_bytes"),
    ("huge pages from the middle of one",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("huge", PAGE))),
     f"{HUGE_PLACE}.hugetlb.offset_bytes"),
    ("an offset in no file", huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("", HUGE))),
     f"{HUGE_PLACE}.hugetlb.offset_bytes"),
    ("a private mapping of no file",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping(map_private=True))),
     f"{HUGE_PLACE}.hugetlb.map_private"),
    ("huge pages in swap", huge(vma=replace(HUGE_VMA, swapped=(ByteRange(),)), swap=True),
     f"{HUGE_PLACE}.swapped"),
    ("room behind huge pages", huge(vma=replace(HUGE_VMA, room_bytes=HUGE)),
     f"{HUGE_PLACE}.room_bytes"),
    ("mapped huge pages that are not there",
     huge(vma=replace(HUGE_VMA, backing=HugetlbMapping("huge"), mapped=(ByteRange(0, HUGE),))),
     f"{HUGE_PLACE}.mapped[0]"),
    ("a file of half a huge page", huge(file=replace(HUGE_FILE, size_bytes=PAGE)),
     "workload.files[1].size_bytes"),
    ("a file of dirty huge pages",
     huge(file=replace(HUGE_FILE, initial=(FileRange(PageState.DIRTY),))),
     "workload.files[1].initial[0].state"),
    ("copies of a file of huge pages", huge(file=replace(HUGE_FILE, copies=2)),
     "workload.files[1].copies"),
    ("a touch of a small page of a huge one", huge(Touch("huge", Uniform(), offset_bytes=PAGE)),
     f"{STEP}.touch.offset_bytes"),
    ("a huge page that there is not", huge(Touch("huge", Explicit((4,)))),
     f"{STEP}.touch.explicit.page_deltas[0]"),
    ("a stride of small pages", huge(Touch("huge", Stride(PAGE))),
     f"{STEP}.touch.stride.stride_bytes"),
    ("a munmap of a small page of a huge one", huge(Munmap("huge", PAGE)),
     f"{STEP}.munmap.offset_bytes"),
    ("an mprotect of a small page of a huge one", huge(Mprotect("huge", 0, PAGE)),
     f"{STEP}.mprotect.length_bytes"),
    ("advice that hugetlb does not take", huge(Madvise("huge", Madvice.PAGEOUT)),
     f"{STEP}.madvise.advice"),
    ("an mlock of huge pages", huge(Mlock("huge")), f"{STEP}.mlock.vma"),
    ("an mremap of huge pages", huge(Mremap("huge")), f"{STEP}.mremap.vma"),
    ("a migration of huge pages", huge(Migrate("huge")), f"{STEP}.migrate.vma"),
    ("a brk of huge pages", huge(Brk("huge", HUGE)), f"{STEP}.brk.vma"),
    ("an mmap over huge pages", huge(Mmap("", PAGE, over="huge")), f"{STEP}.mmap.over"),
    ("an mmap of half a huge page", huge(Mmap("mine", PAGE, hugetlb=HugetlbMapping())),
     f"{STEP}.mmap.length_bytes"),
    ("an mmap of huge pages and a file",
     huge(Mmap("mine", HUGE, file=FileMapping("data"), hugetlb=HugetlbMapping())),
     f"{STEP}.mmap.file"),
    ("an mmap of huge pages that merges",
     huge(Mmap("mine", HUGE, merge=True, hugetlb=HugetlbMapping())), f"{STEP}.mmap.merge"),
    ("a name for huge pages and for small ones",
     huge(Mmap("mine", HUGE, hugetlb=HugetlbMapping()), Munmap("mine"), Mmap("mine", HUGE)),
     f"{PROCESS}.groups[0].program[2].mmap.name"),
    ("a hole in a file of huge pages", huge(PunchHole("huge")), f"{STEP}.punch_hole.file"),
    # blocks
    ("a barrier without a name", plain(Barrier("")), f"{STEP}.barrier.name"),
    ("a measure without a name", plain(Measure("", (TOUCH,))), f"{STEP}.measure.name"),
    ("17 sections", plain(*(Measure(f"m{n}", (TOUCH,)) for n in range(17))), "workload.processes"),
    ("an empty loop", plain(Loop(0, ())), f"{STEP}.loop.steps"),
    ("an empty measure", plain(Measure("m", ())), f"{STEP}.measure.steps"),
    ("a loop of less than nothing", plain(Loop(-1, (TOUCH,))), f"{STEP}.loop.count"),
    ("a loop without end or time", plain(Loop(0, (Barrier("b"), Sleep(Fixed(0))))),
     f"{STEP}.loop.steps"),
    ("touches that cost nothing, without end",
     plain(Loop(0, (TOUCH,)),
           machine=Machine("x86", 2, costs_ns={"touch": 0}, devices=(DEVICE,))),
     f"{STEP}.loop.steps"),
    ("a loop of no time, very often", plain(Loop(300, (Loop(300, (Barrier("b"),)),))),
     f"{STEP}.loop.count"),
    ("nine loops in each other", plain(nested(9)), f"{STEP}{'.loop.steps[0]' * 8}.loop"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scenario", "field"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_the_one_field_that_makes_no_sense_is_named(scenario, field):
    with pytest.raises(InvalidScenario) as error:
        check(scenario)

    assert [violation.field for violation in error.value.violations] == [field]


@pytest.mark.parametrize("field", sorted({row[2] for row in BROKEN}))
def test_a_field_is_named_as_on_the_wire(field):
    descriptor: Any = pb.Scenario.DESCRIPTOR
    for name in re.sub(r"\[\d+\]", "", field).split("."):
        descriptor = descriptor.fields_by_name[name].message_type
        if descriptor and descriptor.GetOptions().map_entry:
            break  # the rest is a key


def test_all_that_is_wrong_is_said_at_once():
    broken = plain(
        replace(TOUCH, vma="dada", count=-1),
        threads=0,
        devices=(replace(DEVICE, channels=5000),),
        kernel=Kernel(policy="main"),
        horizon_ns=0,
    )

    with pytest.raises(InvalidScenario) as error:
        check(broken)

    assert {violation.field for violation in error.value.violations} == {
        "kernel.policy_id",
        "horizon_ns",
        "machine.devices[0].channels",
        f"{PROCESS}.groups[0].threads",
        f"{STEP}.touch.vma",
        f"{STEP}.touch.count",
    }


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        (
            plain(kernel=Kernel(policy="mainlin")),
            "never_drop, relock, relock_blocking, split_by_kind (did you mean mainline?),"
            " got 'mainlin'",
        ),
        (
            plain(machine=Machine("amd64", 2, devices=(DEVICE,))),
            "machine.arch: want one of arm, arm64, loongarch, powerpc, riscv, s390, x86"
            " (did you mean arm64?), got 'amd64'",
        ),
        (
            plain(
                machine=Machine("loongarch", 2, devices=(DEVICE,)),
                kernel=Kernel(generation="6.12", policy="rfc"),
            ),
            "kernel.generation: want 6.18 or later, since when loongarch has the VMA lock,"
            " or policy mainline, got '6.12'",
        ),
        (
            plain(machine=Machine("x86", 2, costs_ns={"reatry": 1}, devices=(DEVICE,))),
            "(did you mean retry?), got 'reatry'",
        ),
        (
            plain(horizon_ns=0),
            "horizon_ns: want 1 to 1000000000000000, got 0",
        ),
    ],
    ids=["policy", "architecture", "combination", "cost", "number"],
)
def test_a_violation_says_what_there_is_and_what_may_have_been_meant(scenario, text):
    with pytest.raises(InvalidScenario) as error:
        check(scenario)

    assert text in str(error.value)


def test_the_text_of_an_error_stays_readable():
    with pytest.raises(InvalidScenario) as error:
        check(plain(*[Touch("none", Uniform())] * 1000))

    assert len(error.value.violations) == 1000
    assert str(error.value).endswith("; and 980 more")


def test_what_is_left_out_is_filled_in():
    filled = check(
        plain(
            TOUCH,
            Touch("data", Explicit((1, 1, 1))),
            Touch("data", Explicit((1, 1, 1, 0), 1)),
            Munmap("heap", PAGE),
            Mprotect("heap", PAGE),
            Mmap("mine", 3 * PAGE),
            Munmap("mine"),
            files=(File("data", 15 * PAGE + 1, "disk", (FileRange(PageState.CACHED, PAGE),)),),
            vmas=(
                replace(VMA, protection=(), advice=0, mapped=(ByteRange(PAGE),)),  # type: ignore[arg-type]
                HEAP,
            ),
            machine=Machine("arm64", 2, 0, "", devices=(Device("disk", Fixed(0), 0, 0, 10_000),)),
            kernel=Kernel("", "", 0),
            attempts_max=0,
        )
    )
    (process,), (file,) = filled.workload.processes, filled.workload.files
    one, whole, slice_of_one, munmap, mprotect, _, all_of_it = process.groups[0].program

    assert filled.machine == Machine(
        "arm64", 2, 4096, "neutral", devices=(Device("disk", Fixed(0), 1, 0, 8192),)
    )
    assert filled.kernel == Kernel("6.12", "mainline", 250, base_slice_ns=1_500_000)
    assert filled.attempts_max == 65536
    assert file.initial == (FileRange(PageState.CACHED, PAGE, 15 * PAGE, 1),)
    assert process.vmas[0] == replace(VMA, mapped=(ByteRange(PAGE, 15 * PAGE),))
    assert one == replace(TOUCH, count=1, length_bytes=16 * PAGE)
    assert whole == Touch("data", Explicit((1, 1, 1)), count=3)
    assert slice_of_one == Touch("data", Explicit((1, 1, 1, 0), 1), count=1)
    assert munmap == Munmap("heap", PAGE, 7 * PAGE)
    assert mprotect == Mprotect("heap", PAGE, 7 * PAGE)
    assert all_of_it == Munmap("mine", 0, 3 * PAGE)


def refused(kernel: Kernel) -> bool:
    try:
        check(plain(kernel=kernel))
    except InvalidScenario:
        return True
    return False


@pytest.mark.parametrize("generation", KERNELS)
def test_a_policy_by_its_columns_is_accepted_where_its_id_is(generation):
    for name, policy in POLICIES.items():
        by_id, by_columns = Kernel(generation, name), Kernel(generation, policy.columns)
        assert refused(by_columns) == refused(by_id)


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        (
            plain(files=(File("data", 16 * PAGE, "", (FileRange(PageState.DIRTY),),
                              FileKind.TMPFS),)),
            "workload.files[0].initial[0].state: want ABSENT, CACHED or SWAPPED for a file that no"
            " device has, got 'DIRTY'",
        ),
        (
            plain(files=(file_of(16, FileRange(PageState.NOT_UPTODATE)),),
                  vmas=(replace(VMA, mapped=(ByteRange(PAGE),)),)),
            f"{PROCESS}.vmas[0].mapped[0]: want pages in the page cache, up to date,"
            " got 'page 1 of file data'",
        ),
        (
            plain(Kill(SignalKind.HANDLED, group="raeders")),
            f"{STEP}.kill.group: want one of readers (did you mean readers?), got 'raeders'",
        ),
        (
            plain(PunchHole("data", 16 * PAGE)),
            f"{STEP}.punch_hole.offset_bytes: want less than 65536, got 65536",
        ),
        (
            plain(Ftruncate("data", 16 * PAGE + 1)),
            f"{STEP}.ftruncate.size_bytes: want at most 65536, the size of the file at first,"
            " got 65537",
        ),
    ],
    ids=["state", "mapped", "group", "range", "size"],
)  # fmt: skip
def test_a_violation_of_the_newer_fields_reads_well(scenario, text):
    with pytest.raises(InvalidScenario) as error:
        check(scenario)

    assert str(error.value) == text


def test_what_the_kind_of_recording_does_not_use_is_the_same_for_all():
    assert check(plain(recording=Recording(RecordingKind.ALL, 7, 8))) == check(plain())


def test_a_filled_in_scenario_stays_as_it_is():
    filled = a_scenario(mappers=2, protectors=2)

    assert check(filled) == filled


@pytest.mark.parametrize(
    "program",
    [
        (Loop(1, (Mmap("mine", PAGE),)), Munmap("mine")),
        (Loop(0, (Mmap("mine", PAGE), Loop(3, (TOUCH,)), Munmap("mine"))),),
        (Mmap("mine", PAGE), Munmap("mine"), Mmap("mine", 2 * PAGE)),
        (Loop(100, (Barrier("b"),)),),
        (nested(8),),
    ],
    ids=["mmap in a loop of one", "pairs in a loop", "mmap again", "idle", "eight deep"],
)
def test_programs_that_only_look_wrong_are_let_through(program):
    check(plain(*program))


def touches() -> st.SearchStrategy[Step]:
    pages = st.integers(0, 15)
    patterns = st.one_of(
        st.builds(Sequential, st.booleans()),
        st.just(Uniform()),
        st.builds(Zipf, st.integers(1, 10_000_000)),
        st.builds(
            Stride, st.integers(1, 99).map(lambda n: n * PAGE), pages.map(lambda n: n * PAGE)
        ),
    )
    return st.builds(
        Touch,
        vma=st.just("data"),
        pattern=patterns,
        access=st.sampled_from(Access),
        count=st.integers(0, 10**9),
        offset_bytes=st.integers(0, 8).map(lambda n: n * PAGE),
        length_bytes=st.sampled_from([0, 4 * PAGE, 8 * PAGE]),
    )


def durations() -> st.SearchStrategy[Any]:
    ns = st.integers(1, 10**12)
    return st.one_of(
        st.builds(Fixed, ns),
        st.builds(Exponential, ns),
        st.builds(LogNormal, ns, st.integers(0, 4_000_000)),
        st.builds(
            lambda low, high: Quantiles(
                (Quantile(0, min(low, high)), Quantile(10**6, max(low, high)))
            ),
            ns,
            ns,
        ),
    )


def leaves() -> st.SearchStrategy[Step]:
    ranges = {
        "offset_bytes": st.sampled_from([0, PAGE]),
        "length_bytes": st.sampled_from([0, PAGE]),
    }
    return st.one_of(
        touches(),
        st.builds(Compute, durations()),
        st.builds(Sleep, durations()),
        st.builds(Munmap, st.sampled_from(["data", "heap"]), **ranges),
        st.builds(Mprotect, st.sampled_from(["data", "heap"]), **ranges),
        st.builds(Barrier, st.sampled_from(["a", "b"])),
    )


def steps() -> st.SearchStrategy[Step]:
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.builds(Measure, st.sampled_from("abc"), st.tuples(inner)),
            st.builds(lambda count, step: Loop(count, (step, TOUCH)), st.integers(0, 9), inner),
        ),
        max_leaves=6,
    )


@given(
    program=st.lists(steps(), min_size=1, max_size=5).map(tuple),
    threads=st.integers(1, 4),
    advice=st.sampled_from(Advice),
    latency=durations(),
)
def test_a_scenario_within_the_limits_is_let_through(program, threads, advice, latency):
    scenario = plain(
        *program,
        threads=threads,
        vmas=(replace(VMA, advice=advice), HEAP),
        devices=(Device("disk", latency),),
    )

    filled = check(scenario)

    assert check(filled) == filled


NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([4096, 2**31, 2**47, 2**63, 2**64, -(2**63), 10**15])
)
NAMES = st.sampled_from(["", "data", "heap", "disk", "x86", "neutral", "mainline", "6.12", "a b"])


def with_wrong_values(node: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Return the tree with some of its numbers and names replaced."""
    if is_dataclass(node) and not isinstance(node, type):
        return replace(
            node, **{f.name: with_wrong_values(getattr(node, f.name), draw) for f in fields(node)}
        )
    if isinstance(node, tuple):
        return tuple(with_wrong_values(item, draw) for item in node)
    if isinstance(node, dict):
        return {draw(NAMES): draw(NUMBERS)}
    if node is None or draw(st.integers(0, 5)):
        return node
    return draw(NAMES) if isinstance(node, str) else draw(NUMBERS)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_wrong_numbers_and_names_raise_nothing_else(data):
    right = plain(
        nested(2),
        Touch("data", Explicit((1, 2), 0)),
        Touch("data", Stride(PAGE)),
        Mmap("mine", PAGE, populate=True),
        Mremap("mine", 2 * PAGE, move=True),
        Munmap("mine"),
        Mmap("yours", PAGE, file=FileMapping("data", PAGE, "one"), own_file=True),
        Mmap("", PAGE, over="heap", over_offset_bytes=PAGE),
        Brk("heap", PAGE),
        Mlock("heap", PAGE),
        Mbind("heap", policy=2),
        Prctl("heap", name="arena"),
        ReadSmaps(),
        Munmap("data", PAGE, PAGE),
        Mprotect("heap", 0, PAGE, (Protection.READ,), PAGE),
        Sleep(Quantiles((Quantile(0, 1), Quantile(10**6, 2)))),
        Compute(LogNormal(5, 6)),
        files=(file_of(16, FileRange(PageState.CACHED)),),
        vmas=(replace(VMA, mapped=(ByteRange(),)), HEAP),
    )
    broken = with_wrong_values(right, data.draw)

    try:
        filled = check(broken)
    except InvalidScenario:
        return
    assert check(filled) == filled
