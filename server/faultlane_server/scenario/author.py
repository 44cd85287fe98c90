"""What a program is read with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from faultlane_server.scenario.machine import Hardware
from faultlane_server.scenario.tree import Vma


@dataclass(slots=True)
class Needs:
    """What all programs need together."""

    steps: int = 0
    list_entries: int = 0
    cursors: int = 0  # a place in a walk, for each thread and each touch that walks
    quantile_points: int = 0
    sections: set[str] = field(default_factory=set)
    barriers: set[tuple[str, str]] = field(default_factory=set)  # process, name
    zipf_laws: set[tuple[int, int]] = field(default_factory=set)  # pages, theta


@dataclass(slots=True)
class Author:
    """A thread of the group whose program is read: what it can name, and what it has mapped."""

    process: str
    threads: int  # of its group
    vmas: Mapping[str, Vma]
    hardware: Hardware
    needs: Needs
    mapped_bytes: dict[str, int] = field(default_factory=dict)  # by the name that mmap gave
