"""Architectures: one row of facts for each."""

from faultlane_server.arch.arm import ARM
from faultlane_server.arch.arm64 import ARM64
from faultlane_server.arch.loongarch import LOONGARCH
from faultlane_server.arch.powerpc import POWERPC
from faultlane_server.arch.profile import ArchProfile
from faultlane_server.arch.riscv import RISCV
from faultlane_server.arch.s390 import S390
from faultlane_server.arch.x86 import X86

ROWS = (ARM, ARM64, LOONGARCH, POWERPC, RISCV, S390, X86)

ARCHITECTURES: dict[str, ArchProfile] = {profile.name: profile for profile in ROWS}

__all__ = ["ARCHITECTURES", "ArchProfile"]
