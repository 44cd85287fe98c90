"""The table of retry policies, by the ids of the kernel discussion.

A policy is a row and a row holds no code: what the columns mean is decided in
`engine/fault/retry.py`. Sources: "mm: continue using per-VMA lock when retrying
page faults after I/O" (linux-mm, 2025-11-27 to 30), its second version (April to
June 2026), and the alternatives named in these threads.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from faultlane_server.codes import DropForIo, RelockAndMap, RetryReason, UptodateDirect

F7 = (RetryReason.F7,)
F7_S4 = (RetryReason.F7, RetryReason.S4)
F7_F8_S4 = (RetryReason.F7, RetryReason.F8, RetryReason.S4)
ANY = tuple(RetryReason)
HARD = (
    RetryReason.NO_MAP_PAGES,
    RetryReason.ANON_VMA,
    RetryReason.UNSUPPORTED,
    RetryReason.DEVICE_PRIVATE,
)


@dataclass(frozen=True, slots=True)
class RetryRule:
    """What a fault does that must be tried again, or that waits. Fields as in the proto."""

    vma_lock_on: tuple[RetryReason, ...] = ()
    vma_retries_max: int = 0
    vma_retry_sets_tried: bool = False
    drop_for_io: DropForIo = DropForIo.ALWAYS
    uptodate_direct: UptodateDirect = UptodateDirect.NO
    uptodate_killable: bool = False
    relock_and_map: RelockAndMap = RelockAndMap.NO


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The columns of a policy. Fields as in the proto."""

    mmap_lock_only: bool = False
    file: RetryRule = RetryRule()
    anonymous: RetryRule = RetryRule()
    swap: RetryRule = RetryRule()
    shmem: RetryRule = RetryRule()


class Policy(NamedTuple):
    """A row of the table."""

    description: str
    source: str
    columns: RetryPolicy


RFC = "RFC, 2025-11-27"
THREAD = "proposed in the RFC's thread, 2025-11-27 to 30"

RFC_RULE = RetryRule(vma_lock_on=F7_S4)
HOLD = RetryRule(drop_for_io=DropForIo.MMAP_ONLY)


def _all(rule: RetryRule) -> RetryPolicy:
    """Return a policy that treats all faults alike."""
    return RetryPolicy(file=rule, anonymous=rule, swap=rule, shmem=rule)


POLICIES: dict[str, Policy] = {
    "mainline": Policy(
        "let the lock go for I/O and retry under mmap_lock", "Linux 6.12", RetryPolicy()
    ),
    "mmap_lock_only": Policy(
        "no fault uses the VMA lock", "Linux before 6.4", RetryPolicy(mmap_lock_only=True)
    ),
    "rfc_file": Policy(
        "retry under the VMA lock after readahead or a wait for another's read: patch 1 of the RFC",
        RFC,
        _all(RetryRule(vma_lock_on=F7)),
    ),
    "rfc": Policy(
        "as rfc_file, and swap-in as well: both patches of the RFC",
        RFC,
        _all(RFC_RULE),
    ),
    "rfc_all_reads": Policy(
        "as rfc, and after the synchronous read of one page as well",
        "derived from the RFC: its uncovered exit",
        _all(RetryRule(vma_lock_on=F7_F8_S4)),
    ),
    "rfc_uptodate": Policy(
        "as rfc, and wait for the lock of a folio that is up to date without letting go",
        THREAD,
        _all(replace(RFC_RULE, uptodate_direct=UptodateDirect.YES)),
    ),
    "v2": Policy(
        "as rfc_uptodate, but that wait can be killed: the second version",
        "PATCH v2, 2026-04-30",
        _all(
            replace(RFC_RULE, uptodate_direct=UptodateDirect.YES, uptodate_killable=True),
        ),
    ),
    "blind": Policy(
        "retry under the VMA lock whatever the reason", THREAD, _all(RetryRule(vma_lock_on=ANY))
    ),
    "blind_once": Policy(
        "as blind, but once for each fault; then mmap_lock",
        "a test patch for LoongArch",
        _all(RetryRule(vma_lock_on=ANY, vma_retries_max=1)),
    ),
    "retry_hard": Policy(
        "retry under the VMA lock unless that cannot work (VM_FAULT_RETRY_HARD)",
        "proposed 2026-05-22",
        _all(RetryRule(vma_lock_on=tuple(reason for reason in ANY if reason not in HARD))),
    ),
    "hold": Policy(
        "hold the VMA lock across I/O; faults on mmap_lock behave as mainline", THREAD, _all(HOLD)
    ),
    "never_drop": Policy(
        "hold whichever lock the fault has across I/O, mmap_lock too",
        THREAD,
        _all(replace(HOLD, drop_for_io=DropForIo.NEVER)),
    ),
    "relock": Policy(
        "let the lock go for I/O, then try to take it again and map the page in the same attempt",
        THREAD,
        _all(RetryRule(relock_and_map=RelockAndMap.TRY)),
    ),
    "relock_blocking": Policy(
        "as relock, but wait for mmap_lock with the folio locked: deadlocks, a counterexample",
        "derived from the lock order",
        _all(RetryRule(relock_and_map=RelockAndMap.BLOCKING)),
    ),
    "split_by_kind": Policy(
        "hold for file mappings, rfc for anonymous memory",
        "third approach of 2026",
        RetryPolicy(file=HOLD, anonymous=RFC_RULE, swap=RFC_RULE, shmem=HOLD),
    ),
}
