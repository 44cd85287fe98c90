"""powerpc: ___do_page_fault() in arch/powerpc/mm/fault.c, pseries and powernv."""

from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.codes import Preemption

POWERPC = ArchProfile(
    name="powerpc",
    source="arch/powerpc/mm/fault.c:___do_page_fault, Linux 6.12",
    page_sizes=(4096, 65536),  # book3s64; its default is 64K
    vma_lock_since=(6, 4),  # pseries and powernv alone
    mmap_trylock_since=ALWAYS,
    mmap_killable_since=(6, 5),  # lock_mm_and_find_vma()
    error_before_retry=False,
    read_needs_read=True,  # accessible, and not executable alone
    exec_needs_exec=True,
    fetch_fails_early=False,
    fetch_flag=True,
    hardware_young=False,
    old_prefaulted=False,
    prot_fault_fails=False,
    lru_gen_walks=False,
    nonleaf_young=False,
    bits_per_long=64,
    hz_default=100,
    preemption_default=Preemption.VOLUNTARY,
)
