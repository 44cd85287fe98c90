"""khugepaged and MADV_COLLAPSE: huge pages out of small ones (collapse_huge_page).

Each part of anonymous memory that a page table has room for is looked at under mmap_lock for read,
which khugepaged only tries. The huge page is allocated without the lock. It is taken for read to
look again, and then for write, with the VMA write-locked, while the pages are copied. None of
the waits can be killed; who is killed stops before the next part.
"""

from faultlane_server.codes import NOBODY, OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space, anon_page, memcg, page_table
from faultlane_server.engine.ops import entry
from faultlane_server.engine.tally import count
from faultlane_server.engine.world import (
    PTE_ANON,
    PTE_PRESENT,
    PTE_SHARED,
    PTE_ZERO,
    VM_NOHUGEPAGE,
    Counter,
    Step,
)

OWN = PTE_PRESENT | PTE_ANON | PTE_ZERO | PTE_SHARED  # of these a page that nobody shares has two


@compiled
def scan(world, thread, now_ns):
    """Take mmap_lock for read to look at the next part of the range; or leave."""
    caller = world.threads[thread]
    pages = world.config.table_pages
    if not caller.op_resolved:
        caller.op_resolved = 1
        caller.op_at = -(-caller.op_start // pages) * pages
        caller.op_killable = 0
    if caller.op_at + pages > caller.op_end or caller.killed:
        entry.leave(world, thread, now_ns)
    elif caller.op_kind == OperationKind.KHUGEPAGED:
        if mmap_lock.try_lock_read(world, thread, now_ns):
            scan_held(world, thread, now_ns)
        else:
            entry.leave(world, thread, now_ns)
    elif mmap_lock.lock_read(world, thread, now_ns, Step.COLLAPSE_SCAN_HELD, Step.NOTHING):
        scan_held(world, thread, now_ns)


@compiled
def scan_held(world, thread, now_ns):
    """Look at the entries of the part, with mmap_lock held for read."""
    cost = world.config.cost
    spent_ns = cost.khugepaged_ns + world.config.table_pages * cost.khugepaged_page_ns
    sched.burst(world, thread, now_ns, spent_ns, Step.COLLAPSE_SCANNED)


@compiled
def scanned(world, thread, now_ns):
    """Let go of mmap_lock, and allocate a huge page if the part may become one."""
    caller = world.threads[thread]
    may_become_one = _slot(world, caller) != NOBODY
    mmap_lock.unlock_read(world, thread, now_ns)
    if may_become_one:
        sched.burst(world, thread, now_ns, world.config.cost.huge_page_ns, Step.COLLAPSE_RELOCK)
    else:
        _go_on(world, thread, now_ns)


@compiled
def _slot(world, caller):
    """Return the VMA of a part that may become a huge page, or NOBODY."""
    pages = world.config.table_pages
    slot = address_space.find(world, caller.mm, caller.op_at)
    if slot == NOBODY:
        return NOBODY
    vma = world.vmas[slot]
    if vma.open != NOBODY or vma.anon_vma == 0 or vma.traits & VM_NOHUGEPAGE:
        return NOBODY
    pte = vma.pte + (caller.op_at - vma.start)
    if vma.end < caller.op_at + pages or page_table.count_anonymous(world, pte, pages) == 0:
        return NOBODY
    return slot if _is_in_memory(world, pte) else NOBODY


@compiled
def _is_in_memory(world, first):
    """Whether no page of a part is elsewhere, or still being read or written."""
    for pte in range(first, first + world.config.table_pages):
        is_elsewhere = world.ptes[pte] != 0 and not world.ptes[pte] & PTE_PRESENT
        folio = world.folios[anon_page.number_of(world, pte)]
        if is_elsewhere or anon_page.is_busy(folio):
            return False
    return True


@compiled
def relock(world, thread, now_ns):
    """Take mmap_lock for read again."""
    if mmap_lock.lock_read(world, thread, now_ns, Step.COLLAPSE_RELOCKED, Step.NOTHING):
        relocked(world, thread, now_ns)


@compiled
def relocked(world, thread, now_ns):
    """Look at the VMA once more (hugepage_vma_revalidate)."""
    cost = world.config.cost
    sched.burst(world, thread, now_ns, cost.khugepaged_ns, Step.COLLAPSE_CHECKED)


@compiled
def checked(world, thread, now_ns):
    """Let go of mmap_lock, and take it for write."""
    mmap_lock.unlock_read(world, thread, now_ns)
    sched.burst(world, thread, now_ns, 0, Step.WRITE_LOCK)


@compiled
def plan(world, thread):
    """Plan to copy the pages, with mmap_lock held for write; returns whether that is to be done."""
    caller = world.threads[thread]
    caller.locks_count = 0
    slot = _slot(world, caller)
    if caller.op_resolved == 2 or slot == NOBODY:
        return False
    caller.locks[0] = slot
    caller.locks_count = 1
    caller.work_ns = world.config.table_pages * world.config.cost.collapse_page_ns
    return True


@compiled
def apply(world, thread, now_ns):
    """Map the huge page: all of its part is mapped, and nobody else has it."""
    caller = world.threads[thread]
    slot = _slot(world, caller)
    vma = world.vmas[slot]
    first = vma.pte + (caller.op_at - vma.start)
    for pte in range(first, first + world.config.table_pages):
        if world.ptes[pte] & OWN == PTE_PRESENT | PTE_ANON:
            world.ptes[pte] = page_table.copied_entry(world, vma)
        elif memcg.charge_weakly(world, thread, now_ns):
            page_table.make_own(world, thread, slot, pte)
    count(world, Counter.HUGE_PAGES, 1)
    caller.op_resolved = 2


@compiled
def unlocked(world, thread, now_ns):
    """Go on with the next part: mmap_lock was let go."""
    world.threads[thread].op_resolved = 1
    _go_on(world, thread, now_ns)


@compiled
def _go_on(world, thread, now_ns):
    world.threads[thread].op_at += world.config.table_pages
    sched.burst(world, thread, now_ns, 0, Step.COLLAPSE_SCAN)
