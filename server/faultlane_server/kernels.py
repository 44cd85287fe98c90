"""The table of kernel generations."""

from typing import NamedTuple

from faultlane_server.codes import VmaLockDesign


class KernelGeneration(NamedTuple):
    """What differs between kernels, as far as the model tells them apart."""

    description: str
    release: tuple[int, int]  # whose facts hold, where architectures changed theirs
    vma_lock: VmaLockDesign


KERNELS: dict[str, KernelGeneration] = {
    "6.12": KernelGeneration(
        "6.12 LTS: the VMA lock is a rw_semaphore of its own", (6, 12), VmaLockDesign.RWSEM
    ),
    "6.15": KernelGeneration(
        "6.15 to 6.17: the VMA lock is a reference count (vm_refcnt)",
        (6, 15),
        VmaLockDesign.REFCOUNT,
    ),
    "6.18": KernelGeneration(
        "6.18 and later, what the RFC was made for: as 6.15, and LoongArch has the VMA lock",
        (6, 18),
        VmaLockDesign.REFCOUNT,
    ),
}
