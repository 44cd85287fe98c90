"""Cells of the kernel model's table of golden scenarios.

They are typed from the table, or derived from what a policy changes, and never taken from a run.
A row has the columns mainline and rfc as they stand in the table, at pages of 4K, and those that
are derived, each with its reason. What a row does not say again follows from two rules:

* A policy whose cell is missing has that of the policy in SAME_AS. For the column rfc this is the
  table's "same". Of the derived ones, some are equal by definition as far as files go: rfc_file
  and rfc differ in swap-in only, and there split_by_kind is rfc, and hold everywhere else. The
  others differ from the policy that they add to only where what they add matters.
* `at_page_size` turns a cell into that of larger pages.
"""

import re
from typing import NamedTuple

FAULT_AROUND_BYTES = 65536
READAHEAD_BYTES = 131072

SAME_AS = {
    "rfc": "mainline",
    "rfc_file": "rfc",
    "rfc_uptodate": "rfc",  # adds: a ready folio that is locked is waited for directly
    "v2": "rfc_uptodate",  # adds: and can be killed meanwhile
    "rfc_all_reads": "rfc",  # adds: V after F8
    "retry_hard": "rfc_all_reads",  # adds: V after a wait that was killed
    "blind": "retry_hard",  # adds: V where it is of no use: #7 and #8 of the RETRY sources
    "blind_once": "blind",  # adds: but V once only
    "hold": "mainline",
    "split_by_kind": "hold",
    "never_drop": "hold",  # adds: mmap_lock is held as well
    "relock": "mainline",
    "relock_blocking": "relock",  # adds: waits for mmap_lock, if the lock is not to be had at once
}


class Windows(NamedTuple):
    """What the default windows come to, in pages of some size."""

    around: int  # fault-around; off if it is one page
    ahead: int  # ra_pages
    marked: int  # the async part of a read-around; without one there is no marker


def windows(page_bytes: int) -> Windows:
    ahead = READAHEAD_BYTES // page_bytes
    return Windows(FAULT_AROUND_BYTES // page_bytes, ahead, ahead // 4)


def at_page_size(cell: str, page_bytes: int) -> str:
    """Turn a cell of the table into that of larger pages.

    At 16K the windows are smaller (4, 8 and 2 pages), and every cell is as at 4K. At 64K there is
    no fault-around: an attempt that it ended (NOPAGE and nothing else) finds the page in
    filemap_fault, ready and unlocked by then, and ends in LOCKED. Nothing else changes: attempts
    that fault-around did not end have not needed it. A read-around leaves no marker (2 / 4 = 0),
    so a fault that the table has meet the marker of another one's read-around finds a page
    without one, which is row 1; and row 29 is row 2, whose cells are the same at 64K.
    """
    if windows(page_bytes).around > 1:
        return cell
    return re.sub(r"→NOPAGE(?=;)", "→LOCKED", cell)


Cells = dict[str, str]

MMAP_TWICE = "M(!TRIED)→RETRY+MAJOR; M(TRIED)→NOPAGE; PM1; maj; mm2"
MMAP_WAITS = "M(!TRIED)→RETRY; M(TRIED)→NOPAGE; PM0; maj; mm2"
MMAP_HELD = "M(!TRIED)→LOCKED+MAJOR; PM1; maj; mm1"
MMAP_RELOCKED = "M(!TRIED)→LOCKED+MAJOR; PM1; maj; mm2"
ONE_ATTEMPT = "V→LOCKED+MAJOR; S1; PM1; maj; mm0"
ONE_MINOR_ATTEMPT = "V→LOCKED; S1; PM0; min; mm0"

# 1, a page that is cached and ready; 13, while another VMA is write-locked; 24 and 25, for a
# reader that is inside before the writer comes, or comes after the downgrade.
READY: Cells = {
    "mainline": "V→NOPAGE; S1; PM0; min; mm0",
    # The same under the lock that there is. No V, so no S, R or A, here and below.
    "mmap_lock_only": "M(!TRIED)→NOPAGE; PM0; min; mm1",
}

# 2, an absent page, with read-around; 32, for each of two that miss it.
ABSENT: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→NOPAGE; R1; PM1; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→NOPAGE; R1 S1; PM1; maj; mm0",
    # As row 11: it drops mmap_lock, and comes back to it with TRIED (M5).
    "mmap_lock_only": MMAP_TWICE,
    # Waits for the read with the VMA lock held, and maps the page itself.
    "hold": ONE_ATTEMPT,
    # Drops the VMA lock, and takes it again with the folio locked: one attempt, no R.
    "relock": ONE_ATTEMPT,
}

