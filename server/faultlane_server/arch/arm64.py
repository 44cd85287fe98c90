"""arm64: do_page_fault() in arch/arm64/mm/fault.c."""

from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.codes import Preemption

ARM64 = ArchProfile(
    name="arm64",
    source="arch/arm64/mm/fault.c:do_page_fault, Linux 6.12",
    page_sizes=(4096, 16384, 65536),
    vma_lock_since=(6, 4),
    mmap_trylock_since=ALWAYS,
    mmap_killable_since=(6, 5),  # lock_mm_and_find_vma()
    error_before_retry=False,
    read_needs_read=True,  # VM_READ or VM_WRITE, on a CPU that has EPAN
    exec_needs_exec=True,
    fetch_fails_early=False,
    fetch_flag=True,
    hardware_young=True,  # on a CPU that has the access flag in hardware
    old_prefaulted=True,
    prot_fault_fails=False,
    lru_gen_walks=True,
    nonleaf_young=False,
    bits_per_long=64,
    hz_default=250,
    preemption_default=Preemption.FULL,
)
