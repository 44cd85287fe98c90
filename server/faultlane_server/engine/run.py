"""Where the simulation begins: one event after the other, until there is a reason to stop."""

from enum import IntEnum

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine import blame, device, interrupts, program, sched
from faultlane_server.engine.draw import mix
from faultlane_server.engine.fault import (
    anon,
    file,
    finish,
    handler,
    hugetlb,
    moved,
    swap,
    userfault,
    wp,
)
from faultlane_server.engine.jit import compiled, entry_point
from faultlane_server.engine.memory import kswapd, mglru, writeback
from faultlane_server.engine.ops import (
    advise,
    entry,
    khugepaged,
    migrate,
    numa,
    populate,
    proc,
    userfaultfd,
    writer,
)
from faultlane_server.engine.ops import end as end_of_mm
from faultlane_server.engine.ops import file as file_operation
from faultlane_server.engine.preempt import make_room
from faultlane_server.engine.queue import NEVER_NS, Kind, id_of, kind_of, soonest_ns, take
from faultlane_server.engine.tally import clear, fault_ended, operation_ended
from faultlane_server.engine.world import ROWS_MAX, Cause, Step, ThreadState

ODD = np.uint64(0x9E3779B97F4A7C15)  # scatters the time over a word


class Stop(IntEnum):
    """Why `step` came back."""

    EVENTS = 1  # the slice of events ran out: call again to go on
    ROWS = 2  # the rows are full: take them and call again
    HORIZON = 3  # simulated time ran out
    FINISHED = 4  # every thread that keeps the run alive has ended
    DEADLOCK = 5  # nothing is left to happen, and threads wait
    NO_PROGRESS = 6  # a fault was tried too often without sleeping


@entry_point
def step(worlds, events):
    """Let at most `events` events happen, and tell why no more did."""
    world = worlds[0]
    queue = world.queue
    horizon_ns = world.config.horizon_ns
    interrupts_wait = interrupts.can_wait(world)
    for _ in range(events):
        if world.fault_rows.rows >= ROWS_MAX or world.operation_rows.rows >= ROWS_MAX:
            return Stop.ROWS
        if world.running == 0:
            return Stop.FINISHED
        if world.stuck != NOBODY:
            return Stop.NO_PROGRESS
        next_ns = soonest_ns(queue)
        if interrupts_wait and interrupts.are_shut_out(world, next_ns):
            next_ns = soonest_ns(queue)
        if next_ns == NEVER_NS:
            return _nothing_is_left(world)
        if next_ns > horizon_ns:
            world.now_ns = horizon_ns
            return Stop.HORIZON
        time_ns, key = take(queue)
        assert time_ns >= world.now_ns, "time does not run backwards"
        world.now_ns = time_ns
        if not world.warm and time_ns >= world.config.warmup_ns:
            world.warm = 1
            clear(world)
        _happen(world, time_ns, key)
    return Stop.EVENTS


@compiled
def _nothing_is_left(world):
    """Tell whether threads wait for what will not happen, or daemons alone have all ended.

    A daemon that is there to resolve faults may wait for one for ever.
    """
    for thread in range(world.config.threads):
        row = world.threads[thread]
        state = row.state
        is_idle = row.daemon and row.in_operation and row.cause == Cause.USERFAULTFD
        if state != ThreadState.DONE and not is_idle:
            assert state == ThreadState.BLOCKED, "in a deadlock all threads sleep"
            return Stop.DEADLOCK
    world.now_ns = world.config.horizon_ns
    return Stop.HORIZON


@compiled
def _happen(world, now_ns, key):
    """Decide which kind of event it is, and let it happen."""
    kind = kind_of(key)
    if kind == Kind.CPU:
        cpu = id_of(key)
        row = world.cpus[cpu]
        if row.due != key:
            return  # it was taken back
        if row.stolen_ns > 0:
            sched.give_back_stolen(world, cpu)
            return
        _note(world, now_ns, key)
        if (now_ns < row.until_ns or row.need_resched) and make_room(world, cpu, now_ns):
            return
        advance(world, row.thread, now_ns)
    elif kind == Kind.READ:
        _note(world, now_ns, key)
        if device.is_held_back(world, id_of(key)):
            device.let_through(world, id_of(key), now_ns)
        else:
            device.read_done(world, id_of(key), now_ns)
        device.prefetch_next(world)
    elif kind == Kind.WRITE:
        _note(world, now_ns, key)
        if device.is_held_back(world, id_of(key)):
            device.let_through(world, id_of(key), now_ns)
        else:
            _written(world, id_of(key), now_ns)
    elif id_of(key) == writeback.FLUSHER:
        _note(world, now_ns, key)
        writeback.flusher_woken(world, now_ns)
    elif world.threads[id_of(key)].timer == key:  # else it was taken back
        _note(world, now_ns, key)
        program.sleep_ended(world, id_of(key), now_ns)


