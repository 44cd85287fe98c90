"""riscv: handle_page_fault() in arch/riscv/mm/fault.c."""

from faultlane_server.arch.profile import ArchProfile

RISCV = ArchProfile(
    name="riscv",
    source="arch/riscv/mm/fault.c:handle_page_fault, Linux 6.12",
    page_sizes=(4096,),
    vma_lock_since=(6, 5),  # from memory, not verified
    mmap_trylock_since=(6, 4),
    read_needs_read=True,
    exec_needs_exec=True,
    prot_fault_fails=False,
    hz_default=250,
)