# 3, the same in a VMA with random access.
ABSENT_RANDOM: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→NOPAGE; R1; PM1; maj; mm1",
    # F8 is one of its exits to V.
    "rfc_all_reads": ABSENT["rfc"],
    # M5 does not ask which exit it was.
    "mmap_lock_only": MMAP_TWICE,
    # F8 reads with the lock held, and goes on at F3.
    "hold": ONE_ATTEMPT,
    # After F8 as after F4.
    "relock": ONE_ATTEMPT,
}

# 4, a page that another reader reads.
BEING_READ: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→NOPAGE; R1; PM0; min; mm1",
    "rfc": "V→RETRY+VMA; V(!TRIED)→NOPAGE; R1 S1; PM0; min; mm0",
    # As row 31: TRIED by the first retry, hence major.
    "mmap_lock_only": MMAP_WAITS,
    # F4 waits with the VMA lock held.
    "hold": ONE_MINOR_ATTEMPT,
    # Takes the VMA lock again with the folio locked.
    "relock": ONE_MINOR_ATTEMPT,
}

# 5, a ready page with the readahead marker: as 4, under derived policies too. hold asks for the
# next window with its lock held, relock takes its lock again at once, and nobody waits.
MARKED = BEING_READ

# 6, a ready page under writeback, with PG_reclaim.
UNDER_WRITEBACK: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→RETRY; M(TRIED)→LOCKED; R1; PM0; maj; mm2",
    # When the writeback has ended, the bit is gone, and fault-around maps the page.
    "rfc": "V→RETRY+VMA…; V(!TRIED)→NOPAGE; Rn S1; PM0; min; mm0",
    # Its one V, and then mainline: the bound of four attempts.
    "blind_once": "V→RETRY+VMA; V→RETRY; M(!TRIED)→RETRY; M(TRIED)→LOCKED; R2; PM0; maj; mm2",
    # Mainline from its second attempt on.
    "mmap_lock_only": "M(!TRIED)→RETRY; M(TRIED)→LOCKED; PM0; maj; mm2",
    # Nothing is dropped (5.4), and the folio is unlocked: F7 maps it.
    "hold": ONE_MINOR_ATTEMPT,
    # Dropped by 5.4, taken again at F7.
    "relock": ONE_MINOR_ATTEMPT,
}

# 7, as 2, and the page is reclaimed before attempt 2.
DROPPED: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→LOCKED+MAJOR; R1; PM2; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED+MAJOR; R1 S1; PM2; maj; mm0",
    # The window is that between its two attempts.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→LOCKED+MAJOR; PM2; maj; mm2",
    # No second attempt, no window: row 2.
    "hold": ABSENT["hold"],
    # The reference and the folio lock are kept up to the mapping: row 2.
    "relock": ABSENT["relock"],
}

# 8, a mapping without map_pages.
SPECIAL: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→LOCKED; R1; PM0; min; mm1",
    # Goes back to V, where the fault method can never be called: 6.4 #7.
    "blind": "V→RETRY+VMA…; Rn; PM0; mm0; for ever",
    # One attempt is wasted.
    "blind_once": "V→RETRY+VMA; V→RETRY; M(!TRIED)→LOCKED; R2; PM0; min; mm1",
    # mmap_lock is enough.
    "mmap_lock_only": "M(!TRIED)→LOCKED; PM0; min; mm1",
    # hold and relock change how I/O is waited for, and there is none: mainline.
}

