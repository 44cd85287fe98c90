"""Who is to blame for a wait: at each instant one holder of the lock, and what is in its way.

A lock that is waited for has a slot for each mode in which it is wanted. The slot knows the one
thread that is to blame:

* the writer that has the lock, or the thread that has the folio;
* else, for who wants to read, the writer at the head of the queue, behind which readers stand back;
* else who reads for longest; of a VMA first of all those that have left their CPU meanwhile;
* else, as the lock is free, the head of the queue, or nobody: who is to have it is being woken.

What this thread itself waits for makes a chain: a lock, what its holder does, the lock that the
holder waits for, and so on down to a device, a CPU or a run queue. A slot has a clock for each
chain to which blame went; a clock goes while its chain is the present one. Whoever waits takes the
differences of the clocks between the begin and the end of its wait, which add up to the wait: one
clock goes at any time. That costs the same however many wait, and nothing where nobody does.

A wait that no thread is to blame for, such as for a device, is a chain of its own.
"""

import numpy as np

from faultlane_server.codes import NOBODY, FaultLock
from faultlane_server.engine import ledger
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import (
    GROUPS_MAX,
    NODES_DIRECT,
    NODES_UNKNOWN,
    SHARES_MAX,
    SLOTS_MAX,
    SWAPPED,
    Activity,
    Cause,
    Drain,
    Leaf,
    ThreadState,
    Waits,
)

FAULT_LOCK = 0  # which list of holders a thread stands in
INVALIDATE_LOCK = 1
HIGHEST = 255  # priority of what is no thread: nothing is inverted by it
DEPTH_MAX = 16  # of a chain


@compiled
def priority_of(world, thread):
    """Return how urgent a thread is, from 0 to 254."""
    return np.int64(world.threads[thread].priority)


@compiled
def activity_of(row):
    """Return what a thread does."""
    if row.in_fault:
        is_vma = row.lock == FaultLock.VMA and row.cause != Cause.MMAP_LOCK
        if row.held:
            is_vma = row.held == FaultLock.VMA
        return np.int64(Activity.FAULT_VMA) if is_vma else np.int64(Activity.FAULT_MMAP)
    if row.in_operation:
        return np.int64(Activity.OPERATIONS + row.op_kind)
    if row.mm == NOBODY:
        return np.int64(Activity.KSWAPD)
    return np.int64(Activity.PROGRAM)


@compiled
def class_of(row):
    return ledger.class_of(row.group, activity_of(row))


# Holders of a lock for read. Of a VMA only those are listed that have left their CPU: to lock it
# must cost nothing, and the others are found on the CPUs.


@compiled
def begins_to_hold(world, lock, thread, which):
    """Remember a reader of a rwsem or a VMA, behind those that read for longer."""
    row = world.threads[thread]
    row.held_next[which] = NOBODY
    row.held_before[which] = lock.holders_last
    if lock.holders_last == NOBODY:
        lock.holders_first = thread
    else:
        world.threads[lock.holders_last].held_next[which] = thread
    lock.holders_last = thread


@compiled
def ends_to_hold(world, lock, thread, which):
    """Forget a reader."""
    row = world.threads[thread]
    if row.held_before[which] == NOBODY:
        lock.holders_first = row.held_next[which]
    else:
        world.threads[row.held_before[which]].held_next[which] = row.held_next[which]
    if row.held_next[which] == NOBODY:
        lock.holders_last = row.held_before[which]
    else:
        world.threads[row.held_next[which]].held_before[which] = row.held_before[which]


@compiled
def leaves_cpu(world, thread, now_ns):
    """List a thread that holds a VMA and is about to leave its CPU."""
    row = world.threads[thread]
    if row.held == FaultLock.VMA and not row.is_listed:
        row.is_listed = 1
        vma = world.vmas[row.vma]
        begins_to_hold(world, vma, thread, FAULT_LOCK)
        if vma.drain != Drain.NONE:
            vma_changed(world, vma, now_ns)


