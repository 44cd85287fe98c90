"""What a program is read with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from faultlane_server.scenario.hugetlb import vma_page_bytes
from faultlane_server.scenario.machine import Hardware
from faultlane_server.scenario.tree import File, FileMapping, HugetlbMapping, Process, Vma


@dataclass(slots=True)
class Needs:
    """What all programs need together."""

    steps: int = 0
    pages: int = 0  # of what threads map, each with a guard page
    vmas: int = 0  # that they map, or split off
    vma_places: int = 0
    opens: int = 0  # struct files that mmaps make
    list_entries: int = 0
    cursors: int = 0  # a place in a walk, for each thread and each touch that walks
    quantile_points: int = 0
    zipf_pages: int = 0  # each has its weight, for each touch
    sections: set[str] = field(default_factory=set)
    anon_names: set[str] = field(default_factory=set)
    barriers: set[tuple[str, str]] = field(default_factory=set)  # process, name


@dataclass(slots=True)
class Author:
    """A thread of the group whose program is read: what it can name, and what it has mapped."""

    process: str
    threads: int  # of its group
    vmas: Mapping[str, Vma]
    files: Mapping[str, File]
    processes: Mapping[str, Process]
    hardware: Hardware
    needs: Needs
    mapped_bytes: dict[str, int] = field(default_factory=dict)  # now, by the name mmap gave
    mapped_files: dict[str, FileMapping | None] = field(default_factory=dict)  # by the same
    reserved_bytes: dict[str, int] = field(default_factory=dict)  # at most, by the same
    hugetlb: dict[str, HugetlbMapping | None] = field(default_factory=dict)  # first, by the same

    def page_bytes(self, name: str) -> int:
        """Return the page size of what a name means."""
        backing = self.vmas[name].backing if name in self.vmas else self.hugetlb.get(name)
        return vma_page_bytes(backing, self.hardware)
