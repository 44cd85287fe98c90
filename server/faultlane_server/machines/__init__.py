"""Machine profiles: what everything costs, each number with its source."""

from faultlane_server.machines.icount_guest import ICOUNT_GUEST
from faultlane_server.machines.neutral import NEUTRAL
from faultlane_server.machines.parallel_guest import PARALLEL_GUEST
from faultlane_server.machines.profile import COSTS, Cost, Lateness, MachineProfile

MACHINES: dict[str, MachineProfile] = {
    profile.name: profile for profile in (NEUTRAL, ICOUNT_GUEST, PARALLEL_GUEST)
}

__all__ = ["COSTS", "MACHINES", "Cost", "Lateness", "MachineProfile"]