@compiled
def leaves_vma(world, vma, thread):
    """Forget a reader of a VMA, if it is listed."""
    row = world.threads[thread]
    if row.is_listed:
        row.is_listed = 0
        ends_to_hold(world, vma, thread, FAULT_LOCK)


@compiled
def _longest_inside(world, vma):
    """Return who was the first to leave its CPU with a VMA locked; else who reads it for longest.

    Of several the one with the lowest number.
    """
    if vma.holders_first != NOBODY:
        return np.int64(vma.holders_first)
    longest = np.int64(NOBODY)
    for cpu in range(world.config.cpus):
        thread = world.cpus[cpu].thread
        if thread != NOBODY and _is_inside(world, vma, world.threads[thread]):
            longest = _longer(world, longest, thread)
    return longest


@compiled
def _is_inside(world, vma, row):
    if row.held != FaultLock.VMA:
        return False
    return world.vmas[row.vma].id == vma.id


@compiled
def _longer(world, one, other):
    """Return which of two readers has read for longer; the first one may be NOBODY."""
    if one == NOBODY:
        return other
    since_ns = world.threads[one].held_since_ns
    other_ns = world.threads[other].held_since_ns
    is_other = other_ns < since_ns or (other_ns == since_ns and other < one)
    return other if is_other else one


# Waits begin, and locks change hands.


@compiled
def wait_for_rwsem(world, thread, lock, kind, instance, now_ns):
    """Let a thread wait for a rwsem, in whose queue or among whose spinners it stands by now."""
    is_read = kind == Waits.MMAP_READ or kind == Waits.INVALIDATE_READ
    slot = lock.slot_read if is_read else lock.slot_write
    if slot == NOBODY:
        slot = _new_slot(world, kind, instance, now_ns)
        if is_read:
            lock.slot_read = slot
        else:
            lock.slot_write = slot
    rwsem_changed(world, lock, now_ns)
    _enter(world, thread, slot, kind, now_ns)


@compiled
def rwsem_changed(world, lock, now_ns):
    """Find out who is to blame now: who has the lock has changed, or the head of its queue."""
    if lock.slot_read != NOBODY:
        _blame_for_read(world, lock, now_ns)
    if lock.slot_write != NOBODY:
        _blame_for_write(world, lock, now_ns)


@compiled
def _blame_for_read(world, lock, now_ns):
    slot = lock.slot_read
    head = lock.first
    if lock.writer == NOBODY and head != NOBODY and world.threads[head].wants_write:
        _blame(world, slot, head, Activity.WAKEUP, now_ns)
    else:
        _blame_holder(world, slot, lock, NOBODY, now_ns)


@compiled
def _blame_for_write(world, lock, now_ns):
    head = lock.first
    if head != NOBODY and not world.threads[head].wants_write:
        head = NOBODY
    _blame_holder(world, lock.slot_write, lock, np.int64(head), now_ns)


@compiled
def _blame_holder(world, slot, lock, head, now_ns):
    if lock.writer != NOBODY:
        _blame(world, slot, lock.writer, Activity.WAKEUP, now_ns)
    elif lock.readers > 0:
        _blame(world, slot, lock.holders_first, Activity.AGING, now_ns)
    else:
        _blame(world, slot, head, Activity.WAKEUP, now_ns)


@compiled
def wait_for_vma(world, thread, vma, now_ns):
    """Let a writer wait for the readers inside a VMA."""
    slot = _new_slot(world, Waits.VMA_WRITE, vma.id, now_ns)
    if slot != NOBODY:
        row = world.blame.slots[slot]
        row.vma_id = vma.id
        row.vma_start = vma.start
        row.vma_end = vma.end
        _blame(world, slot, _longest_inside(world, vma), Activity.WAKEUP, now_ns)
    _enter(world, thread, slot, Waits.VMA_WRITE, now_ns)