# 11, as 2 in kernel mode.
KERNEL_MODE: Cells = {
    "mainline": MMAP_TWICE,
    # Kernel mode never had the VMA lock.
    "mmap_lock_only": MMAP_TWICE,
    # mmap_lock is held across the read; hold itself drops it, as mainline.
    "never_drop": MMAP_HELD,
    # The second read acquisition is that of the same attempt.
    "relock": MMAP_RELOCKED,
}

# 11 as copy_to_user to a shared mapping.
KERNEL_MODE_SHARED_WRITE: Cells = {
    # As row 30 under mmap_lock: TRIED cannot drop before balance_dirty_pages.
    "mainline": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→0; PM1; maj; mm2",
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→0; PM1; maj; mm2",
    # One attempt that drops nothing, not even for balance_dirty_pages.
    "never_drop": "M(!TRIED)→MAJOR; PM1; maj; mm1",
    # Dropped, taken again; still the first try, so dropped once more to balance.
    "relock": "M(!TRIED)→MAJOR+COMPLETED; PM1; maj; mm2",
}

# 12, a ready page of a VMA that is write-locked.
WRITE_LOCKED: Cells = {
    "mainline": "A1; M(!TRIED)→NOPAGE; PM0; min; mm1",
    # Does not try the VMA lock: no A.
    "mmap_lock_only": READY["mmap_lock_only"],
}

# 14, a page that is in swap, on a disk.
SWAPPED: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→0; R1; PM1; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→0; R1 S1; PM1; maj; mm0",
    # Patch 1 leaves S4 as it is.
    "rfc_file": "V→RETRY+MAJOR; M(TRIED)→0; R1; PM1; maj; mm1",
    # As row 11: it drops mmap_lock, and comes back to it with TRIED (M5).
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→0; PM1; maj; mm2",
    # S4 waits with the VMA lock held.
    "hold": "V→MAJOR; S1; PM1; maj; mm0",
    # Treats swap as rfc does.
    "split_by_kind": "V→RETRY+MAJOR+VMA; V(TRIED)→0; R1 S1; PM1; maj; mm0",
    # relock is about folios of files (F4, F8): mainline.
}

# 14 for a page that another one's readahead reads, so that it is in the swap cache.
SWAPPED_BEING_READ: Cells = {
    # Without a read of its own it has no MAJOR, so M is the first attempt with no TRIED.
    "mainline": "V→RETRY; M(!TRIED)→0; R1; PM0; min; mm1",
    # U3.
    "rfc": "V→RETRY+VMA; V(!TRIED)→0; R1 S1; PM0; min; mm0",
    "rfc_file": "V→RETRY; M(!TRIED)→0; R1; PM0; min; mm1",
    # As row 31: TRIED by the first retry, hence major.
    "mmap_lock_only": "M(!TRIED)→RETRY; M(TRIED)→0; PM0; maj; mm2",
    "hold": "V→0; S1; PM0; min; mm0",
    "split_by_kind": "V→RETRY+VMA; V(!TRIED)→0; R1 S1; PM0; min; mm0",
}

# 15, a page that is in swap, on zram.
SWAPPED_TO_ZRAM: Cells = {
    # Read with the lock held, whichever it is, so one attempt whatever the policy.
    "mainline": "V→MAJOR; S1; PM1; maj; mm0",
    "mmap_lock_only": "M(!TRIED)→MAJOR; PM1; maj; mm1",
}

# 16, the same while another thread reads it.
SWAPPED_TO_ZRAM_BEING_READ: Cells = {
    "mainline": "V→0; S1; PM0; min; mm0",
    "mmap_lock_only": "M(!TRIED)→0; PM0; min; mm1",
}

# 17, a shared write to a ready page.
SHARED_WRITE: Cells = {
    "mainline": "V→COMPLETED; S1; PM0; min; mm0",
    # The first try under mmap_lock drops as well (5.1 asks for TRIED, not for the lock).
    "mmap_lock_only": "M(!TRIED)→COMPLETED; PM0; min; mm1",
    # balance_dirty_pages runs with the lock held: no COMPLETED.
    "hold": "V→0; S1; PM0; min; mm0",
    # relock is about folios; this drop stays as it is: mainline.
}

