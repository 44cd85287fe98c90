"""The table of kernel generations."""

from typing import NamedTuple

from faultlane_server.codes import VmaLockDesign


class KernelGeneration(NamedTuple):
    """What differs between kernels, as far as the model tells them apart."""

    description: str
    vma_lock: VmaLockDesign


KERNELS: dict[str, KernelGeneration] = {
    "6.12": KernelGeneration(
        "6.12 LTS: the VMA lock is a rw_semaphore of its own", VmaLockDesign.RWSEM
    ),
    "6.15": KernelGeneration(
        "6.15 and later: the VMA lock is a reference count (vm_refcnt)", VmaLockDesign.REFCOUNT
    ),
}
