"""How a group's threads are scheduled, and where they may run."""

from collections.abc import Sequence
from dataclasses import replace

from faultlane_server.codes import SchedPolicy
from faultlane_server.scenario.limits import NICE_LEAST, NICE_MAX, RT_PRIORITY_MAX
from faultlane_server.scenario.tree import Scheduling
from faultlane_server.scenario.violations import Place

REAL_TIME = (SchedPolicy.FIFO, SchedPolicy.RR)
WITH_NICE = (SchedPolicy.OTHER, SchedPolicy.BATCH)


def check_scheduling(place: Place, scheduling: Scheduling | None) -> Scheduling:
    """Check how threads are scheduled and return it filled in."""
    scheduling = scheduling or Scheduling()
    policy = scheduling.policy or SchedPolicy.OTHER
    if not place.field("policy").want_one_of(list(SchedPolicy), policy):
        return Scheduling()
    filled = replace(scheduling, policy=SchedPolicy(policy))
    nice, rt_priority = place.field("nice"), place.field("rt_priority")
    if filled.policy in WITH_NICE:
        nice.want_between(NICE_LEAST, NICE_MAX, filled.nice)
    elif filled.nice != 0:
        nice.refuse(f"0 with policy {filled.policy.name}", filled.nice)
    if filled.policy in REAL_TIME:
        rt_priority.want_between(1, RT_PRIORITY_MAX, filled.rt_priority)
    elif filled.rt_priority != 0:
        rt_priority.refuse(f"0 with policy {filled.policy.name}", filled.rt_priority)
    return filled


def check_affinity(place: Place, cpus: Sequence[int], cpus_all: int) -> tuple[int, ...]:
    """Check on which CPUs threads may run, and return them in order; none if that is on all."""
    seen: set[int] = set()
    for index, cpu in enumerate(cpus):
        at = place.item(index)
        if at.want_between(0, max(cpus_all, 1) - 1, cpu) and cpu in seen:
            at.refuse("a CPU that is not in the list yet", cpu)
        seen.add(cpu)
    return () if len(seen) == cpus_all else tuple(sorted(seen))