# 17, but there is no page_mkwrite, and the page was dirty before: nothing to balance (1.3).
SHARED_WRITE_OF_NO_INTEREST: Cells = {
    "mainline": "V→0; S1; PM0; min; mm0",
    "mmap_lock_only": "M(!TRIED)→0; PM0; min; mm1",
}

# 18, a page of tmpfs that is in swap, on a disk.
SHMEM_SWAPPED: Cells = {
    # Waits with the lock held, whatever the policy (6.5).
    "mainline": ONE_ATTEMPT,
    "mmap_lock_only": MMAP_HELD,
}

# 19, a private write to an absent page.
COW: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→LOCKED; R1; PM1; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED; R1 S1; PM1; maj; mm0",
    # No trylock under mmap_lock.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→LOCKED; PM1; maj; mm2",
    # As row 2.
    "hold": ONE_ATTEMPT,
    # As row 2.
    "relock": ONE_ATTEMPT,
}

# 19 without anon_vma.
COW_FIRST: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→LOCKED; R1; PM1; maj; mm2",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED; R1 S1; PM1; maj; mm1",
    # Makes the anon_vma under mmap_lock: no trylock.
    "mmap_lock_only": COW["mmap_lock_only"],
    # Above, and the trylock.
    "hold": "V→LOCKED+MAJOR; S1; PM1; maj; mm1",
    # Above, and the trylock.
    "relock": "V→LOCKED+MAJOR; S1; PM1; maj; mm1",
}

# 19 without anon_vma, and the trylock fails.
COW_FIRST_TRYLOCK_FAILS: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→RETRY+MAJOR; M(TRIED)→LOCKED; R1; PM1; maj; mm2",
    # retry_hard calls this retry hard, and rfc_all_reads does not know it: mainline.
    # Spins until the trylock succeeds (6.4 #8), then as in COW_FIRST.
    "blind": "V→RETRY+VMA…; V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED; Rn S1; PM1; maj; mm1",
    # Its one V, and then mainline.
    "blind_once": "V→RETRY+VMA; V→RETRY; M(!TRIED)→RETRY+MAJOR; M(TRIED)→LOCKED; R2; PM1; maj; mm2",
    # Waits for the writer, and then as above.
    "mmap_lock_only": COW["mmap_lock_only"],
    # hold: from the second attempt on under mmap_lock, which it drops: mainline.
    # Holds that.
    "never_drop": "V→RETRY; M(!TRIED)→LOCKED+MAJOR; R1; PM1; maj; mm1",
    # Takes that again.
    "relock": "V→RETRY; M(!TRIED)→LOCKED+MAJOR; R1; PM1; maj; mm2",
}

# 19 without anon_vma, but the page is ready.
COW_READY: Cells = {
    # No I/O, so one attempt with the trylock, whatever the policy.
    "mainline": "V→LOCKED; S1; PM0; min; mm1",
    # No trylock.
    "mmap_lock_only": "M(!TRIED)→LOCKED; PM0; min; mm1",
}

# 9, the first write to anonymous memory, with mmap_lock idle.
ANON_FIRST_WRITE: Cells = {
    # One attempt with the trylock, whatever the policy.
    "mainline": "V→0; S1; PM0; min; mm1",
    # No trylock.
    "mmap_lock_only": "M(!TRIED)→0; PM0; min; mm1",
}

# 20, a page that is being migrated.
MIGRATING: Cells = {
    # Waits with the fault lock held, and there is no RETRY that a policy could change.
    "mainline": "V→0; S1; PM0; min; mm0",
    # The same under the lock that there is.
    "mmap_lock_only": "M(!TRIED)→0; PM0; min; mm1",
}

# 21, below a stack.
STACK: Cells = {
    # The acquisition for read before the one for write; the downgrade is none.
    "mainline": "A1; M(!TRIED)→0; PM0; min; mm1",
    # Does not try the VMA lock: no A.
    "mmap_lock_only": "M(!TRIED)→0; PM0; min; mm1",
}

