"""From a scenario to the record that holds its run.

The scenario was checked before: here nothing is refused. Names become numbers,
files and VMAs get their pages, and CPUs, locks and devices are free.
"""

from math import isqrt

import numpy as np

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import NOBODY, DeviceKind, FaultClass, FileKind, PageState
from faultlane_server.engine.blame_layer import lay_blame, no_waits
from faultlane_server.engine.draw import Law
from faultlane_server.engine.layout import (
    Space,
    changing,
    lay_programs,
    mapped_over,
    steps_of,
    uffd_bits,
)
from faultlane_server.engine.memory import page_table, rmap
from faultlane_server.engine.memory_layer import MemoryLayer
from faultlane_server.engine.queue import prepare
from faultlane_server.engine.scheduling import RR_SLICE_NS
from faultlane_server.engine.world import (
    BAD,
    CACHE_NODE_SHIFT,
    DIRTY,
    HOLE,
    OPENS_MAX,
    PAGES_MAX,
    PRESENT,
    PTE_ANON,
    PTE_DEVICE_EXCLUSIVE,
    PTE_DEVICE_PRIVATE,
    PTE_NUMA,
    PTE_PRESENT,
    PTE_SWAP,
    PTE_YOUNG,
    READAHEAD,
    RESERVED,
    SWAPPED,
    UPTODATE,
    VM_NORESERVE,
    VMA_ORDER_MAX,
    ThreadState,
    empty_world,
    free_rwsem,
)
from faultlane_server.kernels import KERNELS
from faultlane_server.machines import COSTS, MACHINES
from faultlane_server.policy import POLICIES, RetryPolicy, RetryRule
from faultlane_server.scenario import (
    Backing,
    ByteRange,
    Device,
    Duration,
    Exponential,
    File,
    FileMapping,
    FileRange,
    Fixed,
    HugetlbMapping,
    LogNormal,
    Process,
    Scenario,
    Vma,
    is_private,
    mapping_page_bytes,
    reach_bytes,
)

PLACE_FIRST = 1 << 40  # bytes: where VMAs without an address are placed from
DIRTIED_PAUSE_BYTES = 128 * 1024  # nr_dirtied_pause of a new task
NOBODY_AT_FIRST = ("holder", "first", "last", "lru_next", "lru_before", "vma")  # of folios
LRU_GEN_MM_WALK = 2  # of lru_gen_enabled
LRU_GEN_NONLEAF_YOUNG = 4
FRAMES_WITHOUT_LIMIT = 1 << 40
WATERMARK_SCALE = 10  # vm.watermark_scale_factor: parts of 10000
HUGETLB_VMA_LOCK_SINCE = (6, 9)  # "Handle hugetlb faults under the VMA lock"
HUGETLB_RESTORES_SINCE = (6, 9)  # "mm/hugetlb: restore the reservation if needed"
UFFD_VMA_LOCK_SINCE = (6, 9)  # uffd_lock_vma()
STACKS_WRITE_SINCE = (6, 5)  # lock_mm_and_find_vma(), which takes mmap_lock for write
RWSEM_WAIT_DIVISOR = 250  # RWSEM_WAIT_TIMEOUT is ceil(HZ / 250) jiffies

STATE_BITS = {
    PageState.ABSENT: 0,
    PageState.CACHED: PRESENT | UPTODATE,
    PageState.CACHED_READAHEAD: PRESENT | UPTODATE | READAHEAD,
    PageState.NOT_UPTODATE: PRESENT,
    PageState.DIRTY: PRESENT | UPTODATE | DIRTY,
    PageState.HOLE: HOLE,
    PageState.SWAPPED: SWAPPED,
}