@compiled
def vma_changed(world, vma, now_ns):
    """Find out who is to blame now: a reader has left a VMA, and a writer waits for all of them."""
    slot = world.threads[vma.drainer].slot
    if slot != NOBODY:
        _blame(world, slot, _longest_inside(world, vma), Activity.WAKEUP, now_ns)


@compiled
def kind_of_folio(folio):
    """Return what who waits for a folio waits for."""
    if np.int64(folio.file) != NOBODY:
        return np.int64(Waits.FOLIO_FILE)
    is_swapped = folio.state & SWAPPED != 0
    return np.int64(Waits.FOLIO_SWAP) if is_swapped else np.int64(Waits.FOLIO_ANON)


@compiled
def wait_for_folio(world, thread, folio, now_ns):
    """Let a thread wait for a folio that no read holds; it stands in the folio's line by now."""
    first = np.int64(folio.first)
    slot = world.threads[first].slot
    if first == thread:
        kind = kind_of_folio(folio)
        slot = _new_slot(world, kind, NOBODY, now_ns)
    folio_changed_in(world, folio, slot, now_ns)
    _enter(world, thread, slot, kind_of_folio(folio), now_ns)


@compiled
def folio_changed(world, folio, now_ns):
    """Find out who is to blame now: who has a folio has changed."""
    first = np.int64(folio.first)
    if first != NOBODY:
        folio_changed_in(world, folio, world.threads[first].slot, now_ns)


@compiled
def folio_changed_in(world, folio, slot, now_ns):
    if slot != NOBODY:
        _blame(world, slot, np.int64(folio.holder), Activity.WAKEUP, now_ns)


@compiled
def wait_for_thread(world, thread, kind, other, now_ns):
    """Let a thread wait until another one has done something."""
    slot = _new_slot(world, kind, NOBODY, now_ns)
    if slot != NOBODY:
        _blame(world, slot, other, Activity.WAKEUP, now_ns)
    _enter(world, thread, slot, kind, now_ns)


@compiled
def handed_over(world, waiter, heir, now_ns):
    """Let a thread be to blame that was given what those who stand in line wait for."""
    while waiter != NOBODY:
        slot = world.threads[waiter].slot
        if slot != NOBODY:
            _blame(world, slot, heir, Activity.WAKEUP, now_ns)
        waiter = world.threads[waiter].behind


@compiled
def _enter(world, thread, slot, kind, now_ns):
    """Read the clocks of a slot at the begin of a wait."""
    row = world.threads[thread]
    assert row.slot == NOBODY, "a thread waits for one lock at a time"
    row.slot = slot
    row.wait_kind = kind
    if slot == NOBODY:
        world.blame.unfollowed += 1
        return
    _advance(world, slot, now_ns)
    slots = world.blame.slots[slot]
    slots.waiters += 1
    row.shares_seen = slots.shares
    seen = world.blame.seen[thread]
    for share in range(slots.shares):
        seen.clock_ns[share] = slots.clock_ns[share]
    if row.blamed_first != NOBODY:
        follow(world, thread, now_ns)


# Waits end.


@compiled
def ended(world, thread, now_ns, ns):
    """Blame others for a wait of `ns` that ends now."""
    account(world, thread, now_ns, ns)
    if world.threads[thread].slot != NOBODY:
        _leave(world, thread)


@compiled
def account(world, thread, now_ns, ns):
    """Write down a wait of `ns`, up to now."""
    row = world.threads[thread]
    if row.slot != NOBODY:
        _advance(world, row.slot, now_ns)
        if ns > 0 and ledger.counts(world, row):
            _share_out(world, thread, row.slot, now_ns, ns)
    elif ns > 0 and row.cause != Cause.PROGRAM and ledger.counts(world, row):
        waiter = class_of(row)
        kind = _direct_kind_of(row)
        if row.cause == Cause.DEVICE or kind > Waits.FAULT_MUTEX:
            ledger.direct(world, thread, waiter, NODES_DIRECT + kind, now_ns, ns)
        else:
            ledger.chain(world, waiter, NODES_UNKNOWN + kind, ns, False)
            ledger.in_full(world, thread, waiter, NODES_UNKNOWN + kind, now_ns, ns)