# 22, a signal is pending when the read is done.
INTERRUPTED: Cells = {
    "mainline": "V→RETRY+MAJOR; R1; PM1; mm0; interrupted",
    # "Same" in the table: filemap_fault has set RETRY_VMA before V6 looks for signals.
    "rfc": "V→RETRY+MAJOR+VMA; R1; PM1; mm0; interrupted",
    # M3 comes before M5.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; PM1; mm1; interrupted",
    # No RETRY, so nobody looks at signals: row 2, and the handler runs after it.
    "hold": ABSENT["hold"],
    # The same.
    "relock": ABSENT["relock"],
}

# 22 with a fatal signal, which ends the wait.
KILLED: Cells = {
    # F4 killed is not an exit to V for mainline, nor for rfc.
    "mainline": "V→RETRY+MAJOR; R1; PM1; mm0; interrupted",
    # Not hard, so the flag says V; nobody gets there.
    "retry_hard": "V→RETRY+MAJOR+VMA; R1; PM1; mm0; interrupted",
    # mmap_lock was dropped for the read, and is not taken again.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; PM1; mm1; interrupted",
    # hold: a killed wait drops its lock at last, and RETRY is its result: mainline.
    # relock: nothing is taken again without the folio: mainline.
}

# The same in kernel mode.
KERNEL_MODE_KILLED: Cells = {
    # The only signals that end faults in kernel mode; drop or not, as above.
    "mainline": KILLED["mmap_lock_only"],
    "mmap_lock_only": KILLED["mmap_lock_only"],
}

# 23, as 2, and no read succeeds.
UNREADABLE: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→SIGBUS; R1; PM1; mm1; neither",
    # F8 is one of its exits to V, and the read that fails there is without a drop.
    "rfc_all_reads": "V→RETRY+MAJOR+VMA; V(TRIED)→SIGBUS; R1 S1; PM1; mm0; neither",
    # As mainline, from M.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→SIGBUS; PM1; mm2; neither",
    # F8 without a drop: SIGBUS alone, MAJOR is lost with it.
    "hold": "V→SIGBUS; S1; PM1; mm0; neither",
    # relock: a read that failed is not mapped: mainline.
}

# 26, an absent page of a VMA that is write-locked.
WRITE_LOCKED_ABSENT: Cells = {
    "mainline": "A1; M(!TRIED)→RETRY+MAJOR; M(TRIED)→NOPAGE; PM1; maj; mm2",
    # Row 11 from here on.
    "mmap_lock_only": KERNEL_MODE["mmap_lock_only"],
    "never_drop": f"A1; {KERNEL_MODE['never_drop']}",
    "relock": f"A1; {KERNEL_MODE['relock']}",
}

# 2, and a writer has write-locked the VMA by the time the read is done.
WRITE_LOCKED_MEANWHILE: Cells = {
    # Row 2, but M waits.
    "mainline": ABSENT["mainline"],
    # V0 cannot lock the VMA, and falls to M0 as usual, with TRIED from V5 (2.5).
    "rfc": "V→RETRY+MAJOR+VMA; M(TRIED)→NOPAGE; R1 A1; PM1; maj; mm1",
    # Row 2, but M waits.
    "mmap_lock_only": ABSENT["mmap_lock_only"],
    # The writer is the one that waits.
    "hold": ABSENT["hold"],
    # relock: the lock is not to be had again, so the folio is unlocked: mainline.
    # Waits for mmap_lock with the folio locked, and maps the page in the same attempt.
    "relock_blocking": "V→LOCKED+MAJOR; S1; PM1; maj; mm1",
}

# 27, a cached page that is not up to date.
NOT_UPTODATE: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→NOPAGE; R1; PM0; min; mm1",
    # F8 is one of its exits to V.
    "rfc_all_reads": "V→RETRY+VMA; V(!TRIED)→NOPAGE; R1 S1; PM0; min; mm0",
    # TRIED by the first retry.
    "mmap_lock_only": MMAP_WAITS,
    # Reads with the lock held, and goes on at F3.
    "hold": ONE_MINOR_ATTEMPT,
    # Read, and taken again.
    "relock": ONE_MINOR_ATTEMPT,
}

