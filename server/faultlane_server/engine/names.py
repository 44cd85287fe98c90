"""What the numbers of a record stand for, as its scenario calls it."""

from typing import NamedTuple

from faultlane_server.engine.world import GROUPS_MAX
from faultlane_server.scenario import Scenario

OTHER_GROUPS = "(other groups)"


class Names(NamedTuple):
    """Names of sections, thread groups, processes, files and VMAs, by their numbers."""

    sections: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    vmas: tuple[str, ...] = ()  # of those that were there from the start


def names_in(scenario: Scenario, sections: tuple[str, ...]) -> Names:
    """Return the names of a scenario. Where there are several processes, theirs stand in front."""
    processes = scenario.workload.processes
    many = len(processes) > 1
    groups = [(process, group) for process in processes for group in process.groups]
    vmas = [(process, vma) for process in processes for vma in process.vmas]
    return Names(
        sections,
        _group_names([_full(process.name, group.name, many) for process, group in groups]),
        tuple(process.name for process in processes),
        tuple(file.name for file in scenario.workload.files for _ in range(file.copies)),
        tuple(_full(process.name, vma.name, many) for process, vma in vmas),
    )


def _full(process: str, name: str, many: bool) -> str:
    return f"{process}/{name}" if many else name


def _group_names(names: list[str]) -> tuple[str, ...]:
    """Return the names of groups that are told apart; all others have the last one."""
    told_apart = GROUPS_MAX - 2
    if len(names) <= told_apart + 1:
        return tuple(names)
    return (*names[:told_apart], OTHER_GROUPS)
