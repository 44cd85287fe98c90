"""mmap of private anonymous memory at a place of its own: only the new VMA is write-locked."""

from faultlane_server.codes import NOBODY, Advice, Protection
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.memory import address_space

READ_WRITE = (1 << Protection.READ) | (1 << Protection.WRITE)


@compiled
def plan(world, thread):
    """Plan the one change; returns whether it is still to be made."""
    caller = world.threads[thread]
    caller.work_ns = world.config.cost.mmap_ns
    return caller.op_at < caller.op_end


@compiled
def apply(world, thread):
    """Insert the new VMA, write-locked like everything that is inserted."""
    caller = world.threads[thread]
    slot = address_space.new_slot(world)
    vma = world.vmas[slot]
    vma.mm = caller.mm
    vma.start = caller.op_start
    vma.end = caller.op_end
    vma.open = NOBODY
    vma.private = 1
    vma.file_kind = 0
    vma.offset = 0
    vma.pte = caller.op_pte
    vma.protection = READ_WRITE
    vma.advice = Advice.NORMAL
    vma.seq = world.mms[caller.mm].seq
    address_space.insert(world, slot)
    caller.op_at = caller.op_end