@compiled
def _written(world, folio, now_ns):
    """Complete a write, and go on with background writeback."""
    writeback.written(world, folio)
    device.write_done(world, folio, now_ns)
    writeback.keep_going(world, np.int64(world.folios[folio].io_cpu), now_ns)


@compiled
def _note(world, now_ns, key):
    """Mix an event into the fingerprint."""
    world.events += 1
    world.fingerprint = mix((world.fingerprint ^ np.uint64(key)) + np.uint64(now_ns) * ODD)


@compiled
def advance(world, thread, now_ns):
    """Let a thread do its next step."""
    step = world.threads[thread].step
    if step == Step.PROGRAM:
        program.proceed(world, thread, now_ns)
    elif step == Step.RELEASE:
        handler.release(world, thread, now_ns)
    elif step == Step.LOCK_VMA:
        handler.lock_vma(world, thread, now_ns)
    elif step == Step.FAULT_END:
        handler.end(world, thread, now_ns)
    elif step == Step.LOOKUP:
        file.lookup(world, thread, now_ns)
    elif step == Step.READAHEAD_SYNC:
        file.readahead_sync(world, thread, now_ns)
    elif step == Step.FOLIO_WOKEN:
        file.folio_woken(world, thread, now_ns)
    elif step == Step.LOCK_MMAP:
        handler.lock_mmap(world, thread, now_ns)
    elif step == Step.MMAP_GRANTED:
        handler.mmap_granted(world, thread, now_ns)
    elif step == Step.READAHEAD_ASYNC:
        file.readahead_async(world, thread, now_ns)
    elif step == Step.SYNC_READ:
        file.sync_read(world, thread, now_ns)
    elif step == Step.SYNC_READ_DONE:
        file.sync_read_done(world, thread, now_ns)
    elif step == Step.FIND:
        file.find_or_create(world, thread, now_ns)
    elif step == Step.MAP_PAGE:
        if finish.map_page(world, thread, now_ns):
            handler.release(world, thread, now_ns)
    elif step >= Step.ANON_CHARGE:
        _advance_memory(world, thread, now_ns, step)
    elif step < Step.WRITE_LOCK or step > Step.OPERATION_END:
        _advance_rarely(world, thread, now_ns, step)
    else:
        _advance_operation(world, thread, now_ns, step)


@compiled
def _advance_memory(world, thread, now_ns, step):
    """Let a thread do what is about swap, and memory that is short."""
    if step == Step.SWAP_LOOKUP:
        swap.look_up(world, thread, now_ns)
    elif step == Step.SWAP_READ_AHEAD:
        swap.read_ahead(world, thread, now_ns)
    elif step == Step.SWAP_READ_AT_ONCE:
        swap.read_at_once(world, thread, now_ns)
    elif step == Step.SWAP_WAITED:
        swap.waited(world, thread, now_ns)
    elif step == Step.SWAP_MAP:
        swap.map_page(world, thread, now_ns)
    elif step == Step.SWAP_WOKEN:
        swap.woken(world, thread, now_ns)
    elif step == Step.SWAP_KILLED:
        swap.killed(world, thread, now_ns)
    elif step == Step.SWAP_COLLIDED:
        swap.collided(world, thread, now_ns)
    elif step == Step.ANON_CHARGE:
        anon.get_page(world, thread, now_ns)
    elif step == Step.COPY_CHARGE:
        file.get_copy(world, thread, now_ns)
    elif step == Step.WP_CHARGE:
        wp.get_copy(world, thread, now_ns)
    elif step == Step.AGE:
        mglru.walk_on(world, thread, now_ns)
    elif step == Step.AGE_WALKED:
        mglru.walked(world, thread, now_ns)
    elif step >= Step.MIGRATION_OVER:
        _advance_special(world, thread, now_ns, step)
    elif step >= Step.POPULATE_HELD:
        _advance_walker(world, thread, now_ns, step)
    elif step == Step.DEVICE_CHARGE:
        moved.get_page(world, thread, now_ns)
    elif step == Step.UFFD_CHARGE:
        userfaultfd.pay(world, thread, now_ns)
    elif step == Step.SHMEM_READ:
        file.read_from_swap(world, thread, now_ns)
    elif step == Step.RESUME:
        sched.resume(world, thread, now_ns)
    else:
        assert step == Step.KSWAPD, "a step of no known kind"
        kswapd.run(world, thread, now_ns)