class Compiler:
    """Fills in the record of a run, and remembers what names became."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.worlds = empty_world()
        self.world = self.worlds[0]
        self.page_bytes = scenario.machine.page_size_bytes
        self.sections: dict[str, int] = {}
        self.devices: dict[str, int] = {}
        self.files: dict[str, int] = {}
        self.files_laid = 0
        self.mms: dict[str, int] = {}
        self.anon_names: dict[str, int] = {"": 0}
        self.opens: dict[tuple[str, str], int] = {}
        self.memcgs: dict[str, int] = {"": 0}  # 0 is the root
        self.own_vmas: list[tuple[int, int, int]] = []  # first entry, slot, entries
        self.affinities: dict[tuple[int, ...], int] = {(): 0}  # rows of them, by their CPUs
        self.opens_made = 0
        self.crowds: dict[tuple[str, str], range] = {}  # threads, by process and group
        self.points = 0
        self.folios = 0
        self.ptes = 0
        self.huge_pages = 0  # of the file behind those that have none of their own
        self.shared_ptes = PAGES_MAX  # those of shared mappings are taken from the end
        self.instructions = 0
        self.cursors = 0
        self.listed = 0
        self.zipf_entries = 0
        self.barriers = 0

    def compile(self) -> None:
        """Fill in everything."""
        self._settings()
        self._costs()
        self._machine()
        self._memory()
        for file in self.scenario.workload.files:
            self.files[file.name] = self.files_laid
            for _ in range(file.copies):
                self._file(file)
        self._hugetlb_pool()
        self._number_threads()
        self.world.regions_used = 1  # the first one stands for names that keep their places
        for mm, process in enumerate(self.scenario.workload.processes):
            self._process(mm, process)
        self.world.config.processes = len(self.scenario.workload.processes)
        self.world.config.files = self.files_laid
        self._anonymous_huge_pages()
        self._own_folios()
        self._fill_pool()
        self._swapped()
        self._page_tables()
        self._cache_nodes()
        self._threads()
        groups = [crowd for (_, group), crowd in self.crowds.items() if group]
        lay_blame(self.world, groups)
        if self.world.config.limits_memory:
            MemoryLayer(self).lay()

    def _number_threads(self) -> None:
        """Number the threads of all groups, in the order of the scenario."""
        number = 0
        for mm, process in enumerate(self.scenario.workload.processes):
            self.mms[process.name] = mm
            first = number
            for group in process.groups:
                self.crowds[process.name, group.name] = range(number, number + group.threads)
                number += group.threads
            self.crowds[process.name, ""] = range(first, number)

    def bytes_of_page(self, backing: Backing | None) -> int:
        """Return the page size of what maps something."""
        return mapping_page_bytes(backing, self.scenario.machine)

    def pages(self, length_bytes: int) -> int:
        """Return how many pages a length has, the last one perhaps in part."""
        return -(-length_bytes // self.page_bytes)

    def _settings(self) -> None:
        scenario, config = self.scenario, self.world.config
        arch = ARCHITECTURES[scenario.machine.arch]
        policy = columns_of(scenario.kernel.policy)
        config.seed = scenario.seed
        config.warmup_ns = scenario.warmup_ns
        config.horizon_ns = scenario.horizon_ns
        config.attempts_max = scenario.attempts_max
        config.record_kind = scenario.recording.kind
        config.sample_every = scenario.recording.sample_every
        config.slower_than_ns = scenario.recording.slower_than_ns
        config.page_shift = self.page_bytes.bit_length() - 1
        config.table_pages = self.page_bytes // 8
        config.table_shift = int(config.table_pages).bit_length() - 1
        config.fault_around_pages = max(1, scenario.kernel.fault_around_bytes // self.page_bytes)
        hz = scenario.kernel.hz
        config.jiffy_ns = 10**9 // hz
        config.preemption = scenario.kernel.preemption
        config.base_slice_ns = scenario.kernel.base_slice_ns
        config.wakeup_preemption = scenario.kernel.wakeup_preemption
        config.rr_slice_ns = RR_SLICE_NS
        config.rwsem_timeout_jiffies = -(-hz // RWSEM_WAIT_DIVISOR)
        kernel = KERNELS[scenario.kernel.generation]
        config.vma_lock_design = kernel.vma_lock
        config.vma_path = kernel.release >= arch.vma_lock_since and not policy.mmap_lock_only
        config.vma_lock_faults = kernel.vma_lock_faults
        config.vma_access_errors = kernel.vma_access_errors
        config.anon_vma_trylock = kernel.anon_vma_trylock
        config.major_sets_tried = kernel.major_sets_tried
        config.pgfault_per_attempt = kernel.pgfault_per_attempt
        config.fork_skips = scenario.kernel.fork_skips
        config.madvise_vma_lock = scenario.kernel.madvise_vma_lock
        config.mmap_trylock = kernel.release >= arch.mmap_trylock_since
        config.mmap_killable = kernel.release >= arch.mmap_killable_since
        config.read_needs_read = arch.read_needs_read
        config.exec_needs_exec = arch.exec_needs_exec
        config.prot_fault_fails = arch.prot_fault_fails
        config.fetch_fails_early = arch.fetch_fails_early
        config.young_bit = 0 if arch.hardware_young else PTE_YOUNG
        config.prefaulted = 0 if arch.old_prefaulted else PTE_YOUNG
        config.hugetlb_vma_lock = kernel.release >= HUGETLB_VMA_LOCK_SINCE
        config.hugetlb_restores = kernel.release >= HUGETLB_RESTORES_SINCE
        config.uffd_vma_lock = config.vma_path and kernel.release >= UFFD_VMA_LOCK_SINCE
        config.stack_writes = kernel.release >= STACKS_WRITE_SINCE
        for fault_class in FaultClass:
            self._rule(config.rules[fault_class], getattr(policy, fault_class.name.lower()))
        config.dirty_limit = scenario.kernel.dirty_bytes // self.page_bytes
        config.writes_back = scenario.kernel.dirty_background_bytes > 0
        config.dirty_background = scenario.kernel.dirty_background_bytes // self.page_bytes
        config.dirtied_pause = max(1, DIRTIED_PAUSE_BYTES // self.page_bytes)

    def _memory(self) -> None:
        """Set the limits of memory, the LRU and swap."""
        scenario, world, config = self.scenario, self.world, self.world.config
        kernel, machine = scenario.kernel, scenario.machine
        arch = ARCHITECTURES[machine.arch]
        config.lru_kind = kernel.lru
        walks = kernel.lru_gen_enabled & LRU_GEN_MM_WALK and arch.lru_gen_walks
        config.lru_gen_walks = bool(walks)
        config.lru_gen_nonleaf = bool(
            walks and kernel.lru_gen_enabled & LRU_GEN_NONLEAF_YOUNG and arch.nonleaf_young
        )
        config.lru_gen_around = arch.bits_per_long
        config.swappiness = kernel.swappiness
        config.swap_cluster = kernel.page_cluster
        config.swap_device = NOBODY
        if machine.swap is not None:
            config.swap_device = self.devices[machine.swap.device]
            config.swap_pages = machine.swap.size_bytes // self.page_bytes
            config.zswap_pages = machine.swap.zswap_bytes // self.page_bytes
        for memcg in scenario.workload.memcgs:
            self.memcgs[memcg.name] = len(self.memcgs)
        config.memcgs = len(self.memcgs)
        config.limits_memory = bool(machine.memory_bytes or scenario.workload.memcgs)
        self._watermarks(machine.memory_bytes // self.page_bytes)
        for name in ("kswapd", "swap_line"):
            world[name] = NOBODY

    def _watermarks(self, frames: int) -> None:
        """Set how many pages there are, and from when on pages are short (mm/page_alloc.c)."""
        config = self.world.config
        config.frames = frames
        self.world.frames_free = frames or FRAMES_WITHOUT_LIMIT
        kilobytes = frames * self.page_bytes // 1024
        least = min(max(isqrt(kilobytes * 16), 128), 262144) * 1024 // self.page_bytes
        step = max(least // 4, frames * WATERMARK_SCALE // 10000)
        config.frames_min = least
        config.frames_low = least + step
        config.frames_high = least + 2 * step

    def _hugetlb_pool(self) -> None:
        """Make the pool of huge pages, the fault mutexes, and a file for what has none."""
        pool = self.scenario.machine.huge_pages
        if pool is None:
            return
        world, cpus = self.world, self.scenario.machine.cpus
        world.config.huge_page_pages = pool.page_bytes // self.page_bytes
        world.config.fault_mutexes = 1 << (8 * cpus - 1).bit_length()
        for name in ("holder", "first", "last"):
            world.hugetlb.mutexes[name] = NOBODY
        world.hugetlb.pages = world.hugetlb.free = pool.count
        self.files[""] = self.files_laid
        row = world.files[self.files_laid]
        row.kind, row.device_id = FileKind.HUGETLB, NOBODY
        row.first_vma = row.falloc_first = NOBODY
        free_rwsem(row.invalidate_lock)
        self.files_laid += 1

    def take_huge_pages(self, pages: int) -> int:
        """Return the first of some pages of the file behind those that have none of their own."""
        first = self.huge_pages
        self.huge_pages += pages
        return first

    def open_hugetlb(self, mapping: HugetlbMapping) -> int:
        """Return the struct file of a mapping of huge pages, which is nothing but the file."""
        return self.open(FileMapping(mapping.file))

    def _anonymous_huge_pages(self) -> None:
        """Give the huge pages without a file their folios, behind all files."""
        if self.scenario.machine.huge_pages is None:
            return
        row = self.world.files[self.files[""]]
        row.first, row.pages = self.folios, self.huge_pages
        self.folios += self.huge_pages
        folios = self.world.folios[row.first : self.folios]
        for name in NOBODY_AT_FIRST:
            folios[name] = NOBODY
        folios["file"] = self.files[""]

    def _fill_pool(self) -> None:
        """Take the huge pages that are there when the run begins, and reserve others."""
        world, pool = self.world, self.world.hugetlb
        states = world.folios["state"][: self.folios]
        for row in world.files[: self.files_laid]:
            if row.kind == FileKind.HUGETLB:
                there = states[row.first : row.first + row.pages] & PRESENT
                pool.free -= np.count_nonzero(there)
        for row in world.vmas[: int(world.vma_slots)]:
            if row.file_kind != FileKind.HUGETLB:
                continue
            ptes = world.ptes[row.pte : row.pte + row.end - row.start]
            pool.free -= np.count_nonzero(ptes & PTE_ANON)
            if not row.traits & VM_NORESERVE:
                file = world.files[world.opens[row.open].file]
                of_entries, of_file = world.config.anon_first + row.pte, file.first + row.offset
                first = int(of_entries if row.private else of_file)
                wanted = states[first : first + len(ptes)] & (PRESENT | RESERVED) == 0
                states[first : first + len(ptes)][wanted] |= RESERVED
                pool.reserved += np.count_nonzero(wanted)
        assert pool.reserved <= pool.free, "the check has counted the huge pages"

    def _swapped(self) -> None:
        """Count the slots that are used when the run begins."""
        states = self.world.folios["state"][: self.folios]
        self.world.swap_used = np.count_nonzero(states & SWAPPED)

    def _rule(self, row: np.record, rule: RetryRule) -> None:
        row.vma_lock_on = sum(1 << reason for reason in rule.vma_lock_on)
        row.vma_retries_max = rule.vma_retries_max
        row.vma_retry_sets_tried = rule.vma_retry_sets_tried
        row.drop_for_io = rule.drop_for_io
        row.uptodate_direct = rule.uptodate_direct
        row.uptodate_killable = rule.uptodate_killable
        row.relock_and_map = rule.relock_and_map

    def _costs(self) -> None:
        profile = MACHINES[self.scenario.machine.profile]
        for name in COSTS:
            ns = self.scenario.machine.costs_ns.get(name, profile.costs[name].ns)
            self.world.config.cost[f"{name}_ns"] = ns

    def _machine(self) -> None:
        world, machine = self.world, self.scenario.machine
        world.config.cpus = machine.cpus
        world.config.cpus_per_cache = machine.cpus_per_cache or machine.cpus
        prepare(world.queue, machine.cpus)
        world.idle_first = 0
        for name in ("stuck", "vma_free", "traced", "written_first"):
            world[name] = NOBODY
        cpus = world.cpus[: machine.cpus]
        cpus["thread"] = NOBODY
        cpus["due"] = -1
        cpus["ready"] = NOBODY
        cpus["late"] = NOBODY
        cpus["is_idle"] = 1
        cpus["idle_next"] = np.append(np.arange(1, machine.cpus), NOBODY)
        cpus["idle_before"] = np.append(NOBODY, np.arange(machine.cpus - 1))
        for number, device in enumerate(machine.devices):
            self.devices[device.name] = number
            self._device(world.devices[number], device)

    def _device(self, row: np.record, device: Device) -> None:
        row.kind = device.kind
        if device.latency is not None:
            self.duration(row.latency, device.latency)
            self.duration(row.write_latency, device.write_latency or device.latency)
        row.iops_ns = 10**9 // device.iops_max if device.iops_max else 0
        row.error_ppm = device.error_ppm
        row.stable_writes = device.stable_writes
        bandwidth = device.bandwidth_bytes_per_s
        row.ra_pages = device.readahead_bytes // self.page_bytes
        row.page_ns = self.page_bytes * 10**9 // bandwidth if bandwidth else 0
        row.channels = device.channels
        row.first = -1

    def duration(self, row: np.record, duration: Duration) -> None:
        """Fill in how a length of time is drawn."""
        if isinstance(duration, Fixed):
            row.law, row.a = Law.FIXED, duration.ns
        elif isinstance(duration, Exponential):
            row.law, row.a = Law.EXPONENTIAL, duration.mean_ns
        elif isinstance(duration, LogNormal):
            row.law, row.a, row.b = Law.LOG_NORMAL, duration.median_ns, duration.sigma_ppm
        else:
            row.law, row.first_point = Law.QUANTILES, self.points
            row.n_points = len(duration.points)
            for point in duration.points:
                self.world.points[self.points].ppm = point.ppm
                self.world.points[self.points].ns = point.ns
                self.points += 1

    def _file(self, file: File) -> None:
        number = self.files_laid
        self.files_laid += 1
        row = self.world.files[number]
        row.first = self.folios
        page_bytes = self._bytes_of_page_in(file)
        row.pages = -(-file.size_bytes // page_bytes)
        row.kind = file.kind
        row.device_id = self.devices.get(file.device, NOBODY)
        row.first_vma = NOBODY
        free_rwsem(row.invalidate_lock)
        row.falloc_first = NOBODY
        self.folios += int(row.pages)
        folios = self.world.folios[row.first : self.folios]
        for name in NOBODY_AT_FIRST:
            folios[name] = NOBODY
        folios["file"] = number
        if row.device_id != NOBODY and self.world.devices[row.device_id].kind == DeviceKind.HOLE:
            folios["state"] = HOLE
        for part in file.initial:
            chosen = self._part(folios, part, page_bytes)[:: max(part.every_pages, 1)]
            chosen["state"] = STATE_BITS[part.state]
        if file.kind == FileKind.SPECIAL:
            folios["state"] = STATE_BITS[PageState.CACHED]
        if file.kind == FileKind.REGULAR:
            row.dirty = (folios["state"] & DIRTY != 0).sum()
            self.world.dirty += row.dirty
        for bad in file.bad:
            self._part(folios, bad)["state"] |= BAD

    def _bytes_of_page_in(self, file: File) -> int:
        return self.bytes_of_page(HugetlbMapping() if file.kind == FileKind.HUGETLB else None)

    def _part(
        self, rows: np.ndarray, part: FileRange | ByteRange, page_bytes: int = 0
    ) -> np.ndarray:
        """Return the rows of a range; one without a length goes to the end."""
        page_bytes = page_bytes or self.page_bytes
        start = part.offset_bytes // page_bytes
        end = start - (-part.length_bytes // page_bytes) if part.length_bytes else len(rows)
        return rows[start:end]

    def _process(self, mm: int, process: Process) -> None:
        row = self.world.mms[mm]
        row.users = sum(group.threads for group in process.groups)
        free_rwsem(row.mmap_lock)
        row.word.cpu = NOBODY
        row.memcg = self.memcgs[process.memcg]
        row.unkillable = process.oom_unkillable
        row.uffd_first, row.uffd_last = NOBODY, NOBODY
        row.uffd_readers_first, row.uffd_readers_last = NOBODY, NOBODY
        row.order_first = self.world.mms[mm - 1].order_first if mm else 0
        row.order_first += self.world.mms[mm - 1].order_room if mm else 0
        placed = [v.address + reach_bytes(v) for v in process.vmas if v.address]
        space = Space(mm, self, self._align(max([PLACE_FIRST, *placed]) // self.page_bytes + 1))
        starts = [self._start_of(space, vma) for vma in process.vmas]
        steps = steps_of(process)
        names = changing(steps)
        ptes = self._ptes_by_address(process.vmas, starts, mapped_over(steps))
        for vma, start, pte in zip(process.vmas, starts, ptes, strict=True):
            self._vma(space, vma, start, pte)
            space.name(vma, start, pte, names)
        order = self.world.vma_order[row.order_first : row.order_first + row.order_count]
        order[:] = sorted(order, key=lambda slot: self.world.vmas[slot].start)
        row.order_room = row.order_count + lay_programs(self, space, process)
        room = int(row.order_first + row.order_room)
        assert room <= VMA_ORDER_MAX, "the check has counted the VMAs that programs may make"

    def _start_of(self, space: Space, vma: Vma) -> int:
        if vma.address:
            return vma.address // self.page_bytes
        page_bytes = self.bytes_of_page(vma.backing)
        room = vma.grows_down_bytes // page_bytes
        return self.place(space, room + reach_bytes(vma) // page_bytes, page_bytes) + room

    def _ptes_by_address(
        self, vmas: tuple[Vma, ...], starts: list[int], mapped_over: set[str]
    ) -> list[int]:
        """Return the first page-table entry of each VMA: neighbours can become one VMA.

        Those over which something else is mapped can have pages of their own.
        """
        ptes = [0] * len(vmas)
        pages = [reach_bytes(vma) // self.bytes_of_page(vma.backing) for vma in vmas]
        shared = {
            number
            for number, vma in enumerate(vmas)
            if _is_shared(vma) and vma.name not in mapped_over
        }
        next_shared = self.take_shared_ptes(sum(pages[number] for number in shared))
        for number in sorted(range(len(vmas)), key=starts.__getitem__):
            if number in shared:
                ptes[number] = next_shared
                next_shared += pages[number]
            else:
                room = vmas[number].grows_down_bytes // self.page_bytes
                ptes[number] = self.take_ptes(room + pages[number]) + room
        return ptes

    def _align(self, page: int) -> int:
        """Return the first page of a page table that is not before `page`."""
        table_pages = self.page_bytes // 8
        return -(-page // table_pages) * table_pages

    def place(self, space: Space, pages: int, page_bytes: int = 0) -> int:
        """Return where a region without an address begins: in page tables of its own."""
        huge = max(page_bytes // self.page_bytes, 1)  # small pages in one of its pages
        page = -(-space.next_page // huge) * huge
        space.next_page = self._align(page + pages * huge + 1)
        return page

    def _page_tables(self) -> None:
        """Let there be a page table for each entry that maps something from the start."""
        for start, end in ((0, self.ptes), (self.shared_ptes, PAGES_MAX)):
            used = np.flatnonzero(self.world.ptes[start:end]) + start
            self.world.tables[used >> int(self.world.config.table_shift)] = 1

    def _cache_nodes(self) -> None:
        """Let there be a node of the page cache for each page that is cached from the start."""
        states = self.world.folios["state"][: self.world.config.anon_first]
        self.world.cache_nodes[np.flatnonzero(states & PRESENT) >> CACHE_NODE_SHIFT] = 1

    def take_ptes(self, pages: int) -> int:
        """Return the first of some page-table entries that can have pages of their own."""
        first = self.ptes
        self.ptes += pages
        assert self.ptes <= self.shared_ptes, "the check has counted the pages of VMAs and mmaps"
        return first

    def take_shared_ptes(self, pages: int) -> int:
        """Return the first of some page-table entries that map pages of files, and no others."""
        self.shared_ptes -= pages
        assert self.ptes <= self.shared_ptes, "the check has counted the pages of VMAs and mmaps"
        return self.shared_ptes

    def _own_folios(self) -> None:
        """Give each page-table entry that can have a page of its own a folio, behind all files."""
        first = self.folios
        self.folios += self.ptes
        self.world.config.anon_first = first
        self.world.config.folios = self.folios
        for name in NOBODY_AT_FIRST:
            self.world.folios[name][first : self.folios] = NOBODY
        folios, ptes = self.world.folios[first : self.folios], self.world.ptes[: self.ptes]
        folios["file"] = NOBODY
        is_mapped = ptes & (PTE_PRESENT | PTE_ANON) == PTE_PRESENT | PTE_ANON
        folios["mapcount"][is_mapped] = 1
        is_there = is_mapped | (ptes & PTE_DEVICE_EXCLUSIVE != 0)
        folios["state"][is_there] = PRESENT | UPTODATE
        folios["state"][ptes & PTE_SWAP != 0] = SWAPPED
        for pte, slot, pages in self.own_vmas:
            folios["vma"][pte : pte + pages] = slot

    def _vma(self, space: Space, vma: Vma, start: int, pte: int) -> None:
        slot = int(self.world.vma_slots)
        self.world.vma_slots += 1
        self.world.vma_ids += 1
        row, mm = self.world.vmas[slot], self.world.mms[space.mm]
        pages = vma.length_bytes // self.bytes_of_page(vma.backing)
        row.id, row.mm = slot, space.mm
        row.start, row.end, row.pte = start, start + pages, pte
        row.protection = sum(1 << bit for bit in vma.protection)
        row.advice = vma.advice
        row.seq, row.reader, row.drainer, row.word.cpu = -1, NOBODY, NOBODY, NOBODY
        row.holders_first = row.holders_last = NOBODY
        row.open, row.private = NOBODY, True
        row.uffd = uffd_bits(vma.userfaultfd)
        row.lowest = -1
        if isinstance(vma.backing, HugetlbMapping):
            self._map_hugetlb(row, slot, vma, vma.backing)
        elif isinstance(vma.backing, FileMapping):
            row.open = self.open(vma.backing)
            row.offset = vma.backing.offset_bytes // self.page_bytes
            row.private = vma.backing.map_private
            rmap.link(self.world, slot)
            self._mapped(row, slot, vma)
        elif vma.mapped or vma.swapped or vma.device_private or vma.device_exclusive:
            self._mapped_anonymous(row, slot, vma)
        if vma.swapped:
            self._swapped_out(row, slot, vma)
        self._hinted(row, vma)
        self.world.vma_order[mm.order_first + mm.order_count] = slot
        mm.order_count += 1
        if vma.grows_down_bytes:
            row.lowest = start - vma.grows_down_bytes // self.page_bytes

    def _map_hugetlb(self, row: np.record, slot: int, vma: Vma, mapping: HugetlbMapping) -> None:
        """Let a VMA map huge pages; what is reserved for it is known when all are laid."""
        pages, page_bytes = int(row.end - row.start), self.bytes_of_page(mapping)
        row.open = self.open_hugetlb(mapping)
        row.file_kind = FileKind.HUGETLB
        row.private = is_private(mapping)
        row.traits = VM_NORESERVE * mapping.no_reserve
        row.offset = mapping.offset_bytes // page_bytes
        if not mapping.file:
            row.offset = self.take_huge_pages(pages)
        rmap.link(self.world, slot)
        ptes = self.world.ptes[row.pte : row.pte + pages]
        for part in vma.mapped:
            chosen = self._part(np.arange(pages), part, page_bytes)
            if not mapping.file:
                ptes[chosen] = page_table.copied_entry(self.world, row)
                self.world.anon_vmas += row.anon_vma == 0
                row.anon_vma = row.anon_vma or self.world.anon_vmas
                continue
            chosen = chosen[ptes[chosen] == 0]
            first = int(self.world.files[self.files[mapping.file]].first + row.offset)
            self.world.folios["mapcount"][first + chosen] += 1
            ptes[chosen] = page_table.entry(self.world, row, int(row.protection))

    def _mapped(self, row: np.record, slot: int, vma: Vma) -> None:
        """Let entries map their pages from the start."""
        file = self.world.files[self.world.opens[row.open].file]
        row.file_kind = file.kind
        pages = int(row.end - row.start)
        ptes = self.world.ptes[row.pte : row.pte + pages]
        first = int(file.first + row.offset)
        folios = self.world.folios[first : first + pages]
        for part in vma.mapped:
            chosen = self._part(np.arange(pages), part)
            chosen = chosen[ptes[chosen] == 0]
            folios["mapcount"][chosen] += 1
            folios["vma"][chosen] = slot
            self.world.mms[row.mm].pages += len(chosen)
            ptes[chosen] = page_table.entry(self.world, row, int(row.protection))

    def _swapped_out(self, row: np.record, slot: int, vma: Vma) -> None:
        """Let entries say that their pages are in swap; the pages are known when all are laid."""
        if row.anon_vma == 0:
            self.world.anon_vmas += 1
            row.anon_vma = self.world.anon_vmas
        ptes = self.world.ptes[row.pte : row.pte + int(row.end - row.start)]
        self.own_vmas.append((int(row.pte), slot, len(ptes)))
        for part in vma.swapped:
            self._part(ptes, part)[:] = PTE_ANON | PTE_SWAP

    def _mapped_anonymous(self, row: np.record, slot: int, vma: Vma) -> None:
        """Let entries map pages that were written before."""
        self.world.anon_vmas += 1
        row.anon_vma = self.world.anon_vmas
        ptes = self.world.ptes[row.pte : row.pte + int(row.end - row.start)]
        states = (
            (vma.mapped, page_table.copied_entry(self.world, row)),
            (vma.device_private, page_table.ABSENT_ANON | PTE_DEVICE_PRIVATE),
            (vma.device_exclusive, page_table.ABSENT_ANON | PTE_DEVICE_EXCLUSIVE),
        )
        for parts, bits in states:
            for part in parts:
                self._part(ptes, part)[:] = bits
        self.own_vmas.append((int(row.pte), slot, len(ptes)))
        self.world.mms[row.mm].pages += np.count_nonzero(ptes & PTE_PRESENT)

    def _hinted(self, row: np.record, vma: Vma) -> None:
        """Let the next access to some pages that are mapped be a NUMA hint fault."""
        ptes = self.world.ptes[row.pte : row.pte + int(row.end - row.start)]
        for part in vma.numa_hinted:
            chosen = self._part(ptes, part)
            chosen[chosen & PTE_PRESENT != 0] |= PTE_NUMA

    def open(self, mapping: FileMapping, files: int = 1) -> int:
        """Return the struct file of a mapping, or of each of some copies of the file in turn."""
        key = (mapping.file, mapping.open)
        if files > 1:
            key = (mapping.file, f"{files} of {mapping.open}")
        if key not in self.opens:
            self.opens[key] = self.new_open(mapping, files)
        return self.opens[key]

    def affinity_of(self, cpus: tuple[int, ...]) -> int:
        """Return the row for threads that may run on some CPUs; none stand for all."""
        if cpus not in self.affinities:
            self.affinities[cpus] = len(self.affinities)
            self.world.config.has_affinities = 1
            row = self.world.affinities[self.affinities[cpus]]
            for cpu in cpus:
                row[cpu // 64] |= np.uint64(1 << cpu % 64)
        return self.affinities[cpus]

    def new_open(self, mapping: FileMapping, files: int = 1, times: int = 1) -> int:
        """Return the first of some new struct files, each with a readahead state of its own."""
        first = self.opens_made
        self.opens_made += max(files, times)
        assert self.opens_made <= OPENS_MAX, "the check has counted the struct files"
        for number in range(max(files, times)):
            row = self.world.opens[first + number]
            row.file = self.files[mapping.file] + (number if files > 1 else 0)
            device = int(self.world.files[row.file].device_id)
            if device != NOBODY:
                row.ra_pages = self.world.devices[device].ra_pages
        return first

    def _threads(self) -> None:
        """Number the threads: they were laid out, group by group, by `lay_programs`."""
        world = self.world
        rows = world.threads[: world.config.threads]
        for name in ("behind", "waits_for", "vma", "vma_id", "blocker"):
            rows[name] = NOBODY
        no_waits(rows)
        rows["state"] = ThreadState.BLOCKED
        rows["cpu"] = np.arange(len(rows)) % world.config.cpus
        for cpus, affinity in self.affinities.items():
            if cpus:
                some = np.flatnonzero(rows["affinity"] == affinity)
                rows["cpu"][some] = np.array(cpus)[np.arange(len(some)) % len(cpus)]
        rows["left"] = -1
        rows["timer"] = -1
        rows["walks_mm"] = NOBODY
        rows["touch_since_ns"] = -1
        rows["next_pc"] = -1
        world.running = int((rows["daemon"] == 0).sum())
        if world.running == 0:
            world.running = len(rows) + 1  # daemons alone run to the horizon


def _is_shared(vma: Vma) -> bool:
    if isinstance(vma.backing, HugetlbMapping):
        return not is_private(vma.backing)
    return isinstance(vma.backing, FileMapping) and not vma.backing.map_private


def columns_of(policy: str | RetryPolicy) -> RetryPolicy:
    """Return the columns of a policy that is given by its id, or by them."""
    return POLICIES[policy].columns if isinstance(policy, str) else policy


def compile_scenario(scenario: Scenario) -> tuple[np.recarray, tuple[str, ...]]:
    """Return the record of a run that is about to begin, and the names of its sections."""
    compiler = Compiler(scenario)
    compiler.compile()
    return compiler.worlds, tuple(compiler.sections)
