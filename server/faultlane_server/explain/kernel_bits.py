"""FAULT_FLAG_* and VM_FAULT_*, as the kernel of a scenario has them.

The engine's VM_FAULT bits are those of the RFC. A kernel without a bit of its own for retries under
the VMA lock has VM_FAULT_COMPLETED one place lower; the kernel of `retry_hard` has the same layout
as the RFC's, with the meaning of its bit the other way round.
"""

from enum import IntFlag

import numpy as np

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import Access, FaultLock, RetryReason, VmFault
from faultlane_server.policy import ANY, HARD, POLICIES, RetryPolicy
from faultlane_server.scenario import Scenario

NEW_BIT = 0x000800  # VM_FAULT_RETRY_VMA, or VM_FAULT_RETRY_HARD
COMPLETED_WITHOUT_IT = 0x004000
NOT_HARD = tuple(reason for reason in ANY if reason not in HARD)


class FaultFlag(IntFlag):
    """FAULT_FLAG_* (include/linux/mm_types.h)."""

    WRITE = 1 << 0
    ALLOW_RETRY = 1 << 2
    KILLABLE = 1 << 4
    TRIED = 1 << 5
    USER = 1 << 6
    INSTRUCTION = 1 << 8
    INTERRUPTIBLE = 1 << 9
    VMA_LOCK = 1 << 12


DEFAULT = FaultFlag.ALLOW_RETRY | FaultFlag.KILLABLE | FaultFlag.INTERRUPTIBLE


class KernelBits:
    """What the kernel of a scenario writes down as flags and results."""

    def __init__(self, scenario: Scenario) -> None:
        policy = scenario.kernel.policy
        columns = POLICIES[policy].columns if isinstance(policy, str) else policy
        self._new_bit = _new_bit_of(columns)
        self._arch = ARCHITECTURES[scenario.machine.arch]

    def fault_flags(self, fault: np.record, is_tried: bool) -> FaultFlag:
        """Return the flags of an attempt of a fault."""
        flags = DEFAULT
        if not fault.kernel_mode:
            flags |= FaultFlag.USER
        if fault.access == Access.WRITE:
            flags |= FaultFlag.WRITE
        if fault.access == Access.EXEC and self._arch.fetch_flag:
            flags |= FaultFlag.INSTRUCTION
        if fault.lock == FaultLock.VMA:
            flags |= FaultFlag.VMA_LOCK
        return flags | FaultFlag.TRIED if is_tried else flags

    def result(self, fault: np.record) -> int:
        """Return the VM_FAULT_* bits with which an attempt has ended."""
        bits = int(fault.result) & ~int(VmFault.RETRY_VMA | VmFault.COMPLETED)
        if fault.result & VmFault.COMPLETED:
            bits |= VmFault.COMPLETED if self._new_bit else COMPLETED_WITHOUT_IT
        is_retry = bool(fault.result & VmFault.RETRY)
        if self._new_bit == "VM_FAULT_RETRY_VMA" and fault.result & VmFault.RETRY_VMA:
            bits |= NEW_BIT
        if self._new_bit == "VM_FAULT_RETRY_HARD" and is_retry and fault.retry_reason in HARD:
            bits |= NEW_BIT
        return bits

    def result_names(self, bits: int) -> str:
        """Return the names of such bits, as they stand in the source; `0` if there are none."""
        names = [f"VM_FAULT_{bit.name}" for bit in _PLAIN if bits & bit]
        if bits & NEW_BIT:
            names.append(self._new_bit)
        if bits & (VmFault.COMPLETED if self._new_bit else COMPLETED_WITHOUT_IT):
            names.append("VM_FAULT_COMPLETED")
        return "|".join(names) or "0"


_PLAIN = [bit for bit in VmFault if bit not in (VmFault.RETRY_VMA, VmFault.COMPLETED)]


def flag_names(flags: int) -> str:
    """Return the names of flags; those of FAULT_FLAG_DEFAULT under that name."""
    names = ["DEFAULT"] if flags & DEFAULT == DEFAULT else []
    names += [str(flag.name) for flag in FaultFlag if flags & flag and flag not in DEFAULT]
    return "FAULT_FLAG_" + "|".join(names)


def _new_bit_of(policy: RetryPolicy) -> str:
    """Return the name of the bit that tells retries apart, or nothing if a policy needs none.

    To retry under the VMA lock whatever the reason takes no bit.
    """
    rules = (policy.file, policy.anonymous, policy.swap, policy.shmem)
    exits: set[frozenset[RetryReason]] = {frozenset(rule.vma_lock_on) for rule in rules}
    exits -= {frozenset(), frozenset(ANY)}
    if not exits:
        return ""
    return "VM_FAULT_RETRY_HARD" if exits == {frozenset(NOT_HARD)} else "VM_FAULT_RETRY_VMA"
