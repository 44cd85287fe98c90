"""What an architecture's page-fault handler differs in: structure, no costs."""

from typing import NamedTuple

from faultlane_server.codes import Preemption

ALWAYS = (0, 0)  # a release before all that are simulated


class ArchProfile(NamedTuple):
    """One row for each architecture. No field has a default."""

    name: str
    source: str  # the handler whose facts these are
    page_sizes: tuple[int, ...]  # bytes, smallest first
    vma_lock_since: tuple[int, int]  # first release whose faults use the VMA lock
    mmap_trylock_since: tuple[int, int]  # M0 tries before it waits
    mmap_killable_since: tuple[int, int]  # its wait can be killed
    error_before_retry: bool  # M3 to M5 look for an error first; no attempt ends in both
    read_needs_read: bool  # a load needs VM_READ or VM_WRITE; else any of R, W, X will do
    exec_needs_exec: bool  # an instruction fetch of an absent page needs VM_EXEC
    fetch_fails_early: bool  # a fetch from a page that is mapped without the right takes no lock
    fetch_flag: bool  # a fetch sets FAULT_FLAG_INSTRUCTION
    hardware_young: bool  # the hardware makes an entry young; else an access to an old one faults
    old_prefaulted: bool  # what fault-around maps beside the page is old (until it is accessed)
    prot_fault_fails: bool  # a load or fetch from a page that is mapped without the right fails
    lru_gen_walks: bool  # CONFIG_LRU_GEN_WALKS_MMU: aging can walk page tables
    nonleaf_young: bool  # arch_has_hw_nonleaf_pmd_young()
    bits_per_long: int  # MIN_LRU_BATCH: how many entries lru_gen_look_around() looks at
    hz_default: int  # CONFIG_HZ of the defconfig
    preemption_default: Preemption  # CONFIG_PREEMPT* of the defconfig

    @property
    def handler(self) -> str:
        """The name of that handler."""
        return self.source.partition(":")[2].partition(",")[0]