@compiled
def _advance_rarely(world, thread, now_ns, step):
    """Let a thread do what few faults do."""
    if step == Step.HIT_LOCKED:
        file.lock_folio(world, thread, now_ns)
    elif step == Step.READAHEAD_LOCKED:
        file.read_later(world, thread, now_ns)
    elif step == Step.FOLIO_KILLED:
        file.folio_killed(world, thread, now_ns)
    elif step == Step.SYNC_READ_KILLED:
        file.sync_read_killed(world, thread, now_ns)
    elif step == Step.REFUSED or step == Step.MMAP_KILLED:
        handler.bad_area(world, thread, now_ns)
    elif step == Step.RELOCK:
        file.relock(world, thread, now_ns)
    elif step == Step.RELOCKED:
        file.relocked(world, thread, now_ns)
    elif step == Step.RELOCK_FAILED:
        file.retry_with_the_folio(world, thread, now_ns)
    elif step == Step.ZEROED:
        file.zeroed(world, thread, now_ns)
    else:
        _advance_write(world, thread, now_ns, step)


@compiled
def _advance_special(world, thread, now_ns, step):
    """Let a thread do what few programs ask for."""
    if step == Step.FALLOC_OVER:
        file.hole_is_punched(world, thread, now_ns)
    elif step == Step.UFFD_QUEUE:
        userfault.queue(world, thread, now_ns)
    elif step == Step.UFFD_WOKEN:
        userfault.woken(world, thread, now_ns)
    elif step == Step.EXCLUSIVE_WAITED:
        moved.exclusive_waited(world, thread, now_ns)
    elif step == Step.EXCLUSIVE_WOKEN:
        moved.exclusive_woken(world, thread, now_ns)
    elif step == Step.EXCLUSIVE_KILLED:
        moved.exclusive_killed(world, thread, now_ns)
    elif step >= Step.MIGRATE:
        _advance_special_operation(world, thread, now_ns, step)
    elif step >= Step.HUGETLB_LOCKED:
        _advance_hugetlb(world, thread, now_ns, step)
    else:
        _end_special_fault(world, thread, now_ns, step)


@compiled
def _end_special_fault(world, thread, now_ns, step):
    if step == Step.YOUNG:
        handler.make_young(world, thread)
    elif step == Step.BROUGHT_BACK:
        moved.brought_back(world, thread)
    elif step == Step.EXCLUSIVE_RESTORED:
        moved.exclusive_restored(world, thread, now_ns)
    else:
        assert step == Step.MIGRATION_OVER, "a step of no known kind"
    handler.release(world, thread, now_ns)


@compiled
def _advance_hugetlb(world, thread, now_ns, step):
    """Let a thread do what is about huge pages of hugetlb."""
    if step == Step.HUGETLB_LOCKED:
        hugetlb.locked(world, thread, now_ns)
        return
    if step == Step.HUGETLB_MAP:
        hugetlb.map_page(world, thread, now_ns)
    elif step == Step.HUGETLB_COPIED:
        hugetlb.copied(world, thread, now_ns)
    elif step == Step.HUGETLB_REUSE:
        hugetlb.reuse(world, thread, now_ns)
    else:
        assert step == Step.HUGETLB_YOUNG, "a step of no known kind"
        hugetlb.make_young(world, thread, now_ns)
    handler.release(world, thread, now_ns)