@compiled
def _direct_kind_of(row):
    """Return what a thread without a slot waits for."""
    if row.cause == Cause.WRITEBACK:
        return np.int64(Waits.WRITEBACK)
    if row.cause == Cause.THROTTLE:
        return np.int64(Waits.THROTTLE)
    if row.cause == Cause.RECLAIM:
        return np.int64(Waits.RECLAIM)
    if row.cause == Cause.USERFAULTFD:
        return np.int64(Waits.USERFAULTFD)
    return np.int64(row.wait_kind)


@compiled
def _leave(world, thread):
    row = world.threads[thread]
    slot = row.slot
    above = row.blamed_first
    while above != NOBODY:
        _detach(world, above)
        above = world.blame.slots[above].next_blamed
    row.slot = NOBODY
    world.blame.slots[slot].waiters -= 1
    if world.blame.slots[slot].waiters == 0:
        _free(world, slot)


@compiled
def _share_out(world, thread, slot, now_ns, ns):
    """Write down a wait, part by part."""
    row = world.threads[thread]
    slots = world.blame.slots[slot]
    seen = world.blame.seen[thread]
    for share in range(row.shares_seen, slots.shares):
        seen.clock_ns[share] = 0
    waiter = class_of(row)
    priority = priority_of(world, thread)
    shared_ns = 0
    inverted_ns = 0
    for share in range(slots.shares):
        part_ns = slots.clock_ns[share] - seen.clock_ns[share]
        if part_ns > 0:
            shared_ns += part_ns
            node = slots.clock_node[share]
            if world.blame.nodes[node].lowest < priority:
                inverted_ns += part_ns
            ledger.chain(world, waiter, node, part_ns, _is_aside(row, slots, share))
            _blame_class(world, slots, seen, share, waiter)
    assert shared_ns == ns, "blame adds up to the wait"
    ledger.wait(world, thread, waiter, now_ns, ns, inverted_ns)


@compiled
def _blame_class(world, slots, seen, share, waiter):
    """Write down for how long a class was to blame, with its first share."""
    holder = world.blame.nodes[slots.clock_node[share]].holder
    ns = 0
    for other in range(slots.shares):
        part_ns = slots.clock_ns[other] - seen.clock_ns[other]
        if part_ns > 0 and world.blame.nodes[slots.clock_node[other]].holder == holder:
            if other < share:
                return
            ns += part_ns
    ledger.edge(world, waiter, slots.kind, holder, ns)


@compiled
def _is_aside(row, slots, share):
    """Whether a chain leads through a VMA that is none of the business of who waits."""
    if slots.clock_vma_id[share] == NOBODY:
        return False
    start = slots.clock_vma_start[share]
    end = slots.clock_vma_end[share]
    if row.in_fault:
        return row.page < start or row.page >= end
    return row.op_end <= start or row.op_start >= end


# Who is to blame, and what is in the way of that thread.


@compiled
def follow(world, thread, now_ns):
    """Find out what is in the way of a thread that is to blame: it runs, sleeps or wakes up."""
    slot = world.threads[thread].blamed_first
    while slot != NOBODY:
        _detach(world, slot)
        _attach(world, slot)
        _pass_on(world, slot, now_ns)
        slot = world.blame.slots[slot].next_blamed


@compiled
def _blame(world, slot, thread, instead, now_ns):
    """Let a thread be to blame from now on; or, if it is NOBODY, what is there instead."""
    row = world.blame.slots[slot]
    if row.blamed == thread and row.instead == instead and _is_same_class(world, row):
        return
    _advance(world, slot, now_ns)
    _absolve(world, slot)
    row.blamed = thread
    row.instead = instead
    if thread != NOBODY:
        row.next_blamed = world.threads[thread].blamed_first
        world.threads[thread].blamed_first = slot
        _attach(world, slot)
    _pass_on(world, slot, now_ns)


