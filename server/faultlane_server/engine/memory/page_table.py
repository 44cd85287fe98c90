"""Page-table entries: whether a page is mapped, and which accesses do not fault."""

import numpy as np

from faultlane_server.codes import NOBODY, Access, FileKind, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_DIRTY,
    PTE_EXEC,
    PTE_PRESENT,
    PTE_READ,
    PTE_SHARED,
    PTE_WRITE,
    PTE_ZERO,
)

READ = 1 << Protection.READ
WRITE = 1 << Protection.WRITE
EXEC = 1 << Protection.EXEC


@compiled
def entry(world, vma, protection):
    """Return the entry of a page that a read maps (vma->vm_page_prot).

    It is writable only where nobody wants to know of the first write: in a shared mapping
    of a file without page_mkwrite.
    """
    bits = _readable(world, protection)
    if protection & WRITE and not vma.private and vma.file_kind != FileKind.REGULAR:
        bits |= PTE_WRITE
    return bits


@compiled
def written_entry(world, vma):
    """Return the entry of a page of a shared mapping after a write fault."""
    return _readable(world, vma.protection) | _writable(vma.protection) | PTE_DIRTY


@compiled
def copied_entry(world, vma):
    """Return the entry of a private copy of a page."""
    return written_entry(world, vma) | PTE_ANON


@compiled
def zero_entry(world, vma):
    """Return the entry of the zero page, which no write may change."""
    return _readable(world, vma.protection) | PTE_ANON | PTE_ZERO


@compiled
def _readable(world, protection):
    bits = PTE_PRESENT
    readable = READ | WRITE if world.config.read_needs_read else READ | WRITE | EXEC
    if protection & readable:
        bits |= PTE_READ
    if protection & EXEC:
        bits |= PTE_EXEC
    return bits


@compiled
def _writable(protection):
    return PTE_WRITE if protection & WRITE else 0


@compiled
def pte_bit(access):
    """Return the bit without which an access faults."""
    if access == Access.EXEC:
        return PTE_EXEC
    if access == Access.WRITE:
        return PTE_WRITE
    return PTE_READ


@compiled
def protect(world, vma, pte, pages, protection):
    """Give the present pages of a range the entries of a new protection; returns how many.

    Those that are dirty, and shared with no child, become writable at once
    (can_change_pte_writable).
    """
    bits = entry(world, vma, protection)
    written = _writable(protection)
    present = 0
    for at in range(pte, pte + pages):
        before = np.int64(world.ptes[at])
        if before & PTE_PRESENT:
            kept = before & (PTE_DIRTY | PTE_ANON | PTE_ZERO | PTE_SHARED)
            is_own = kept & (PTE_DIRTY | PTE_SHARED) == PTE_DIRTY
            world.ptes[at] = bits | kept | (written if is_own else 0)
            present += 1
    return present


@compiled
def map_folio(world, pte, folio, bits):
    """Let an entry that is clear map the folio."""
    world.ptes[pte] = bits
    folio.mapcount += 1


@compiled
def clear(world, vma, pte):
    """Clear the entry of a present page."""
    if vma.open != NOBODY and not world.ptes[pte] & PTE_ANON:
        folio_of(world, vma, pte).mapcount -= 1
    world.ptes[pte] = 0


@compiled
def copy_page(world, vma, pte):
    """Let an entry map a private copy of the page that it maps."""
    clear(world, vma, pte)
    world.ptes[pte] = copied_entry(world, vma)


@compiled
def folio_of(world, vma, pte):
    """Return the folio of a file that an entry maps, or would map."""
    file = world.opens[vma.open].file
    return world.folios[world.files[file].first + vma.offset + (pte - vma.pte)]


@compiled
def zap(world, vma, start, end):
    """Clear the entries of some pages of a VMA."""
    for at in range(vma.pte + (start - vma.start), vma.pte + (end - vma.start)):
        if world.ptes[at] & PTE_PRESENT:
            clear(world, vma, at)


@compiled
def count_anonymous(world, pte, pages):
    """Return how many pages of a range are anonymous memory that was written."""
    found = 0
    for at in range(pte, pte + pages):
        if world.ptes[at] & (PTE_ANON | PTE_ZERO) == PTE_ANON:
            found += 1
    return found


@compiled
def share(world, pte, pages):
    """Share the anonymous memory of a range with a child: the next write to it faults."""
    for at in range(pte, pte + pages):
        if world.ptes[at] & (PTE_ANON | PTE_ZERO) == PTE_ANON:
            world.ptes[at] = np.int64(world.ptes[at]) & ~PTE_WRITE | PTE_SHARED


@compiled
def count_present(world, pte, pages):
    """Return how many pages of a range are mapped."""
    present = 0
    for at in range(pte, pte + pages):
        present += np.int64(world.ptes[at]) & PTE_PRESENT
    return present
