"""Architectures: one row of facts for each."""

from faultlane_server.arch.arm64 import ARM64
from faultlane_server.arch.profile import ArchProfile
from faultlane_server.arch.x86 import X86

ARCHITECTURES: dict[str, ArchProfile] = {profile.name: profile for profile in (X86, ARM64)}