@compiled
def _is_same_class(world, row):
    """Whether the thread to blame, if it is one, does what it did."""
    if row.blamed == NOBODY:
        return True
    return world.blame.nodes[row.node].holder == class_of(world.threads[row.blamed])


@compiled
def _absolve(world, slot):
    """Let nobody be to blame."""
    row = world.blame.slots[slot]
    if row.blamed == NOBODY:
        return
    _detach(world, slot)
    blamed = world.threads[row.blamed]
    if blamed.blamed_first == slot:
        blamed.blamed_first = row.next_blamed
    else:
        at = blamed.blamed_first
        while world.blame.slots[at].next_blamed != slot:
            at = world.blame.slots[at].next_blamed
        world.blame.slots[at].next_blamed = row.next_blamed
    row.blamed = NOBODY


@compiled
def _attach(world, slot):
    """Put a slot above the one in which its thread waits."""
    row = world.blame.slots[slot]
    row.below = world.threads[row.blamed].slot
    if row.below == NOBODY:
        return
    below = world.blame.slots[row.below]
    row.above_before = NOBODY
    row.above_next = below.above_first
    if below.above_first != NOBODY:
        world.blame.slots[below.above_first].above_before = slot
    below.above_first = slot


@compiled
def _detach(world, slot):
    row = world.blame.slots[slot]
    if row.below == NOBODY:
        return
    if row.above_before == NOBODY:
        world.blame.slots[row.below].above_first = row.above_next
    else:
        world.blame.slots[row.above_before].above_next = row.above_next
    if row.above_next != NOBODY:
        world.blame.slots[row.above_next].above_before = row.above_before
    row.below = NOBODY


@compiled
def _pass_on(world, slot, now_ns):
    """Make the chain of a slot anew, and those of all slots whose chains lead through it."""
    slots = world.blame.slots
    world.blame.rounds += 1
    this_round = world.blame.rounds
    slots[slot].round = this_round
    slots[slot].todo_next = NOBODY
    todo = slot
    while todo != NOBODY:
        at = todo
        todo = slots[at].todo_next
        _advance(world, at, now_ns)
        if not _look(world, at):
            continue
        above = slots[at].above_first
        while above != NOBODY:
            if slots[above].round != this_round:
                slots[above].round = this_round
                slots[above].todo_next = todo
                todo = above
            above = slots[above].above_next


@compiled
def _look(world, slot):
    """Make the chain of a slot anew; returns whether it has changed."""
    row = world.blame.slots[slot]
    node_before = row.node
    vma_before = row.vma_id
    if row.blamed == NOBODY:
        row.node = _node_without_thread(world, row)
    else:
        priority = priority_of(world, row.blamed)
        holder = class_of(world.threads[row.blamed])
        row.node = ledger.node_of(world, row.kind, holder, priority, _tail_of(world, slot))
    if row.kind != Waits.VMA_WRITE:
        _take_vma(world, row)
    return row.node != node_before or row.vma_id != vma_before


@compiled
def _node_without_thread(world, row):
    """Return the node of a lock that is free, or that is held to walk page tables."""
    cause = Cause.CPU if row.instead == Activity.AGING else Cause.RUN_QUEUE
    holder = ledger.class_of(GROUPS_MAX - 1, row.instead)
    return ledger.node_of(world, row.kind, holder, np.int64(HIGHEST), np.int64(cause))


@compiled
def _take_vma(world, row):
    """Note which VMA the chain leads through: the first one that is waited for."""
    row.vma_id = NOBODY
    if row.below != NOBODY:
        below = world.blame.slots[row.below]
        row.vma_id = below.vma_id
        row.vma_start = below.vma_start
        row.vma_end = below.vma_end


