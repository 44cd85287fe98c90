"""Memory, files and CPUs of Linux, by its own system calls.

A call from Python takes longer than some system calls do. So each of them has a twin here that
does nothing, with as many arguments: what a batch of twins takes is what the calls cost.
"""

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from faultlane.calibrate.stopwatch import Unmeasurable

Bytes = NDArray[np.uint8]
Call = Callable[..., int]

PAGE = mmap.PAGESIZE

READ = mmap.PROT_READ
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
FIXED_NOREPLACE = 0x100000  # MAP_FIXED_NOREPLACE, the same on all architectures but two
MADV_NORMAL = 0
MADV_DONTNEED = 4
MADV_NOHUGEPAGE = 15
MS_ASYNC = 1
MS_OF_NO_KIND = 1 << 30  # flags that msync refuses before it takes any lock


class Libc:
    """Calls of the C library, and twins of them that do nothing."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.getppid = self._call("getppid", 0)
        self.mmap = self._call("mmap", 6)
        self.munmap = self._call("munmap", 2)
        self.mprotect = self._call("mprotect", 3)
        self.madvise = self._call("madvise", 3)
        self.msync = self._call("msync", 3)

    def nothing(self, arguments: int) -> Call:
        """A function of the library that makes no system call and ignores most arguments."""
        return self._call("labs" if arguments else "getpagesize", arguments)

    def _call(self, name: str, arguments: int) -> Call:
        call = self._library[name]
        call.argtypes = [ctypes.c_long] * arguments
        call.restype = ctypes.c_long
        return call


LIBC = Libc()
ALLOWED_CPUS = sorted(os.sched_getaffinity(0))  # for this process


def call_all(call: Call, arguments: Sequence[tuple[int, ...]]) -> list[int]:
    """Make one call after the other, as quickly as Python can."""
    return [call(*each) for each in arguments]


def require_success(what: str, results: Sequence[int]) -> None:
    """Raise Unmeasurable if a call failed."""
    if -1 in results:
        code = ctypes.get_errno()
        raise Unmeasurable(f"{what}: {errno.errorcode.get(code, code)}")


class Mapping:
    """Some pages of memory that become huge under no circumstances."""

    def __init__(self, pages: int, protection: int, file: int = -1) -> None:
        flags = ANONYMOUS if file < 0 else mmap.MAP_SHARED
        self.bytes = pages * PAGE
        self.address = LIBC.mmap(0, self.bytes, protection, flags, file, 0)
        require_success("mmap", [self.address])
        LIBC.madvise(self.address, self.bytes, MADV_NOHUGEPAGE)  # old kernels know of none

    def every(self, pages: int) -> Bytes:
        """The first byte of one page in so many."""
        whole = (ctypes.c_uint8 * self.bytes).from_address(self.address)
        bytes_: Bytes = np.ctypeslib.as_array(whole)
        return bytes_[:: pages * PAGE]

    def forget(self) -> None:
        """Let all page-table entries go, and what only they lead to."""
        result = LIBC.madvise(self.address, self.bytes, MADV_DONTNEED)
        require_success("madvise", [result])

    def close(self) -> None:
        """Unmap it: whoever has its bytes must not look at them any more."""
        LIBC.munmap(self.address, self.bytes)


@contextmanager
def mapped(pages: int, protection: int, file: int = -1) -> Iterator[Mapping]:
    """Some memory, for a while."""
    mapping = Mapping(pages, protection, file)
    try:
        yield mapping
    finally:
        mapping.close()


@contextmanager
def cached_file(pages: int, every: int) -> Iterator[int]:
    """A file of which one page in so many is in the page cache, and nothing anywhere else."""
    file = os.memfd_create("faultlane-calibrate")
    try:
        os.ftruncate(file, pages * PAGE)
        for page in range(0, pages, every):
            os.pwrite(file, b"\1" * PAGE, page * PAGE)
        yield file
    finally:
        os.close(file)


def hole(pages: int) -> int:
    """The address of so many pages that belong to nobody, with a page on either side."""
    with mapped(pages + 2, READ) as mapping:
        return mapping.address + PAGE


def minor_faults() -> int:
    """How many faults this process has had that read nothing."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def is_busy() -> bool:
    """Whether so many others are at work that CPUs of ours may not be idle when they could be."""
    return os.getloadavg()[0] >= len(ALLOWED_CPUS) / 2


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """This thread on one CPU, for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