@compiled
def _advance_special_operation(world, thread, now_ns, step):
    if step == Step.MIGRATE:
        migrate.begin(world, thread, now_ns)
    elif step == Step.MIGRATE_NEXT:
        migrate.go_on(world, thread, now_ns)
    elif step == Step.MIGRATE_WOKEN:
        migrate.woken(world, thread, now_ns)
    elif step == Step.MIGRATE_STABLE:
        migrate.locked(world, thread, now_ns)
    elif step == Step.MIGRATE_COPIED:
        migrate.copied(world, thread, now_ns)
    elif step == Step.UFFD_READ:
        userfaultfd.read(world, thread, now_ns)
    elif step == Step.UFFD_READ_ENDED:
        entry.leave(world, thread, now_ns)
    elif step == Step.UFFD_LOCK:
        userfaultfd.lock(world, thread, now_ns)
    elif step == Step.UFFD_LOCKED:
        userfaultfd.locked(world, thread, now_ns)
    elif step == Step.UFFD_RESOLVE:
        userfaultfd.resolve(world, thread, now_ns)
    else:
        assert step == Step.UFFD_CLOSE, "a step of no known kind"
        userfaultfd.close(world, thread, now_ns)


@compiled
def _advance_write(world, thread, now_ns, step):
    """Let a thread do what only write faults do."""
    is_done = False
    if step == Step.MKWRITE:
        finish.mkwrite_locked(world, thread, now_ns)
    elif step == Step.MKWRITE_FOLIO:
        finish.mkwrite_folio(world, thread, now_ns)
    elif step == Step.MKWRITE_WOKEN:
        finish.lock_folio_again(world, thread, now_ns)
    elif step == Step.MKWRITE_STABLE:
        finish.folio_is_stable(world, thread, now_ns)
    elif step == Step.BALANCE:
        is_done = finish.balance(world, thread, now_ns)
    elif step == Step.ANON_MAP:
        anon.map_page(world, thread)
        is_done = True
    elif step == Step.WP_COPY:
        wp.copied(world, thread)
        is_done = True
    elif step == Step.WP_REUSE:
        wp.reuse(world, thread)
        is_done = True
    else:
        _advance_file_operation(world, thread, now_ns, step)
    if is_done:
        handler.release(world, thread, now_ns)


@compiled
def _advance_file_operation(world, thread, now_ns, step):
    if step == Step.FILE_OPERATION:
        file_operation.begin(world, thread, now_ns)
    elif step == Step.INVALIDATE_WOKEN:
        file_operation.woken(world, thread, now_ns)
    elif step == Step.TRUNCATE:
        file_operation.truncate(world, thread, now_ns)
    elif step == Step.WRITE_BACK:
        file_operation.write_back(world, thread, now_ns)
    elif step == Step.READ_LOCK:
        advise.lock(world, thread, now_ns)
    elif step == Step.READ_HELD:
        advise.held(world, thread, now_ns)
    elif step == Step.READ_DONE:
        advise.apply(world, thread, now_ns)
    elif step == Step.WRITE_BACK_WOKEN:
        file_operation.folio_woken(world, thread, now_ns)
    elif step == Step.WRITTEN:
        file_operation.written(world, thread, now_ns)
    else:
        assert step == Step.WRITE_KILLED, "a step of no known kind"
        writer.killed(world, thread, now_ns)


@compiled
def _advance_walker(world, thread, now_ns, step):
    """Let a thread do what goes through pages or VMAs."""
    if step >= Step.EXEC_LOCK:
        _advance_end(world, thread, now_ns, step)
    elif step >= Step.COLLAPSE_SCAN:
        _advance_collapse(world, thread, now_ns, step)
    elif step == Step.POPULATE_HELD:
        populate.held(world, thread, now_ns)
    elif step == Step.POPULATED:
        populate.mapped(world, thread, now_ns)
    elif step == Step.PROC_LOCK:
        proc.lock(world, thread, now_ns)
    elif step == Step.PROC_HELD:
        proc.held(world, thread, now_ns)
    elif step == Step.PROC_DONE:
        proc.done(world, thread, now_ns)
    elif step == Step.NUMA_SCAN:
        numa.scan(world, thread, now_ns)
    elif step == Step.NUMA_SCANNED:
        numa.scanned(world, thread, now_ns)
    else:
        _advance_advice(world, thread, now_ns, step)


@compiled
def _advance_advice(world, thread, now_ns, step):
    if step == Step.ADVICE_READ:
        advise.read(world, thread, now_ns)
    elif step == Step.ADVICE_READ_LOCKED:
        advise.read_locked(world, thread, now_ns)
    elif step == Step.ADVICE_RELOCK:
        advise.relock(world, thread, now_ns)
    else:
        assert step == Step.ADVICE_RELOCKED, "a step of no known kind"
        advise.relocked(world, thread, now_ns)


