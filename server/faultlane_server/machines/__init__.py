"""Machine profiles: what everything costs, each number with its source."""

from faultlane_server.machines.android_phone import ANDROID_PHONE
from faultlane_server.machines.architectures import ARCHITECTURES
from faultlane_server.machines.icount_guest import ICOUNT_GUEST
from faultlane_server.machines.neutral import NEUTRAL
from faultlane_server.machines.parallel_guest import PARALLEL_GUEST
from faultlane_server.machines.pft_server import PFT_SERVER
from faultlane_server.machines.profile import COSTS, Cost, Lateness, MachineProfile

MACHINES: dict[str, MachineProfile] = {
    profile.name: profile
    for profile in (
        NEUTRAL,
        ICOUNT_GUEST,
        PARALLEL_GUEST,
        PFT_SERVER,
        ANDROID_PHONE,
        *ARCHITECTURES,
    )
}

__all__ = ["COSTS", "MACHINES", "Cost", "Lateness", "MachineProfile"]
