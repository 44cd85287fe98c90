"""A second, naive simulation of MGLRU, for one case: a file that one thread reads.

The case: one memcg with a limit, one CPU, pages of one file that nobody writes, one VMA that maps
all of it, no readahead and no fault-around, no swap, so that anonymous memory stays. Written from
the rules of mm/vmscan.c, include/linux/mm_inline.h, mm/workingset.c and mm/memcontrol.c with lists
and sets, and not from the engine: generations have their tail at the end.
"""

from dataclasses import dataclass, field

CHARGE_BATCH = 64  # pages that a CPU charges ahead (MEMCG_CHARGE_BATCH)
ADD_BATCH = 31  # pages that wait to be put into a generation (PAGEVEC_SIZE)
PRIORITY = 12  # DEF_PRIORITY
ANONYMOUS = -1  # in place of the number of a page
CLUSTER = 32  # pages that reclaim wants, and looks at in one go (SWAP_CLUSTER_MAX)
KEPT_ALWAYS = 2  # generations (MIN_NR_GENS)
YOUNGEST_AT_FIRST = 3  # a new memcg has four generations (MAX_NR_GENS), from number 0 on


@dataclass
class Twin:
    """The pages of the file that are in memory, by generation, and what those left behind.

    `has_recency` is false of a VMA with MADV_RANDOM or MADV_SEQUENTIAL, `walks` is whether aging
    goes through page tables, and `around` how many entries reclaim looks at beside one that was
    accessed. `ages_late` and `forgets_the_young` are for twins that are wrong on purpose.
    """

    limit: int
    file_pages: int
    walks: bool = False
    has_recency: bool = True
    around: int = 64
    ages_late: bool = False
    forgets_the_young: bool = False
    generations: dict[int, list[int]] = field(
        default_factory=lambda: {number: [] for number in range(YOUNGEST_AT_FIRST + 1)}
    )
    waiting: list[int] = field(default_factory=list)
    young: set[int] = field(default_factory=set)
    shadows: dict[int, int] = field(default_factory=dict)
    usage: int = 0
    stock: int = 0
    is_to_age: bool = False
    evicted: list[int] = field(default_factory=list)
    refaults: int = 0
    activations: int = 0
    restores: int = 0

    @property
    def youngest(self) -> int:
        return max(self.generations)

    @property
    def oldest(self) -> int:
        return min(self.generations)

    def pages(self) -> list[int]:
        """Return the pages of all generations."""
        return [page for generation in self.generations.values() for page in generation]

    def read(self, page: int) -> bool:
        """Read a page; returns whether that is a major fault."""
        is_there = page in self.waiting or page in self.pages()
        if not is_there:
            self._charge()
            self._come_in(page)
        self.young.add(page)
        return not is_there

    def write_anonymous(self) -> None:
        """Take a page of anonymous memory."""
        self._charge()
        self._wait(ANONYMOUS)

    def _charge(self) -> None:
        while self.stock == 0:
            ahead = CHARGE_BATCH if self.usage + CHARGE_BATCH <= self.limit else 1
            if self.usage + ahead <= self.limit:
                self.usage += ahead
                self.stock = ahead
            elif not self._reclaim():
                assert self._has_to_age(), "what can be evicted was looked at"
                self._age()
        self.stock -= 1

    def _come_in(self, page: int) -> None:
        """A page is back soon if the generation that was the oldest then is so still."""
        if page in self.shadows:
            self.refaults += 1
            if self.shadows.pop(page) == self.oldest:
                self.activations += 1
                if self.has_recency:
                    self.restores += 1
        self._wait(page)

    def _wait(self, page: int) -> None:
        self.waiting.append(page)
        if len(self.waiting) == ADD_BATCH:
            self._add()

    def _add(self) -> None:
        """Pages of a fault are the youngest; without recency old, but not the oldest of four."""
        for page in self.waiting:
            if page == ANONYMOUS:
                continue
            if self.has_recency:
                number = self.youngest
            elif len(self.generations) > KEPT_ALWAYS + 1:
                number = self.oldest + 1
            else:
                number = self.oldest
            self.generations[number].insert(0, page)
        self.waiting.clear()

    def _reclaim(self) -> int:
        """Look at more and more pages until a cluster is free; returns how many are."""
        self._add()
        freed = 0
        for priority in range(PRIORITY, -1, -1):
            todo = len(self.pages()) >> priority
            if self._has_to_age():
                break
            if priority < PRIORITY and self._is_badly_spread():
                self.is_to_age = True
            freed += self._evict(todo, CLUSTER - freed)
            if freed >= CLUSTER:
                break
        return freed

    def _evict(self, todo: int, wanted: int) -> int:
        freed = 0
        while todo > 0 and freed < wanted:
            self._forget_empty()
            if len(self.generations) == KEPT_ALWAYS:
                break
            before = len(self.evicted)
            oldest = self.generations[self.oldest]
            for _ in range(min(todo, CLUSTER)):
                if oldest:
                    self._look_at(oldest.pop())
                    todo -= 1
            freed += len(self.evicted) - before
        self._forget_empty()
        return freed

    def _look_at(self, page: int) -> None:
        """A page that was accessed is young again, and so are its neighbours that were."""
        if page not in self.young or self.forgets_the_young or not self.has_recency:
            self._evict_page(page)
            return
        self.young.discard(page)
        for neighbour in self._beside(page):
            self._rejuvenate(neighbour)
        self.generations[self.youngest].insert(0, page)

    def _beside(self, page: int) -> list[int]:
        """Return the entries around one, as many on each side unless the VMA ends."""
        first = min(page - self.around // 2, self.file_pages - self.around)
        first = max(first, 0)
        end = min(first + self.around, self.file_pages)
        return [other for other in range(first, end) if other != page]

    def _rejuvenate(self, page: int) -> None:
        if page not in self.young:
            return
        for generation in self.generations.values():
            if page in generation:
                generation.remove(page)
                self.generations[self.youngest].insert(0, page)
                self.young.discard(page)

    def _evict_page(self, page: int) -> None:
        self.evicted.append(page)
        self.shadows[page] = self.oldest
        self.young.discard(page)
        self.usage -= 1

    def _forget_empty(self) -> None:
        while len(self.generations) > KEPT_ALWAYS and not self.generations[self.oldest]:
            del self.generations[self.oldest]

    def _has_to_age(self) -> bool:
        """Nothing is evicted while aging is due, and from the last two generations never."""
        self._forget_empty()
        return self.is_to_age or len(self.generations) == KEPT_ALWAYS

    def _is_badly_spread(self) -> bool:
        """Whether the youngest of three generations has too many pages, or the oldest too few."""
        if len(self.generations) > KEPT_ALWAYS + 1 or self.ages_late:
            return False
        all_pages = len(self.pages())
        is_young = len(self.generations[self.youngest]) * 2 > all_pages
        return is_young or len(self.generations[self.oldest]) * 4 < all_pages

    def _age(self) -> None:
        """Make a new generation; a walk before it finds all pages that were accessed."""
        if self.walks and self.has_recency:
            for page in range(self.file_pages):
                self._rejuvenate(page)
        self.generations[self.youngest + 1] = []
        self.is_to_age = False
