"""Memory that is short, made by dice: limits, swap, and somebody who needs much of it.

It is put over a scenario that was made without, so that this one stays what it was.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from faultlane_server.codes import (
    Access,
    DeviceKind,
    FileKind,
    LruKind,
    PageState,
    Protection,
)
from faultlane_server.scenario import (
    AnonymousMapping,
    ByteRange,
    Compute,
    Device,
    Duration,
    Exponential,
    File,
    FileRange,
    Fixed,
    Loop,
    Machine,
    Memcg,
    Pattern,
    Process,
    Scenario,
    Sequential,
    Swap,
    ThreadGroup,
    Touch,
    Uniform,
    Vma,
    Workload,
    check,
)
from faultlane_server.scenario.limited import charged_pages
from faultlane_server.scenario.limits import MEMCG_PAGES_LEAST, MEMORY_PAGES_LEAST

HEAP_PAGES_MAX = 160
READ_WRITE = (Protection.READ, Protection.WRITE)

Choice = TypeVar("Choice")


def short_of_memory(scenario: Scenario, seed: int) -> Scenario:
    """Limit the memory of a scenario."""
    return _Limiter(scenario, seed).scenario()


class _Limiter:
    """Puts limits over one scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._random = Random(f"memory {seed}")
        self.before = scenario
        self.page_bytes = scenario.machine.page_size_bytes
        self.has_swap = self.one_in(2) or self.one_in(2)

    def one_in(self, n: int) -> bool:
        return self._random.randrange(n) == 0

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return self._random.choice(choices)

    def scenario(self) -> Scenario:
        """Put in what needs memory, see how much is there at first, and then set the limits."""
        scenario = replace(self.before, workload=self._workload())
        if self.has_swap:
            scenario = replace(scenario, machine=self._with_swap(scenario))
        return self._limited(check(self._with_devices(scenario)))

    def _workload(self) -> Workload:
        workload = self.before.workload
        files = tuple(self._in_swap(file) for file in workload.files)
        needy = [self._needy(number) for number in range(self.pick((1, 1, 2)))]
        processes = (*workload.processes, *needy)
        return replace(workload, processes=processes, files=files)

    def _in_swap(self, file: File) -> File:
        """Let some pages of a file of tmpfs be in swap."""
        vmas = [vma for process in self.before.workload.processes for vma in process.vmas]
        if file.kind != FileKind.TMPFS or not self.has_swap or any(vma.mapped for vma in vmas):
            return file
        initial = tuple(
            replace(part, state=PageState.SWAPPED) if self.one_in(2) else part
            for part in file.initial
        )
        return replace(file, initial=(*initial, FileRange(PageState.SWAPPED, 0, self.page_bytes)))

    def _needy(self, number: int) -> Process:
        """Make a process of much anonymous memory, some of it in swap."""
        pages = self.between(20, HEAP_PAGES_MAX)
        first = self.between(0, pages - 1)
        part = ByteRange(first * self.page_bytes, self.between(1, pages - first) * self.page_bytes)
        heap = Vma(
            f"heap{number}",
            pages * self.page_bytes,
            AnonymousMapping(),
            protection=READ_WRITE,
            swapped=(part,) if self.has_swap and self.one_in(2) else (),
        )
        touches = tuple(self._touch(heap.name) for _ in range(self.between(1, 3)))
        program = (Loop(self.between(1, 3), (*touches, Compute(Fixed(100)))),)
        hog = ThreadGroup(f"hog{number}", self.between(1, 2), program)
        return Process(f"needy{number}", (heap,), (hog,), oom_unkillable=self.one_in(4))

    def _touch(self, vma: str) -> Touch:
        patterns: tuple[Pattern, ...] = (Uniform(), Sequential(), Sequential(divided=True))
        pattern = self.pick(patterns)
        access = self.pick((Access.READ, Access.WRITE, Access.WRITE))
        return Touch(vma, pattern, access, self.between(1, 120))

    def _with_swap(self, scenario: Scenario) -> Machine:
        machine = scenario.machine
        kind = self.pick((DeviceKind.BLOCK, DeviceKind.SYNCHRONOUS))
        latencies: tuple[Duration, ...] = (Fixed(0), Fixed(3000), Fixed(10**6), Exponential(80_000))
        latency = self.pick(latencies)
        device = Device(
            "swapdev",
            latency,
            self.pick((1, 4, 64)),
            kind=kind,
            iops_max=self.pick((0, 0, 20_000)),
            error_ppm=self.pick((0, 0, 200_000)),
        )
        used = sum(sum(p.length_bytes for p in v.swapped) for q in scenario.workload.processes
                   for v in q.vmas)  # fmt: skip
        used += sum(
            file.size_bytes + self.page_bytes
            for file in scenario.workload.files
            if file.kind == FileKind.TMPFS
        )
        pages = -(-used // self.page_bytes) + self.between(1, 200)
        zswap_pages = self.pick((0, 0, self.between(1, pages)))
        swap = Swap("swapdev", pages * self.page_bytes, zswap_pages * self.page_bytes)
        return replace(machine, devices=(*machine.devices, device), swap=swap)

    def _with_devices(self, scenario: Scenario) -> Scenario:
        """Let the devices of files be of any kind, and the kernel of either LRU."""
        machine, kernel = scenario.machine, scenario.kernel
        kinds = (DeviceKind.BLOCK, DeviceKind.BLOCK, DeviceKind.SYNCHRONOUS)
        devices = tuple(
            device
            if device.name == "swapdev"
            else replace(device, kind=self.pick(kinds), iops_max=self.pick((0, 0, 5_000)))
            for device in machine.devices
        )
        kernel = replace(
            kernel,
            lru=self.pick((LruKind.CLASSIC, LruKind.MGLRU)),
            lru_gen_enabled=self.pick((1, 5, 7, 7)),
            swappiness=self.pick((0, 1, 60, 60, 200)),
            page_cluster=self.pick((0, 3, 3, 5)),
        )
        return replace(scenario, machine=replace(machine, devices=devices), kernel=kernel)

    def _limited(self, scenario: Scenario) -> Scenario:
        """Set limits that what is there at first just fits."""
        names = self.pick((("a",), ("a", "b"), ()))
        processes = tuple(
            replace(process, memcg=self.pick(("", *names, *names)))
            for process in scenario.workload.processes
        )
        workload = replace(scenario.workload, processes=processes)
        charged = charged_pages(workload, self.page_bytes)
        memcgs = tuple(self._memcg(name, charged[name]) for name in names)
        machine = scenario.machine
        if not names or self.one_in(4):
            least = max(charged.total(), MEMORY_PAGES_LEAST)
            pages = least + self.pick((0, self.between(0, 60), self.between(60, 300)))
            machine = replace(machine, memory_bytes=pages * self.page_bytes)
        return check(replace(scenario, workload=replace(workload, memcgs=memcgs), machine=machine))

    def _memcg(self, name: str, pages: int) -> Memcg:
        most = max(pages, MEMCG_PAGES_LEAST) + self.pick((0, self.between(0, 60)))
        high = self.pick((0, 0, self.between(1, most)))
        return Memcg(name, high * self.page_bytes, self.pick((0, most, most)) * self.page_bytes)
