"""The timeline of a writer: take mmap_lock, write-lock VMAs, change them, let go.

What is changed stands in one file for each family of operations. Each of them plans the
next change (which VMAs to lock, what it costs), and applies it when the VMAs are locked.
"""

import numpy as np

from faultlane_server.codes import Madvice, OperationKind, VmaLockDesign
from faultlane_server.engine import blame, ledger, program, sched
from faultlane_server.engine.fault import handler, stack
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.locks import mmap_lock, rwsem, vma_lock
from faultlane_server.engine.locks.word import strike
from faultlane_server.engine.memory import memcg
from faultlane_server.engine.ops import (
    brk,
    entry,
    flags,
    fork,
    khugepaged,
    mmap,
    mremap,
    munmap,
    populate,
    proc,
)
from faultlane_server.engine.ops import end as end_of_mm
from faultlane_server.engine.ops import userfaultfd as uffd
from faultlane_server.engine.tally import acquired, count, operation_ended
from faultlane_server.engine.world import Cause, Counter, Locks, Step


@compiled
def write_lock(world, thread, now_ns):
    """Take mmap_lock for write."""
    if mmap_lock.lock_write(world, thread, now_ns):
        held(world, thread, now_ns)


@compiled
def write_queue(world, thread, now_ns):
    """Give up spinning, and queue."""
    if mmap_lock.queue_write(world, thread, now_ns):
        held(world, thread, now_ns)


@compiled
def write_woken(world, thread, now_ns):
    """Try again, after waiting in the queue."""
    if mmap_lock.retry_write(world, thread, now_ns):
        held(world, thread, now_ns)


@compiled
def spin_expired(world, thread, now_ns):
    """Queue, after spinning on readers for too long."""
    if mmap_lock.spin_expired(world, thread, now_ns):
        held(world, thread, now_ns)


@compiled
def held(world, thread, now_ns):
    """Go on with mmap_lock held for write: plan the next change, or finish."""
    if _plan(world, thread):
        drain(world, thread, now_ns)
    else:
        _finish(world, thread, now_ns)


@compiled
def _plan(world, thread):
    """Plan the next change; returns whether there is one."""
    kind = world.threads[thread].op_kind
    if world.threads[thread].in_fault:
        return stack.plan(world, thread)
    if kind == OperationKind.USERFAULTFD_CLOSE:
        return uffd.plan(world, thread)
    if kind == OperationKind.MMAP:
        return mmap.plan(world, thread)
    if kind == OperationKind.MUNMAP:
        return munmap.plan(world, thread)
    if kind == OperationKind.FORK:
        return fork.plan(world, thread)
    if kind == OperationKind.MREMAP:
        return mremap.plan(world, thread)
    if kind == OperationKind.BRK:
        return brk.plan(world, thread)
    if kind == OperationKind.CLEAR_REFS:
        return proc.plan(world, thread)
    if _collapses(world.threads[thread]):
        return khugepaged.plan(world, thread)
    if _ends_the_address_space(kind):
        return end_of_mm.plan(world, thread)
    return flags.plan(world, thread)


@compiled
def _collapses(writer):
    """Whether mmap_lock is held for write to make a huge page."""
    if writer.op_kind == OperationKind.MADVISE:
        return writer.op_advice == Madvice.COLLAPSE
    return writer.op_kind == OperationKind.KHUGEPAGED


@compiled
def _ends_the_address_space(kind):
    return kind == OperationKind.EXIT or kind == OperationKind.EXEC


@compiled
def drain(world, thread, now_ns):
    """Write-lock the planned VMAs one after another (vma_start_write), then pay for the change."""
    writer = world.threads[thread]
    mm_seq = world.mms[writer.mm].seq
    while writer.locks_count > 0:
        vma = world.vmas[writer.locks[writer.locks_count - 1]]
        if not vma_lock.is_write_locked(vma, mm_seq):
            strike(world, thread, vma.word, now_ns)
            if vma.readers > 0:
                _wait_for_readers(world, thread, vma, now_ns)
                return
            vma_lock.stamp(vma, mm_seq)
            acquired(world, Locks.VMA_WRITE, 0, False)
        writer.locks_count -= 1
    sched.burst(world, thread, now_ns, writer.work_ns, Step.APPLY)


@compiled
def _wait_for_readers(world, thread, vma, now_ns):
    writer = world.threads[thread]
    writer.asked_ns = now_ns
    design = world.config.vma_lock_design
    vma_lock.begin_drain(vma, thread, design)
    blame.wait_for_vma(world, thread, vma, now_ns)
    if design == VmaLockDesign.RWSEM:
        sched.wait_spinning(world, thread, now_ns, Cause.VMA, vma.reader)
        until_ns = now_ns + rwsem.reader_spin_ns(vma.readers)
        sched.spin_until(world, thread, until_ns, Step.DRAIN_EXPIRED)
    else:
        sched.block(world, thread, now_ns, Cause.VMA, vma.reader, Step.DRAINED)
        mmap_lock.owner_left_cpu(world, writer.mm, now_ns)