# 28, the same, and no read succeeds.
NEVER_UPTODATE: Cells = {
    "mainline": "V→RETRY; M(!TRIED)→RETRY; M(TRIED)→SIGBUS; R1; PM0; mm2; neither",
    # U4: each attempt reads, ignores the error, and goes back to V.
    "rfc_all_reads": "V→RETRY+VMA…; Rn; PM0; mm0; for ever",
    # Its one V, and then mainline.
    "blind_once": "V→RETRY+VMA; V→RETRY; M(!TRIED)→RETRY; M(TRIED)→SIGBUS; R2; PM0; mm2; neither",
    # Mainline from its second attempt on.
    "mmap_lock_only": "M(!TRIED)→RETRY; M(TRIED)→SIGBUS; PM0; mm2; neither",
    # The first read decides.
    "hold": "V→SIGBUS; S1; PM0; mm0; neither",
    # relock: reads that failed are not mapped: mainline.
}

# 29, as 2, and the page gets the readahead marker itself.
MARKED_ITSELF: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→LOCKED; R1; PM1; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED; R1 S1; PM1; maj; mm0",
    # TRIED does not look at the bit.
    "mmap_lock_only": "M(!TRIED)→RETRY+MAJOR; M(TRIED)→LOCKED; PM1; maj; mm2",
    # F7 maps the page in the attempt that has read it: row 2.
    "hold": ABSENT["hold"],
    # The same.
    "relock": ABSENT["relock"],
}

# 30, a shared write to an absent page.
SHARED_WRITE_ABSENT: Cells = {
    "mainline": "V→RETRY+MAJOR; M(TRIED)→0; R1; PM1; maj; mm1",
    "rfc": "V→RETRY+MAJOR+VMA; V(TRIED)→0; R1 S1; PM1; maj; mm0",
    # As mainline, from M.
    "mmap_lock_only": KERNEL_MODE_SHARED_WRITE["mmap_lock_only"],
    # One attempt that drops nothing, not even for balance_dirty_pages.
    "hold": "V→MAJOR; S1; PM1; maj; mm0",
    # Dropped, taken again; still the first try, so dropped once more to balance.
    "relock": "V→MAJOR+COMPLETED; S1; PM1; maj; mm0",
}

# 31, as 4 in kernel mode.
KERNEL_MODE_BEING_READ: Cells = {
    "mainline": MMAP_WAITS,
    # Kernel mode never had the VMA lock.
    "mmap_lock_only": MMAP_WAITS,
    # Waits with mmap_lock held; no retry, no TRIED, so minor.
    "never_drop": "M(!TRIED)→LOCKED; PM0; min; mm1",
    # The same, with the lock taken twice.
    "relock": "M(!TRIED)→LOCKED; PM0; min; mm2",
}

# 31 because the VMA lock is not to be had.
WRITE_LOCKED_BEING_READ: Cells = {
    # The abort, and then row 31.
    policy: cell if policy == "mmap_lock_only" else f"A1; {cell}"
    for policy, cell in KERNEL_MODE_BEING_READ.items()
}

# 4 with a page that is ready: another process keeps it locked to copy it.
BEING_MAPPED: Cells = {
    # For F4 a locked folio is a locked folio: row 4, but for who looks whether it is ready (10.6).
    **BEING_READ,
    "rfc_uptodate": ONE_MINOR_ATTEMPT,
}

# The same, with a fatal signal.
BEING_MAPPED_KILLED: Cells = {
    # F4 killed, without a read.
    **{policy: cell.replace("+MAJOR", "").replace("PM1", "PM0") for policy, cell in KILLED.items()},
    # As sketched it cannot be killed: the fault ends first.
    "rfc_uptodate": BEING_MAPPED["rfc_uptodate"],
    # This is the difference: its wait can be, and drops its lock at last.
    "v2": "V→RETRY; R1; PM0; mm0; interrupted",
}


def cell(row: Cells, policy: str, page_bytes: int = 4096) -> str:
    """Return the cell of a row for a policy, at some page size."""
    while policy not in row:
        policy = SAME_AS[policy]
    return at_page_size(row[policy], page_bytes)
