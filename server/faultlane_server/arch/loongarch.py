"""loongarch: __do_page_fault() in arch/loongarch/mm/fault.c."""

from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.codes import Preemption

LOONGARCH = ArchProfile(
    name="loongarch",
    source="arch/loongarch/mm/fault.c:__do_page_fault, Linux 6.12 and 6.18",
    page_sizes=(4096, 16384, 65536),
    vma_lock_since=(6, 18),  # 6.12 has no path under the VMA lock
    mmap_trylock_since=ALWAYS,
    mmap_killable_since=(6, 5),  # lock_mm_and_find_vma()
    error_before_retry=False,
    read_needs_read=True,
    exec_needs_exec=True,  # recognised by the fault address being the program counter
    fetch_fails_early=False,
    fetch_flag=False,
    hardware_young=False,  # tracked by the TLB handlers
    old_prefaulted=False,
    prot_fault_fails=False,
    lru_gen_walks=False,
    nonleaf_young=False,
    bits_per_long=64,
    hz_default=250,
    preemption_default=Preemption.FULL,
)
