"""What the threads, files and VMAs of a run are called in its scenario."""

from bisect import bisect_right

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.scenario import Scenario

ANON_HUGEPAGE = "anon_hugepage"  # what the kernel calls the file of MAP_ANONYMOUS | MAP_HUGETLB


class Names:
    """The names of a scenario, by the numbers that the engine has for them."""

    def __init__(self, scenario: Scenario, world: np.record) -> None:
        self._world = world
        self._page_bytes = 1 << int(world.config.page_shift)
        workload = scenario.workload
        self.processes = [process.name for process in workload.processes]
        self.devices = [device.name for device in scenario.machine.devices]
        self._vmas = [vma.name for process in workload.processes for vma in process.vmas]
        self._files = [
            file.name if file.copies == 1 else f"{file.name}[{number}]"
            for file in workload.files
            for number in range(file.copies)
        ]
        self._files.append(ANON_HUGEPAGE)
        self._firsts: list[int] = []
        self._groups: list[str] = []
        threads = 0
        for process in workload.processes:
            for group in process.groups:
                self._firsts.append(threads)
                self._groups.append(group.name)
                threads += group.threads

    def thread(self, number: int) -> str:
        """Name a thread by its number and its group."""
        if number == int(self._world.kswapd):
            return "kswapd"
        group = self._groups[bisect_right(self._firsts, number) - 1]
        return f"thread {number} ({group})"

    def file(self, number: int) -> str:
        return self._files[number]

    def device(self, number: int) -> str:
        return self.devices[number]

    def vma(self, slot: int) -> str:
        """Name a VMA by its id, and by what is known of it."""
        vma = self._world.vmas[slot]
        number = int(vma.id)
        if number < len(self._vmas):
            return f"VMA {number} ({self._vmas[number]})"
        if vma.open == NOBODY:
            return f"VMA {number} (anonymous)"
        return f"VMA {number} (of {self.file(int(self._world.opens[int(vma.open)].file))})"

    def page(self, folio: int) -> str:
        """Name the page of a folio: of a file, or of anonymous memory."""
        file = int(self._world.folios[folio].file)
        if folio >= int(self._world.config.anon_first) or file == NOBODY:
            return "the anonymous page"
        return f"page {folio - int(self._world.files[file].first)} of {self.file(file)}"

    def pages(self, folio: int, pages: int) -> str:
        """Name some pages that follow each other."""
        file = int(self._world.folios[folio].file)
        if pages == 1 or folio >= int(self._world.config.anon_first) or file == NOBODY:
            return self.page(folio)
        first = folio - int(self._world.files[file].first)
        return f"pages {first} to {first + pages - 1} of {self.file(file)}"

    def address(self, page: int) -> str:
        return f"{page * self._page_bytes:#x}"
