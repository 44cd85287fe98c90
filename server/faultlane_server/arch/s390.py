"""s390: do_exception() in arch/s390/mm/fault.c."""

from faultlane_server.arch.profile import ArchProfile
from faultlane_server.codes import Preemption

S390 = ArchProfile(
    name="s390",
    source="arch/s390/mm/fault.c:do_exception, Linux 6.12",
    page_sizes=(4096,),
    vma_lock_since=(6, 4),
    mmap_trylock_since=(6, 13),  # up to 6.12 a plain mmap_read_lock(); 6.13 is inferred
    mmap_killable_since=(6, 13),
    error_before_retry=True,  # in the loop under mmap_lock, Linux 6.12
    read_needs_read=False,  # DAT exceptions pass any of R, W, X
    exec_needs_exec=False,
    fetch_fails_early=True,  # a protection exception on hardware with no-execute
    fetch_flag=False,
    hardware_young=False,
    old_prefaulted=False,
    prot_fault_fails=False,
    lru_gen_walks=False,
    nonleaf_young=False,
    bits_per_long=64,
    hz_default=100,
    preemption_default=Preemption.NONE,
)
