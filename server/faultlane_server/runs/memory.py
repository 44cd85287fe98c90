"""How much memory a run takes, and how much there is.

Runs are threads of one process, so the system does not count for each of them. But nearly
all that a run has is one record, as large as the largest run needs and taken from the system
page by page as it is touched; so its pages that are there are what the run takes.
"""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

_libc = ctypes.CDLL(None, use_errno=True)


def resident_bytes(record: "NDArray[np.void]") -> int:
    """Return how much of an array has a page. Asks the system: 2 ms for a gigabyte and a half."""
    page = mmap.PAGESIZE
    begin = record.ctypes.data // page * page
    pages = -(-(record.ctypes.data + record.nbytes - begin) // page)
    found = np.empty(pages, np.uint8)
    arguments = (begin, pages * page, found.ctypes.data)
    if _libc.mincore(*map(ctypes.c_size_t, arguments)):
        raise OSError(ctypes.get_errno(), "mincore")
    return int(np.count_nonzero(found & 1)) * page


def machine_bytes() -> int:
    """Return how much memory the machine has, or the container."""
    found = [os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE]
    for path in CGROUP_LIMITS:
        text = path.read_text().strip() if path.exists() else ""
        if text.isdecimal():  # else there is none
            found.append(int(text))
    return min(found)
