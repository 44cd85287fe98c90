"""Reading /proc/PID/smaps and maps, and clear_refs.

Each read(2) takes mmap_lock of the process for read (m_start), a wait that can be killed, and lets
it go when its buffer is full (m_stop). It is assumed that a buffer holds one VMA of smaps, or 32
of maps. clear_refs write-locks every VMA in turn, as fork does.
"""

from faultlane_server.codes import NOBODY, FileKind, OperationKind
from faultlane_server.engine import sched
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock
from faultlane_server.engine.memory import address_space, page_table
from faultlane_server.engine.ops import entry
from faultlane_server.engine.ops.page_fate import NOT_YOUNG
from faultlane_server.engine.world import Step

MAPS_AT_ONCE = 32


@compiled
def lock(world, thread, now_ns):
    """Begin a read(2): the first one, or the next."""
    caller = world.threads[thread]
    if not caller.op_resolved:
        caller.op_resolved = 1
        caller.op_at = 0
    if mmap_lock.lock_read(world, thread, now_ns, Step.PROC_HELD, Step.WRITE_KILLED):
        held(world, thread, now_ns)


@compiled
def held(world, thread, now_ns):
    """Pay for the next VMAs, with mmap_lock held for read; or leave when there are none."""
    caller = world.threads[thread]
    place = address_space.place_of(world, caller.mm, caller.op_at)
    if address_space.slot_at(world, caller.mm, place) == NOBODY:
        mmap_lock.unlock_read(world, thread, now_ns)
        entry.leave(world, thread, now_ns)
        return
    if caller.op_kind == OperationKind.READ_SMAPS:
        spent_ns = _smaps_ns(world, caller, place)
    else:
        spent_ns = _maps_ns(world, caller, place)
    sched.burst(world, thread, now_ns, spent_ns, Step.PROC_DONE)


@compiled
def _smaps_ns(world, caller, place):
    """Return what one VMA costs: each of its pages is looked at."""
    cost = world.config.cost
    vma = world.vmas[address_space.slot_at(world, caller.mm, place)]
    caller.op_at = vma.end
    return cost.read_smaps_ns + (vma.end - vma.start) * cost.smaps_page_ns


@compiled
def _maps_ns(world, caller, place):
    """Return what the next VMAs cost, as many as one read(2) returns."""
    spent_ns = 0
    for at in range(place, place + MAPS_AT_ONCE):
        slot = address_space.slot_at(world, caller.mm, at)
        if slot == NOBODY:
            break
        caller.op_at = world.vmas[slot].end
        spent_ns += world.config.cost.read_maps_ns
    return spent_ns


@compiled
def done(world, thread, now_ns):
    """End a read(2), and begin the next one; who is killed does not."""
    mmap_lock.unlock_read(world, thread, now_ns)
    if world.threads[thread].killed:
        entry.leave(world, thread, now_ns)
    else:
        sched.burst(world, thread, now_ns, world.config.cost.syscall_ns, Step.PROC_LOCK)


@compiled
def plan(world, thread):
    """Plan to clear the next VMA; returns whether there is one."""
    caller = world.threads[thread]
    if not caller.op_resolved:
        caller.op_resolved = 1
        caller.op_at = 0
    caller.locks_count = 0
    slot = _next(world, caller)
    if slot == NOBODY:
        return False
    cost = world.config.cost
    vma = world.vmas[slot]
    present = page_table.count_present(world, vma.pte, vma.end - vma.start)
    caller.locks[0] = slot
    caller.locks_count = 1
    caller.work_ns = cost.clear_refs_ns + present * cost.clear_refs_page_ns
    return True


@compiled
def _next(world, caller):
    place = address_space.place_of(world, caller.mm, caller.op_at)
    return address_space.slot_at(world, caller.mm, place)


@compiled
def apply(world, thread):
    """Make the pages of the VMA old; huge pages of hugetlb are left out."""
    caller = world.threads[thread]
    vma = world.vmas[_next(world, caller)]
    if vma.file_kind != FileKind.HUGETLB:
        for pte in range(vma.pte, vma.pte + vma.end - vma.start):
            world.ptes[pte] &= NOT_YOUNG
    caller.op_at = vma.end
