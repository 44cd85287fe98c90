"""A second, naive simulation of the classic LRU, for one case: a file that one thread reads.

The case: one memcg with a limit, one CPU, pages of one file that nobody writes, no readahead and
no fault-around, no swap. Written from the rules of mm/vmscan.c, mm/workingset.c and
mm/memcontrol.c with lists and dicts, and not from the engine: lists have their tail at the end.
"""

from dataclasses import dataclass, field

CHARGE_BATCH = 64  # pages that a CPU charges ahead (MEMCG_CHARGE_BATCH)
ADD_BATCH = 31  # pages that wait to be put into a list (PAGEVEC_SIZE)
PRIORITY = 12  # DEF_PRIORITY


@dataclass
class Twin:
    """The pages of the file that are in memory, and the age that those left behind are of.

    `has_second_chance`, `distance_error` and `cluster` are for twins that are wrong on purpose.
    """

    limit: int
    cluster: int = 32  # pages that reclaim wants, and looks at in one go (SWAP_CLUSTER_MAX)
    has_second_chance: bool = True
    distance_error: int = 0
    inactive: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    young: set[int] = field(default_factory=set)
    referenced: set[int] = field(default_factory=set)
    comes_active: set[int] = field(default_factory=set)
    shadows: dict[int, int] = field(default_factory=dict)
    usage: int = 0
    stock: int = 0
    age: int = 0
    activations: int = 0
    activations_seen: int = 0

    def read(self, page: int) -> bool:
        """Read a page; returns whether that is a major fault."""
        if page in self.inactive or page in self.active or page in self.waiting:
            self.young.add(page)
            return False
        self._charge()
        self._come_in(page)
        self.young.add(page)
        return True

    def _charge(self) -> None:
        while self.stock == 0:
            ahead = CHARGE_BATCH if self.usage + CHARGE_BATCH <= self.limit else 1
            if self.usage + ahead <= self.limit:
                self.usage += ahead
                self.stock = ahead
            else:
                self._reclaim()
        self.stock -= 1

    def _come_in(self, page: int) -> None:
        if page in self.shadows:
            distance = self.age - self.shadows.pop(page) + self.distance_error
            if distance <= len(self.active):
                self.comes_active.add(page)
                self.age += 1
                self.activations += 1
        self.waiting.append(page)
        if len(self.waiting) == ADD_BATCH:
            self._add()

    def _add(self) -> None:
        for page in self.waiting:
            to = self.active if page in self.comes_active else self.inactive
            to.insert(0, page)
        self.comes_active.clear()
        self.waiting.clear()

    def _reclaim(self) -> None:
        """Look at more and more of the lists until a cluster is free."""
        self._add()
        for forced in (False, True):
            freed = 0
            for priority in range(PRIORITY, -1, -1):
                freed += self._shrink(priority, self.cluster, forced)
                if freed >= self.cluster:
                    break
            if freed:
                break
        self.activations_seen = self.activations

    def _shrink(self, priority: int, wanted: int, forced: bool) -> int:
        todo_active = len(self.active) >> priority
        todo_inactive = len(self.inactive) >> priority
        freed = 0
        while (todo_active or todo_inactive) and freed < wanted:
            pages = min(todo_inactive, self.cluster)
            todo_inactive -= pages
            freed += self._shrink_inactive(pages)
            pages = min(todo_active, self.cluster)
            todo_active -= pages
            if forced or self._may_deactivate():
                self._deactivate(pages)
        return freed

    def _may_deactivate(self) -> bool:
        has_come_back = self.activations != self.activations_seen
        return has_come_back or len(self.inactive) < len(self.active)

    def _deactivate(self, pages: int) -> None:
        for _ in range(min(pages, len(self.active))):
            page = self.active.pop()
            self.young.discard(page)
            self.inactive.insert(0, page)

    def _shrink_inactive(self, pages: int) -> int:
        freed = 0
        for _ in range(min(pages, len(self.inactive))):
            page = self.inactive.pop()
            if not self._is_used(page):
                self._evict(page)
                freed += 1
        return freed

    def _is_used(self, page: int) -> bool:
        """Keep a page that was accessed for another round; the second time it gets active."""
        was_referenced = page in self.referenced
        self.referenced.discard(page)
        if page not in self.young or not self.has_second_chance:
            return False
        self.young.discard(page)
        self.referenced.add(page)
        if was_referenced:
            self.active.insert(0, page)
            self.age += 1
        else:
            self.inactive.insert(0, page)
        return True

    def _evict(self, page: int) -> None:
        self.shadows[page] = self.age
        self.age += 1
        self.usage -= 1
        self.young.discard(page)
        self.referenced.discard(page)