@compiled
def drain_expired(world, thread, now_ns):
    """Sleep until the readers have left, after spinning for too long."""
    writer = world.threads[thread]
    vma = world.vmas[writer.locks[writer.locks_count - 1]]
    sched.settle_spin(world, thread, now_ns)
    vma_lock.stop_spinning(vma)
    blame.wait_for_vma(world, thread, vma, now_ns)
    sched.block(world, thread, now_ns, Cause.VMA, vma.reader, Step.DRAINED)
    mmap_lock.owner_left_cpu(world, writer.mm, now_ns)


@compiled
def drained(world, thread, now_ns):
    """Go on: the last reader has left the VMA."""
    writer = world.threads[thread]
    vma = world.vmas[writer.locks[writer.locks_count - 1]]
    mm_seq = world.mms[writer.mm].seq
    if not vma_lock.is_write_locked(vma, mm_seq):
        vma_lock.stamp(vma, mm_seq)
    waited_ns = now_ns - writer.asked_ns
    acquired(world, Locks.VMA_WRITE, waited_ns, True)
    ledger.contended(world, np.int64(Locks.VMA_WRITE), vma.id, waited_ns)
    writer.locks_count -= 1
    drain(world, thread, now_ns)


@compiled
def apply(world, thread, now_ns):
    """Make the planned change, and plan the next one."""
    _apply(world, thread, now_ns)
    held(world, thread, now_ns)


@compiled
def _apply(world, thread, now_ns):
    kind = world.threads[thread].op_kind
    if world.threads[thread].in_fault:
        stack.grow(world, thread)
    elif kind == OperationKind.MMAP:
        mmap.apply(world, thread)
    elif kind == OperationKind.MUNMAP:
        munmap.apply(world, thread)
    elif kind == OperationKind.FORK:
        fork.apply(world, thread, now_ns)
    elif kind == OperationKind.USERFAULTFD_CLOSE:
        uffd.apply(world, thread)
    elif kind == OperationKind.MREMAP:
        mremap.apply(world, thread)
    elif kind == OperationKind.BRK:
        brk.apply(world, thread)
    elif kind == OperationKind.CLEAR_REFS:
        proc.apply(world, thread)
    elif _collapses(world.threads[thread]):
        khugepaged.apply(world, thread, now_ns)
    elif _ends_the_address_space(kind):
        end_of_mm.apply(world, thread)
    else:
        flags.apply(world, thread, now_ns)


@compiled
def _finish(world, thread, now_ns):
    """Let go of mmap_lock; what unmaps keeps it for read while it zaps pages."""
    writer = world.threads[thread]
    if writer.in_fault:
        _finish_growth(world, thread, now_ns)
        return
    if writer.op_downgrades and munmap.detach(world, thread):
        mmap_lock.downgrade(world, thread, now_ns)
        count(world, Counter.MMAP_DOWNGRADES, 1)
        sched.burst(world, thread, now_ns, munmap.zap_ns(world, thread), Step.ZAP)
        return
    mmap_lock.unlock_write(world, thread, now_ns)
    if writer.op_migrates:
        sched.owe(world, thread, writer.op_migrates * world.config.cost.migrate_page_ns)
    if _collapses(writer):
        khugepaged.unlocked(world, thread, now_ns)
    elif writer.op_populates and not writer.killed:
        populate.begin(world, thread, now_ns)
    else:
        _leave(world, thread, now_ns)


@compiled
def _leave(world, thread, now_ns):
    if world.threads[thread].op_kind == OperationKind.USERFAULTFD_CLOSE:
        uffd.closed(world, thread, now_ns)
    entry.leave(world, thread, now_ns)


@compiled
def _finish_growth(world, thread, now_ns):
    """Go on with the fault under the downgraded lock, if a stack has grown down to it."""
    if stack.is_there(world, thread):
        mmap_lock.downgrade(world, thread, now_ns)
        count(world, Counter.MMAP_DOWNGRADES, 1)
        handler.stack_has_grown(world, thread, now_ns)
        return
    mmap_lock.unlock_write(world, thread, now_ns)
    handler.bad_area(world, thread, now_ns)


@compiled
def killed(world, thread, now_ns):
    """Give up: a fatal signal has ended the wait for mmap_lock."""
    if world.threads[thread].in_fault:
        handler.bad_area(world, thread, now_ns)
    else:
        _leave(world, thread, now_ns)


@compiled
def zap(world, thread, now_ns):
    """Let go of mmap_lock: what was unmapped is cleared."""
    mmap_lock.unlock_read(world, thread, now_ns)
    entry.leave(world, thread, now_ns)


@compiled
def end(world, thread, now_ns):
    """Write the operation down, and go on with the program."""
    caller = world.threads[thread]
    if caller.over_high > 0 and memcg.throttle(world, thread, now_ns, Step.OPERATION_END):
        return
    operation_ended(world, thread, now_ns, 1)
    count(world, Counter.OPERATIONS, 1)
    caller.in_operation = 0
    caller.operations += 1
    caller.mm = caller.process
    program.proceed(world, thread, now_ns)
