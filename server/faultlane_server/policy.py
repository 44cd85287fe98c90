"""The table of retry policies, by the ids of the kernel discussion.

A policy is a row and a row holds no code: what the columns mean is decided in
`engine/fault/retry.py`. Sources: "mm: continue using per-VMA lock when retrying
page faults after I/O" (linux-mm, 2025-11-27 to 30) and the alternatives named
in that thread.
"""

from typing import NamedTuple

from faultlane_server.codes import DropForIo, RetryReason

NO_EXIT = 0
F7 = 1 << RetryReason.F7
F8 = 1 << RetryReason.F8
ANY_EXIT = 0x7FFFFFFF


class RetryRule(NamedTuple):
    """What a fault does that must be tried again."""

    vma_lock_on: int  # mask over RetryReason: the exits that go back to the VMA lock
    drop_for_io: DropForIo  # when the fault lock is let go while a page is read


class Policy(NamedTuple):
    """A row of the table."""

    description: str
    file: RetryRule  # for faults on file mappings


MAINLINE = RetryRule(NO_EXIT, DropForIo.ALWAYS)

POLICIES: dict[str, Policy] = {
    "mainline": Policy("let the lock go for I/O and retry under mmap_lock", MAINLINE),
    "rfc": Policy(
        "retry under the VMA lock after readahead or a wait for another's read"
        " (both patches of the RFC)",
        MAINLINE._replace(vma_lock_on=F7),
    ),
    "hold": Policy(
        "hold the VMA lock across I/O; faults on mmap_lock behave as mainline",
        MAINLINE._replace(drop_for_io=DropForIo.MMAP_ONLY),
    ),
    "blind": Policy(
        "retry under the VMA lock whatever the reason", MAINLINE._replace(vma_lock_on=ANY_EXIT)
    ),
}
