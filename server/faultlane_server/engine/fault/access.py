"""Which accesses a VMA allows (access_error of the architectures)."""

from faultlane_server.codes import Access
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory.page_table import EXEC, READ, WRITE, pte_bit
from faultlane_server.engine.world import PTE_NUMA, PTE_PRESENT


@compiled
def is_allowed(world, vma, fault):
    """Whether a VMA allows the access of a fault."""
    config = world.config
    if fault.access == Access.WRITE:
        return vma.protection & WRITE != 0
    pte = world.ptes[vma.pte + (fault.page - vma.start)]
    is_mapped = pte & (PTE_PRESENT | PTE_NUMA) == PTE_PRESENT
    if config.prot_fault_fails and is_mapped and not pte & pte_bit(fault.access):
        return False
    if fault.access == Access.EXEC and config.exec_needs_exec:
        return vma.protection & EXEC != 0
    if fault.access == Access.READ and config.read_needs_read:
        return vma.protection & (READ | WRITE) != 0
    return vma.protection & (READ | WRITE | EXEC) != 0