@compiled
def _advance_collapse(world, thread, now_ns, step):
    if step == Step.COLLAPSE_SCAN:
        khugepaged.scan(world, thread, now_ns)
    elif step == Step.COLLAPSE_SCAN_HELD:
        khugepaged.scan_held(world, thread, now_ns)
    elif step == Step.COLLAPSE_SCANNED:
        khugepaged.scanned(world, thread, now_ns)
    elif step == Step.COLLAPSE_RELOCK:
        khugepaged.relock(world, thread, now_ns)
    elif step == Step.COLLAPSE_RELOCKED:
        khugepaged.relocked(world, thread, now_ns)
    else:
        assert step == Step.COLLAPSE_CHECKED, "a step of no known kind"
        khugepaged.checked(world, thread, now_ns)


@compiled
def _advance_end(world, thread, now_ns, step):
    if step == Step.EXEC_LOCK:
        end_of_mm.exec_lock(world, thread, now_ns)
    elif step == Step.EXEC_HELD:
        end_of_mm.exec_held(world, thread, now_ns)
    elif step == Step.EXEC_DONE:
        end_of_mm.exec_done(world, thread, now_ns)
    elif step == Step.EXIT_LOCK:
        end_of_mm.lock(world, thread, now_ns)
    elif step == Step.EXIT_HELD:
        end_of_mm.held(world, thread, now_ns)
    else:
        assert step == Step.EXIT_UNMAPPED, "a step of no known kind"
        end_of_mm.unmapped(world, thread, now_ns)


@compiled
def _advance_operation(world, thread, now_ns, step):
    if step == Step.WRITE_LOCK:
        writer.write_lock(world, thread, now_ns)
    elif step == Step.WRITE_QUEUE:
        writer.write_queue(world, thread, now_ns)
    elif step == Step.WRITE_WOKEN:
        writer.write_woken(world, thread, now_ns)
    elif step == Step.WRITE_HELD:
        writer.held(world, thread, now_ns)
    elif step == Step.SPIN_EXPIRED:
        writer.spin_expired(world, thread, now_ns)
    elif step == Step.DRAIN_EXPIRED:
        writer.drain_expired(world, thread, now_ns)
    elif step == Step.DRAINED:
        writer.drained(world, thread, now_ns)
    elif step == Step.APPLY:
        writer.apply(world, thread, now_ns)
    elif step == Step.ZAP:
        writer.zap(world, thread, now_ns)
    else:
        assert step == Step.OPERATION_END, "a step of no known kind"
        writer.end(world, thread, now_ns)


@entry_point
def close(worlds):
    """Write down what has not ended, in the order of threads, as far as there are rows.

    Returns whether everything is written down. Time that was charged beyond the end
    of the run is taken back.
    """
    world = worlds[0]
    end_ns = world.now_ns
    if not world.warm:
        world.warm = 1
        clear(world)
    while world.closing < world.config.threads:
        if world.fault_rows.rows >= ROWS_MAX or world.operation_rows.rows >= ROWS_MAX:
            return False
        thread = world.closing
        world.closing += 1
        row = world.threads[thread]
        if row.in_fault or row.in_operation:
            _settle_to(world, thread, end_ns)
        if row.begin_ns > end_ns or sched.has_not_begun(row):
            continue  # it was charged for what comes before the begin
        if row.in_fault:
            fault_ended(world, thread, end_ns, 0)
        elif row.in_operation:
            operation_ended(world, thread, end_ns, 0)
    return True


@compiled
def _settle_to(world, thread, end_ns):
    """Charge a thread up to the end of the run, and not beyond."""
    row = world.threads[thread]
    if row.state == ThreadState.RUNNING:
        sched.take_back(world, thread, end_ns)
    else:
        row.wait_ns[row.cause] += end_ns - row.since_ns
    if row.state == ThreadState.BLOCKED or row.state == ThreadState.SPINNING:
        blame.account(world, thread, end_ns, end_ns - row.since_ns)


@entry_point
def start(worlds):
    """Give the threads their CPUs, in the order of their numbers."""
    world = worlds[0]
    for thread in range(world.config.threads):
        world.threads[thread].step = Step.PROGRAM
        sched.make_runnable(world, thread, 0, 0)
    if world.kswapd != NOBODY:
        world.threads[world.kswapd].step = Step.KSWAPD
        sched.make_runnable(world, world.kswapd, 0, 0)
