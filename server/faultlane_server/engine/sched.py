"""CPUs, run queues, and where the time of a thread goes.

Run queues are first come, first served; a CPU that would fall idle takes a
thread from the longest other queue. There are no time slices in this version: a
thread runs until it sleeps.

Time is charged where it passes: a burst to CPU time when it is scheduled, a wait
to its cause when it ends. So the charges of a fault add up to its duration by
construction, and `tally` asserts that they do.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine import blame
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import count, waited
from faultlane_server.engine.world import CAUSES, Cause, Counter, ThreadState


@compiled
def owe(world, thread, ns):
    """Charge CPU time with the next burst of a thread."""
    world.threads[thread].owed_ns += ns


@compiled
def burst(world, thread, now_ns, ns, step):
    """Let a thread run for `ns` and what it owes, and then do `step`."""
    runner = world.threads[thread]
    cpu_ns = ns + runner.owed_ns
    stall_ns = runner.stall_ns
    reclaim_ns = runner.reclaim_owed_ns
    runner.owed_ns = 0
    runner.stall_ns = 0
    runner.reclaim_owed_ns = 0
    runner.step = step
    runner.state = ThreadState.RUNNING
    runner.wait_ns[Cause.CPU] += cpu_ns
    runner.wait_ns[Cause.LOCK_WORD] += stall_ns
    runner.wait_ns[Cause.RECLAIM] += reclaim_ns
    runner.pending_cause = Cause.CPU
    runner.pending_stall_ns = stall_ns
    runner.pending_reclaim_ns = reclaim_ns
    if runner.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)
    _schedule(world, runner.cpu, now_ns + cpu_ns + stall_ns + reclaim_ns)


@compiled
def _schedule(world, cpu, time_ns):
    row = world.cpus[cpu]
    row.until_ns = time_ns
    row.due = push(world.queue, time_ns, Kind.CPU, cpu)


@compiled
def wait_spinning(world, thread, now_ns, cause, waits_for):
    """Let a thread watch a lock on its CPU; there is no event until somebody ends it."""
    spinner = world.threads[thread]
    spinner.state = ThreadState.SPINNING
    spinner.since_ns = now_ns
    spinner.cause = cause
    spinner.waits_for = waits_for
    world.cpus[spinner.cpu].due = -1
    if spinner.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)


@compiled
def spin_until(world, thread, time_ns, step):
    """Let a spinning thread do `step` when its patience ends."""
    spinner = world.threads[thread]
    spinner.step = step
    _schedule(world, spinner.cpu, time_ns)


@compiled
def stop_spinning(world, thread, now_ns, step):
    """End a thread's spin: it does `step` at once."""
    _settle(world, thread, now_ns)
    world.cpus[world.threads[thread].cpu].stolen_ns = 0
    burst(world, thread, now_ns, 0, step)


@compiled
def _settle(world, thread, now_ns):
    """Charge a wait that ends now to its cause."""
    sleeper = world.threads[thread]
    ns = now_ns - sleeper.since_ns
    sleeper.wait_ns[sleeper.cause] += ns
    blame.ended(world, thread, now_ns, ns)
    if sleeper.waits_for != NOBODY:
        waited(sleeper, ns)


@compiled
def change_cause(world, thread, now_ns, cause, waits_for):
    """Go on waiting, but for something else."""
    _settle(world, thread, now_ns)
    sleeper = world.threads[thread]
    sleeper.since_ns = now_ns
    sleeper.cause = cause
    sleeper.waits_for = waits_for


@compiled
def block(world, thread, now_ns, cause, waits_for, step):
    """Take a thread off its CPU; `step` is what it does when it was woken."""
    sleeper = world.threads[thread]
    sleeper.step = step
    sleeper.state = ThreadState.BLOCKED
    sleeper.since_ns = now_ns
    sleeper.cause = cause
    sleeper.waits_for = waits_for
    sleeper.killed_step = 0
    sleeper.blocked_ns = now_ns
    if sleeper.held:
        blame.leaves_cpu(world, thread, now_ns)
    if sleeper.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)
    leave_cpu(world, sleeper.cpu, now_ns)


@compiled
def leave_cpu(world, cpu, now_ns):
    """Give a CPU that was left to the next thread, or to nobody."""
    row = world.cpus[cpu]
    row.thread = NOBODY
    row.due = -1
    row.stolen_ns = 0
    row.free_ns = now_ns + world.config.cost.sleep_ns
    count(world, Counter.CONTEXT_SWITCHES, 1)
    source = cpu if row.queued > 0 else _longest_queue(world)
    if source == NOBODY:
        _idle_push(world, cpu)
        return
    _dispatch(world, cpu, _dequeue(world, source), now_ns, 0)


@compiled
def _longest_queue(world):
    """Return the CPU with the longest run queue, or NOBODY if all are empty."""
    if world.queued == 0:
        return NOBODY
    longest = 0
    for cpu in range(world.config.cpus):
        if world.cpus[cpu].queued > world.cpus[longest].queued:
            longest = cpu
    return longest


@compiled
def wake(world, thread, now_ns, delay_ns):
    """Make a blocked thread runnable; an idle CPU takes it, after `delay_ns` if at all."""
    sleeper = world.threads[thread]
    assert sleeper.state == ThreadState.BLOCKED, "only a blocked thread is woken"
    if now_ns > sleeper.blocked_ns:
        sleeper.awake_attempts = 0
    _settle(world, thread, now_ns)
    make_runnable(world, thread, now_ns, delay_ns)


