"""x86: do_user_addr_fault() in arch/x86/mm/fault.c."""

from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.codes import Preemption

X86 = ArchProfile(
    name="x86",
    source="arch/x86/mm/fault.c:do_user_addr_fault, Linux 6.12",
    page_sizes=(4096,),
    vma_lock_since=(6, 4),
    mmap_trylock_since=ALWAYS,
    mmap_killable_since=(6, 5),  # lock_mm_and_find_vma()
    error_before_retry=False,
    read_needs_read=False,  # access_error(): any of VM_READ, VM_WRITE, VM_EXEC
    exec_needs_exec=False,  # VM_EXEC is not tested for an absent page
    fetch_fails_early=False,
    fetch_flag=True,
    hardware_young=True,
    old_prefaulted=False,
    prot_fault_fails=True,  # access_error(): PF_PROT on a read
    lru_gen_walks=True,
    nonleaf_young=True,
    bits_per_long=64,
    hz_default=1000,
    preemption_default=Preemption.VOLUNTARY,
)
