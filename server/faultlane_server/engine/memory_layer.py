"""What memory is like when a run begins: who is charged for it, and which lists it stands in."""

from typing import TYPE_CHECKING

import numpy as np

from faultlane_server.codes import NOBODY, FileKind, LruKind
from faultlane_server.engine.blame_layer import no_waits
from faultlane_server.engine.memory import generations
from faultlane_server.engine.scheduling import lay_scheduling
from faultlane_server.engine.world import LISTS, MEMCGS_MAX, PRESENT, Lru, ThreadState
from faultlane_server.scenario import Scheduling
from faultlane_server.scenario.limited import NOT_CHARGED, payer_of

if TYPE_CHECKING:
    from faultlane_server.engine.compile import Compiler

NO_LIMIT = 1 << 40  # pages
MIN_SEQ = 0
MAX_SEQ = 3  # a new MGLRU has all its generations


class MemoryLayer:
    """Charges the pages that are there, and puts them into LRU lists, those behind first."""

    def __init__(self, compiler: "Compiler") -> None:
        self.compiler = compiler
        self.world = compiler.world

    def lay(self) -> None:
        """Fill in the memcgs, their lists, and kswapd."""
        self._memcgs()
        workload = self.compiler.scenario.workload
        for file in workload.files:
            row = self.world.files[self.compiler.files[file.name]]
            if file.kind not in NOT_CHARGED:
                numbers = np.arange(row.first, row.first + row.pages * file.copies)
                memcg = self.compiler.memcgs[payer_of(workload, file)]
                self._lay(numbers, memcg, is_file=file.kind == FileKind.REGULAR)
        first = int(self.world.config.anon_first)
        numbers = np.arange(first, int(self.world.config.folios))
        slots = self.world.folios["vma"][numbers]
        for memcg in range(int(self.world.config.memcgs)):
            self._lay(numbers[self._memcg_of(slots) == memcg], memcg, is_file=False)
        if self.world.config.frames:
            self._kswapd()

    def _memcg_of(self, slots: np.ndarray) -> np.ndarray:
        """Return to which memcg the processes of VMAs belong; -1 for no VMA."""
        memcgs = np.full(len(slots), -1)
        has_vma = slots != NOBODY
        mms = self.world.vmas["mm"][slots[has_vma]]
        memcgs[has_vma] = self.world.mms["memcg"][mms]
        return memcgs

    def _memcgs(self) -> None:
        rows = self.world.memcgs[: int(self.world.config.memcgs)]
        assert len(rows) <= MEMCGS_MAX, "the check has counted the memcgs"
        rows["pages_max"] = rows["pages_high"] = NO_LIMIT
        for memcg in self.compiler.scenario.workload.memcgs:
            row = rows[self.compiler.memcgs[memcg.name]]
            row.others = memcg.other_bytes // self.compiler.page_bytes
            row.usage = row.others
            self.world.frames_free -= row.others
            if memcg.max_bytes:
                row.pages_max = memcg.max_bytes // self.compiler.page_bytes
            if memcg.high_bytes:
                row.pages_high = memcg.high_bytes // self.compiler.page_bytes
        rows["max_seq"] = MAX_SEQ
        rows["min_seq"] = MIN_SEQ
        rows["lists"]["first"] = NOBODY
        rows["lists"]["last"] = NOBODY

    def _lay(self, numbers: np.ndarray, memcg: int, *, is_file: bool) -> None:
        """Put the pages of some numbers that are there at the head of a list, one by one."""
        folios = self.world.folios
        numbers = numbers[folios["state"][numbers] & PRESENT != 0]
        if len(numbers) == 0:
            return
        folios["memcg"][numbers] = memcg + 1
        self.world.memcgs[memcg].usage += len(numbers)
        self.world.frames_free -= len(numbers)
        kind = int(Lru.INACTIVE_FILE if is_file else Lru.INACTIVE_ANON)
        if self.world.config.lru_kind == LruKind.MGLRU:
            kind = generations.list_of(MAX_SEQ, is_file)
        folios["lru"][numbers] = memcg * LISTS + kind + 1
        row = self.world.memcgs[memcg].lists[kind]
        before = int(row.first)
        folios["lru_next"][numbers] = np.append(before, numbers[:-1])
        folios["lru_before"][numbers] = np.append(numbers[1:], NOBODY)
        if before != NOBODY:
            folios[before].lru_before = numbers[0]
        else:
            row.last = numbers[0]
        row.first = numbers[-1]
        row.pages += len(numbers)

    def _kswapd(self) -> None:
        """Make the thread of kswapd, behind those of the scenario."""
        number = int(self.world.config.threads)
        self.world.kswapd = number
        row = self.world.threads[number]
        lay_scheduling(self.world.config, self.world.threads[number : number + 1], Scheduling())
        for name in ("mm", "behind", "waits_for", "vma", "vma_id", "blocker"):
            row[name] = NOBODY
        row.walks_mm = NOBODY
        no_waits(row)
        row.state = ThreadState.BLOCKED
        row.timer = -1
        row.touch_since_ns = -1
