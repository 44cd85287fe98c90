"""arm (32-bit): do_page_fault() in arch/arm/mm/fault.c."""

from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.codes import Preemption

ARM = ArchProfile(
    name="arm",
    source="arch/arm/mm/fault.c:do_page_fault, Linux 6.12",
    page_sizes=(4096,),
    vma_lock_since=(6, 8),  # inferred: merged after 6.7; 6.7.10 has it as a backport
    mmap_trylock_since=ALWAYS,
    mmap_killable_since=(6, 5),  # lock_mm_and_find_vma()
    error_before_retry=True,  # RETRY counts only without an error
    read_needs_read=False,  # the default mask is any of VM_READ, VM_WRITE, VM_EXEC
    exec_needs_exec=True,  # prefetch abort
    fetch_fails_early=False,
    fetch_flag=False,
    hardware_young=False,
    old_prefaulted=False,
    prot_fault_fails=False,
    lru_gen_walks=False,
    nonleaf_young=False,
    bits_per_long=32,
    hz_default=100,  # the first entry of a choice without a default
    preemption_default=Preemption.NONE,
)