@compiled
def wake_from(world, thread, waker, now_ns):
    """Wake a blocked thread at the expense of the thread that wakes it."""
    owe(world, waker, world.config.cost.wake_ns)
    wake(world, thread, now_ns, 0)


@compiled
def make_runnable(world, thread, now_ns, delay_ns):
    """Give a thread a CPU, or a place in a run queue."""
    row = world.threads[thread]
    row.since_ns = now_ns
    row.cause = Cause.RUN_QUEUE
    row.waits_for = NOBODY
    if world.cpus[row.cpu].is_idle:
        cpu = row.cpu
    else:
        cpu = world.idle_first
    if cpu == NOBODY:
        row.state = ThreadState.RUNNABLE
        _enqueue(world, row.cpu, thread)
    else:
        _idle_remove(world, cpu)
        _dispatch(world, cpu, thread, now_ns, delay_ns + world.config.cost.idle_exit_ns)
    if row.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)


@compiled
def _dispatch(world, cpu, thread, now_ns, delay_ns):
    """Switch a CPU to a thread, which goes on with its step after the switch."""
    row = world.threads[thread]
    prefetch(row)
    row.cpu = cpu
    row.state = ThreadState.RUNNING
    free_ns = max(now_ns, world.cpus[cpu].free_ns)
    time_ns = free_ns + delay_ns + world.config.cost.switch_ns
    row.wait_ns[Cause.RUN_QUEUE] += time_ns - row.since_ns
    row.pending_cause = Cause.RUN_QUEUE
    row.pending_stall_ns = 0
    row.pending_reclaim_ns = 0
    world.cpus[cpu].thread = thread
    world.cpus[cpu].stolen_ns = 0
    _schedule(world, cpu, time_ns)


@compiled
def _enqueue(world, cpu, thread):
    row = world.cpus[cpu]
    world.threads[thread].runs_behind = NOBODY
    if row.queued == 0:
        row.first = thread
    else:
        world.threads[row.last].runs_behind = thread
    row.last = thread
    row.queued += 1
    world.queued += 1


@compiled
def _dequeue(world, cpu):
    row = world.cpus[cpu]
    thread = row.first
    row.first = world.threads[thread].runs_behind
    row.queued -= 1
    world.queued -= 1
    return thread


@compiled
def _idle_push(world, cpu):
    """Put a CPU at the front of the idle ones: the next wake-up finds it warm."""
    row = world.cpus[cpu]
    row.is_idle = 1
    row.idle_before = NOBODY
    row.idle_next = world.idle_first
    if world.idle_first != NOBODY:
        world.cpus[world.idle_first].idle_before = cpu
    world.idle_first = cpu


@compiled
def _idle_remove(world, cpu):
    row = world.cpus[cpu]
    row.is_idle = 0
    if row.idle_before == NOBODY:
        world.idle_first = row.idle_next
    else:
        world.cpus[row.idle_before].idle_next = row.idle_next
    if row.idle_next != NOBODY:
        world.cpus[row.idle_next].idle_before = row.idle_before


@compiled
def cut_short(world, thread, now_ns):
    """Let the burst of a thread in user mode end now: a fatal signal has come."""
    _schedule(world, world.threads[thread].cpu, now_ns)


@compiled
def interrupt(world, cpu, ns):
    """Let an interrupt take time from whoever runs on a CPU.

    Returns how long it takes, which is how much later a thread that it wakes can run.
    """
    count(world, Counter.INTERRUPTS_NS, ns)
    row = world.cpus[cpu]
    if not row.is_idle and row.due >= 0:
        row.stolen_ns += ns
    return ns


@compiled
def give_back_stolen(world, cpu, now_ns):
    """Put off the event of a CPU by what interrupts took.

    As in the kernel's tick accounting, the time is charged to the thread that was
    interrupted; one that was just being switched to waits for its CPU that much
    longer.
    """
    row = world.cpus[cpu]
    thread = world.threads[row.thread]
    if thread.state == ThreadState.RUNNING:
        thread.wait_ns[thread.pending_cause] += row.stolen_ns
    _schedule(world, cpu, now_ns + row.stolen_ns)
    row.stolen_ns = 0


@compiled
def settle_spin(world, thread, now_ns):
    """Charge a spin that its own patience ended; the thread goes on at once."""
    _settle(world, thread, now_ns)
    world.threads[thread].state = ThreadState.RUNNING


@compiled
def begin_account(world, thread, now_ns, spent_ns):
    """Begin to account for a fault or an operation that starts `spent_ns` from now.

    The next burst pays for the time until then as well, and for what the thread owes
    already; neither is the fault's.
    """
    row = world.threads[thread]
    before_ns = spent_ns + row.owed_ns
    for cause in range(CAUSES):
        row.wait_ns[cause] = 0
    row.wait_ns[Cause.CPU] = -before_ns
    row.wait_ns[Cause.LOCK_WORD] = -row.stall_ns
    row.wait_ns[Cause.RECLAIM] = -row.reclaim_owed_ns
    row.begin_ns = now_ns + before_ns + row.stall_ns + row.reclaim_owed_ns
    row.blocker = NOBODY
    row.blocker_ns = 0
