"""The table of kernel generations.

Sources: mm/memory.c, mm/mmap_lock.c and arch/*/mm/fault.c of the releases, as far as they could
be read (6.1, 6.5, 6.6, 6.7, 6.10, 6.12, 6.16), and the pull requests of 6.4, 6.6, 6.7, 6.10, 6.15
and 6.18, which name what they bring. What 6.8 and 6.9 do is inferred from these; that of 6.9 names
the handling of hugetlb under the VMA lock, which the generation 6.7 leaves to its mmap_lock.
"""

from typing import NamedTuple

from faultlane_server.codes import VmaLockDesign, VmaLockFaults


class KernelGeneration(NamedTuple):
    """What differs between kernels, as far as the model tells them apart. No field has a default.

    The generation stands for the releases that its description names.
    """

    description: str
    release: tuple[int, int]  # whose facts hold, where architectures changed theirs
    vma_lock: VmaLockDesign
    vma_lock_faults: VmaLockFaults  # which faults on file mappings the VMA lock is enough for
    vma_access_errors: bool  # a refused access ends under the VMA lock; else mmap_lock decides
    anon_vma_trylock: bool  # the first private write tries mmap_lock; else it retries under it
    major_sets_tried: bool  # VM_FAULT_MAJOR under the VMA lock sets FAULT_FLAG_TRIED
    pgfault_per_attempt: bool  # PGFAULT counts attempts; else faults


V6_12 = KernelGeneration(
    "6.10 to 6.14, of which 6.12 is the LTS: the VMA lock is a rw_semaphore of its own",
    (6, 12),
    VmaLockDesign.RWSEM,
    VmaLockFaults.ALL,
    vma_access_errors=True,
    anon_vma_trylock=True,
    major_sets_tried=True,
    pgfault_per_attempt=False,
)

V6_7 = V6_12._replace(
    description="6.7 to 6.9: all faults on files under the VMA lock, but the first private write"
    " of a VMA, refused accesses and hugetlb (until 6.8), need mmap_lock",
    release=(6, 7),
    vma_access_errors=False,
    anon_vma_trylock=False,
)

V6_6 = V6_7._replace(
    description="6.6: fault-around is all that the VMA lock is enough for, where a file is mapped",
    release=(6, 6),
    vma_lock_faults=VmaLockFaults.FAULT_AROUND,
    major_sets_tried=False,
)

V6_4 = V6_6._replace(
    description="6.4 and 6.5: no faults on file mappings under the VMA lock",
    release=(6, 4),
    vma_lock_faults=VmaLockFaults.NONE,
)

V6_3 = V6_4._replace(
    description="6.3 and before: there is no VMA lock",
    release=(6, 3),
    vma_lock=VmaLockDesign.NONE,
    pgfault_per_attempt=True,
)

V6_15 = V6_12._replace(
    description="6.15 to 6.17: the VMA lock is a reference count (vm_refcnt)",
    release=(6, 15),
    vma_lock=VmaLockDesign.REFCOUNT,
)

V6_18 = V6_15._replace(
    description="6.18 and later, what the RFC was made for: as 6.15, and LoongArch has the VMA"
    " lock",
    release=(6, 18),
)

KERNELS: dict[str, KernelGeneration] = {
    "6.3": V6_3,
    "6.4": V6_4,
    "6.6": V6_6,
    "6.7": V6_7,
    "6.12": V6_12,
    "6.15": V6_15,
    "6.18": V6_18,
}
