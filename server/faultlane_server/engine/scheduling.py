"""Fills in how threads are scheduled."""

import numpy as np

from faultlane_server.codes import SchedPolicy
from faultlane_server.engine.fair import WEIGHT
from faultlane_server.scenario import Scheduling
from faultlane_server.scenario.limits import NICE_LEAST, NICE_MAX
from faultlane_server.scenario.scheduling import REAL_TIME

# sched_prio_to_weight[], from nice -20 to nice 19 (kernel/sched/core.c): a level is 10 % of a
# CPU that two threads share.
WEIGHTS = (
    *(88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916),
    *(9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277),
    *(1024, 820, 655, 526, 423, 335, 272, 215, 172, 137),
    *(110, 87, 70, 56, 45, 36, 29, 23, 18, 15),
)
PRIORITY_REAL_TIME = 100  # above all nice levels
WEIGHT_IDLE = 3  # WEIGHT_IDLEPRIO
RR_SLICE_NS = 100_000_000  # RR_TIMESLICE


def lay_scheduling(config: np.record, rows: np.recarray, scheduling: Scheduling) -> None:
    """Let threads have a policy, a weight and slices in virtual time."""
    weight = WEIGHTS[scheduling.nice - NICE_LEAST]
    if scheduling.policy == SchedPolicy.IDLE:
        weight = WEIGHT_IDLE
    rows["policy"] = scheduling.policy
    rows["weight"] = weight
    rows["priority"] = _priority(scheduling)
    rows["slice_ns"] = int(config.base_slice_ns) * WEIGHT // weight
    most_ns = max(2 * int(config.base_slice_ns), int(config.jiffy_ns))
    rows["lag_max_ns"] = most_ns * WEIGHT // weight


def _priority(scheduling: Scheduling) -> int:
    """Return how urgent threads are: 0 for SCHED_IDLE, 1 to 40 by nice level, above by priority."""
    if scheduling.policy == SchedPolicy.IDLE:
        return 0
    if scheduling.policy in REAL_TIME:
        return PRIORITY_REAL_TIME + scheduling.rt_priority
    return NICE_MAX + 1 - scheduling.nice