@compiled
def _tail_of(world, slot):
    """Return the node of what is in the way of the thread to blame."""
    row = world.blame.slots[slot]
    blamed = world.threads[row.blamed]
    if row.below != NOBODY:
        below = row.below
        for _ in range(DEPTH_MAX):
            if below == slot:
                return np.int64(Leaf.EACH_OTHER)
            if below != NOBODY:
                below = world.blame.slots[below].below
        node = world.blame.slots[row.below].node
        if world.blame.nodes[node].depth >= DEPTH_MAX:
            return np.int64(Leaf.NO_ROOM)
        return np.int64(node)
    if blamed.state == ThreadState.RUNNING:
        is_switched_to = blamed.pending_cause == Cause.RUN_QUEUE
        return np.int64(Cause.RUN_QUEUE) if is_switched_to else np.int64(Cause.CPU)
    if blamed.state == ThreadState.RUNNABLE:
        return np.int64(Cause.RUN_QUEUE)
    return np.int64(blamed.cause)


# Slots and their clocks.


@compiled
def _advance(world, slot, now_ns):
    """Let the clock of the present chain go up to now."""
    row = world.blame.slots[slot]
    ns = now_ns - row.since_ns
    if ns == 0:
        return
    row.since_ns = now_ns
    for share in range(row.shares):
        if row.clock_node[share] == row.node and row.clock_vma_id[share] == row.vma_id:
            row.clock_ns[share] += ns
            return
    if row.shares == SHARES_MAX:
        row.clock_ns[SHARES_MAX - 1] += ns
        return
    share = row.shares
    row.shares += 1
    row.clock_ns[share] = ns
    row.clock_node[share] = row.node
    row.clock_vma_id[share] = row.vma_id
    row.clock_vma_start[share] = row.vma_start
    row.clock_vma_end[share] = row.vma_end
    if row.shares == SHARES_MAX:  # the last clock is for all chains that there is no room for
        row.clock_node[share] = NODES_UNKNOWN + row.kind
        row.clock_vma_id[share] = NOBODY


@compiled
def _new_slot(world, kind, instance, now_ns):
    """Return a slot that nobody waits in, or NOBODY if there is no room."""
    slot = world.blame.slot_free
    if slot != NOBODY:
        world.blame.slot_free = world.blame.slots[slot].next_blamed
    elif world.blame.slots_used < SLOTS_MAX:
        slot = world.blame.slots_used
        world.blame.slots_used += 1
    else:
        return np.int64(NOBODY)
    row = world.blame.slots[slot]
    row.kind = kind
    row.instance = instance
    row.waiters = 0
    row.since_ns = now_ns
    row.blamed = NOBODY
    row.instead = -1
    row.node = NODES_UNKNOWN + kind
    row.vma_id = NOBODY
    row.below = NOBODY
    row.above_first = NOBODY
    row.shares = 0
    return np.int64(slot)


@compiled
def _free(world, slot):
    row = world.blame.slots[slot]
    assert row.above_first == NOBODY, "who waits elsewhere is not above a slot"
    _absolve(world, slot)
    _forget_slot(world, row)
    row.next_blamed = world.blame.slot_free
    world.blame.slot_free = slot


@compiled
def _forget_slot(world, row):
    """Let a rwsem have no slot."""
    if row.kind == Waits.MMAP_READ:
        world.mms[row.instance].mmap_lock.slot_read = NOBODY
    elif row.kind == Waits.MMAP_WRITE:
        world.mms[row.instance].mmap_lock.slot_write = NOBODY
    elif row.kind == Waits.INVALIDATE_READ:
        world.files[row.instance].invalidate_lock.slot_read = NOBODY
    elif row.kind == Waits.INVALIDATE_WRITE:
        world.files[row.instance].invalidate_lock.slot_write = NOBODY
