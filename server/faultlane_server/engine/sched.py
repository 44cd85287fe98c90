"""CPUs and their threads: who runs, who waits for a CPU, and where the time of a thread goes.

Each CPU has a run queue, from which `fair` picks. A CPU that would fall idle takes a thread
from the longest other queue; a CPU whose slice ends gives one to a queue that is shorter by
two. A thread that wakes up takes an idle CPU, the one where it ran last first; else it
queues there, and may run at once instead of the one that runs. A real-time thread goes
where the least urgent thread runs.

A burst can be cut short, by the end of a slice or by somebody more urgent, where the kernel
could be left: see `preempt`, which is what turns the wish (`need_resched`) into a switch.

Time is charged where it passes: a burst to CPU time when it is scheduled, a wait
to its cause when it ends. So the charges of a fault add up to its duration by
construction, and `tally` asserts that they do.
"""

import numpy as np

from faultlane_server.codes import NOBODY, Preemption, SchedPolicy
from faultlane_server.engine import blame, cold, fair, run_heap
from faultlane_server.engine.jit import compiled, prefetch
from faultlane_server.engine.queue import NEVER_NS, Kind, push
from faultlane_server.engine.tally import count, waited
from faultlane_server.engine.world import CAUSES, Cause, Counter, Step, ThreadState

ONE = np.uint64(1)
BY_TICK = 1  # why need_resched is set: a slice was over
BY_WAKE = 2  # a thread woke up
COND_RESCHED_NS = 20_000  # assumed: from one cond_resched() of a long loop to the next


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
    if runner.cold_left_ns > 0:
        cpu_ns += cold.extra_ns(world.config.cost, runner, cpu_ns)
    row = world.cpus[runner.cpu]
    end_ns = now_ns + cpu_ns + stall_ns + reclaim_ns
    if end_ns >= row.tick_ns:
        ticks_ns = _ticks_ns(world.config, row, now_ns, end_ns)
        cpu_ns += ticks_ns
        end_ns += ticks_ns
    if runner.unmapped:
        runner.unmapped = 0
        _let_interrupts_in(world, end_ns)
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
    _schedule(world, runner.cpu, end_ns)


@compiled
def _ticks_ns(config, cpu, now_ns, end_ns):
    """Return what the ticks take that strike a burst; while a CPU is idle it has none."""
    jiffy_ns = config.jiffy_ns
    if cpu.tick_ns < now_ns:
        cpu.tick_ns = (now_ns // jiffy_ns + 1) * jiffy_ns
    if end_ns < cpu.tick_ns:
        return 0
    ticks = (end_ns - cpu.tick_ns) // jiffy_ns + 1
    cpu.tick_ns += ticks * jiffy_ns
    return ticks * config.cost.tick_ns


@compiled
def _schedule(world, cpu, time_ns):
    """Let the thread of a CPU have its event, or be looked at before, when its slice is over."""
    row = world.cpus[cpu]
    row.until_ns = time_ns
    _push(world, cpu, min(time_ns, max(row.slice_until_ns, world.now_ns)))


@compiled
def _push(world, cpu, time_ns):
    row = world.cpus[cpu]
    row.due = -1 if time_ns == NEVER_NS else push(world.queue, time_ns, Kind.CPU, cpu)


@compiled
def wait_spinning(world, thread, now_ns, cause, waits_for):
    """Let a thread watch a lock on its CPU, until somebody ends that."""
    spinner = world.threads[thread]
    spinner.state = ThreadState.SPINNING
    spinner.since_ns = now_ns
    spinner.cause = cause
    spinner.waits_for = waits_for
    _schedule(world, spinner.cpu, NEVER_NS)
    if spinner.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)


@compiled
def is_asked_to_leave(world, thread):
    """Whether a thread that runs is to make room on its CPU (need_resched)."""
    return world.cpus[world.threads[thread].cpu].need_resched != 0


@compiled
def spin_on(world, thread):
    """Let a spinning thread have patience without end."""
    _schedule(world, world.threads[thread].cpu, NEVER_NS)


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
    if sleeper.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)


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
    leave_cpu(world, thread, now_ns)


@compiled
def leave_cpu(world, thread, now_ns):
    """Let a thread have no CPU any more: it sleeps, or has ended.

    It pays for going to sleep. Until it has, it is on its CPU for everybody who wakes up there:
    so if nobody is to run next, and no other CPU is idle, it stays in the run queue, and
    `_let_sleepers_go` takes it out.
    """
    runner = world.threads[thread]
    cpu = world.cpus[runner.cpu]
    cold.left_off(cpu, runner, now_ns)
    fair.ran(cpu, runner, now_ns + world.config.cost.sleep_ns)
    is_last = world.queued == 0 and world.idle_first == NOBODY
    stays = is_last or not fair.is_eligible(cpu, runner)
    if stays and runner.state != ThreadState.DONE and not fair.is_real_time(runner):
        runner.is_delayed = 1
        world.run_order += 1
        fair.put(world, cpu, thread, world.run_order)
    else:
        fair.leave(cpu, runner)
    _vacate(world, runner.cpu, now_ns)


@compiled
def give_way(world, thread, now_ns):
    """Let a thread that goes on later give its CPU to the one that is to run now.

    It takes an idle CPU, if there is one where it may run.
    """
    runner = world.threads[thread]
    left = runner.cpu
    runner.state = ThreadState.RUNNABLE
    runner.since_ns = now_ns
    runner.cause = Cause.RUN_QUEUE
    runner.waits_for = NOBODY
    count(world, Counter.PREEMPTIONS, 1)
    cold.left_off(world.cpus[left], runner, now_ns)
    if runner.held:
        blame.leaves_cpu(world, thread, now_ns)
    if runner.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)
    cpu = _idle_for(world, runner)
    if cpu != NOBODY:
        _bring(world, thread, cpu, now_ns)
        _idle_remove(world, cpu)
        _wake_up(world, cpu, thread, now_ns, 0)
    else:
        world.run_order += 1
        stays_first = fair.is_real_time(runner) and not world.cpus[left].slice_is_over
        _queue(world, left, thread, -world.run_order if stays_first else world.run_order)
    _vacate(world, left, now_ns)


@compiled
def cut_off(world, thread, now_ns):
    """Take back what the thread of a CPU was charged for the rest of its burst.

    It owes that from now on, and goes on with it when it has a CPU again.
    """
    runner = world.threads[thread]
    cpu_ns, stall_ns, reclaim_ns = take_back(world, thread, now_ns)
    runner.owed_ns += cpu_ns
    runner.stall_ns += stall_ns
    runner.reclaim_owed_ns += reclaim_ns
    runner.cut_step = runner.step
    runner.step = Step.RESUME


@compiled
def take_back(world, thread, now_ns):
    """Charge a thread that has a CPU up to now, and not until its burst is over.

    Returns what it was charged for the rest: CPU time or for the switch to it, for lock words,
    and for reclaim. These come last, in the reverse order.
    """
    runner = world.threads[thread]
    left_ns = world.cpus[runner.cpu].until_ns - now_ns
    stall_ns = min(left_ns, runner.pending_stall_ns)
    reclaim_ns = min(left_ns - stall_ns, runner.pending_reclaim_ns)
    other_ns = left_ns - stall_ns - reclaim_ns
    runner.wait_ns[runner.pending_cause] -= other_ns
    runner.wait_ns[Cause.LOCK_WORD] -= stall_ns
    runner.wait_ns[Cause.RECLAIM] -= reclaim_ns
    return other_ns, stall_ns, reclaim_ns


@compiled
def resume(world, thread, now_ns):
    """Go on with the burst that was cut off.

    If that was before its fault or operation began, that begins later for it.
    """
    runner = world.threads[thread]
    if has_not_begun(runner):
        away_ns = now_ns - runner.since_ns
        runner.wait_ns[Cause.RUN_QUEUE] -= away_ns
        runner.begin_ns += away_ns
    burst(world, thread, now_ns, 0, runner.cut_step)


@compiled
def has_not_begun(runner):
    """Whether a thread was cut off before its fault or operation began."""
    return runner.step == Step.RESUME and runner.begin_ns > runner.since_ns


@compiled
def _vacate(world, cpu, now_ns):
    """Give a CPU that was left to the next thread, or to nobody."""
    row = world.cpus[cpu]
    row.thread = NOBODY
    row.due = -1
    row.stolen_ns = 0
    row.free_ns = now_ns + world.config.cost.sleep_ns + world.config.cost.dequeue_ns
    count(world, Counter.CONTEXT_SWITCHES, 1)
    thread = _next(world, cpu)
    if thread == NOBODY:
        _idle_push(world, cpu)
        return
    _unqueue(world, thread)
    if row.ready != NOBODY:
        prefetch(world.threads[row.ready])
    _bring(world, thread, cpu, now_ns)
    _dispatch(world, cpu, thread, now_ns, 0)


@compiled
def _next(world, cpu):
    """Return which of the threads that wait a CPU is to run, or NOBODY."""
    if world.queued == 0 and world.idle_first == NOBODY:
        return NOBODY
    thread = fair.best(world, world.cpus[cpu])
    if world.queued == 0:
        return NOBODY
    if world.real_time_queued > 0:
        return _most_urgent(world, cpu, thread)
    if thread == NOBODY:
        return _from_longest_queue(world, cpu)
    return thread


@compiled
def _most_urgent(world, cpu, thread):
    """Return the real-time thread that a CPU is to run, wherever it waits; else `thread`."""
    for other in range(world.config.cpus):
        row = world.cpus[other]
        if other == cpu or row.queued == 0:
            continue
        first = fair.best(world, row)
        runner = world.threads[first]
        if not fair.is_real_time(runner) or not may_run(world, runner, cpu):
            continue
        if thread == NOBODY or runner.priority > world.threads[thread].priority:
            thread = first
    return _from_longest_queue(world, cpu) if thread == NOBODY else thread


@compiled
def _from_longest_queue(world, cpu):
    """Return the first thread that may run on a CPU from the longest queue with one, or NOBODY."""
    longest = 0
    for other in range(world.config.cpus):
        if world.cpus[other].queued > world.cpus[longest].queued:
            longest = other
    thread = _movable(world, world.cpus[longest], cpu)
    if thread != NOBODY or world.config.has_affinities == 0:
        return thread
    queued = 0
    for other in range(world.config.cpus):
        if world.cpus[other].queued > queued:
            first = _movable(world, world.cpus[other], cpu)
            if first != NOBODY:
                queued = world.cpus[other].queued
                thread = first
    return thread


@compiled
def _movable(world, row, cpu):
    """Return the best thread of a run queue for another CPU, else any that may run there."""
    thread = fair.best(world, row)
    if thread == NOBODY or may_run(world, world.threads[thread], cpu):
        return thread
    for top in (row.ready, row.late):
        thread = top
        while thread != NOBODY:
            runner = world.threads[thread]
            if may_run(world, runner, cpu) and not runner.is_delayed:
                return thread
            thread = run_heap.next_of(world.run_nodes, thread)
    return NOBODY


@compiled
def may_run(world, runner, cpu):
    """Whether the affinity of a thread lets it run on a CPU."""
    if runner.affinity == 0:
        return True
    return (world.affinities[runner.affinity, cpu >> 6] >> np.uint64(cpu & 63)) & ONE != 0


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
    """Wake a blocked thread at the expense of the thread that wakes it.

    CPUs that share no cache send each other an interrupt for it (ttwu_queue_wakelist).
    """
    cost = world.config.cost
    owe(world, waker, cost.wake_ns)
    wake(world, thread, now_ns, 0)
    cpu = world.threads[thread].cpu
    if not _shares_cache(world, cpu, world.threads[waker].cpu):
        owe(world, waker, cost.ipi_ns)
        interrupt(world, cpu, cost.ipi_irq_ns)
        _let_interrupts_in(world, now_ns)


@compiled
def _shares_cache(world, cpu, other):
    """Whether two CPUs share a last-level cache (cpus_share_cache)."""
    together = world.config.cpus_per_cache
    return together == world.config.cpus or cpu // together == other // together


@compiled
def make_runnable(world, thread, now_ns, delay_ns):
    """Give a thread a CPU, or a place in a run queue."""
    row = world.threads[thread]
    row.since_ns = now_ns
    row.cause = Cause.RUN_QUEUE
    row.waits_for = NOBODY
    _let_sleepers_go(world, world.cpus[row.cpu], now_ns)
    if row.is_delayed and world.cpus[row.cpu].is_idle:
        fair.let_sleep(world, world.cpus[row.cpu], thread)
    cpu = NOBODY if row.is_delayed else _idle_for(world, row)
    if row.is_delayed:
        _queue_again(world, thread, now_ns)
    elif cpu != NOBODY:
        row.cpu = cpu
        _let_sleepers_go(world, world.cpus[cpu], now_ns)
        _idle_remove(world, cpu)
        fair.join(world.cpus[cpu], row)
        _wake_up(world, cpu, thread, now_ns, delay_ns)
    else:
        _wait_for_cpu(world, thread, now_ns)
    if row.blamed_first != NOBODY:
        blame.follow(world, thread, now_ns)


@compiled
def _let_sleepers_go(world, cpu, now_ns):
    """Empty the run queue of a CPU that has fallen idle: only sleepers are there."""
    if cpu.is_idle and now_ns >= cpu.since_ns:
        fair.best(world, cpu)


@compiled
def _queue_again(world, thread, now_ns):
    """Let a sleeper that has not left its run queue yet want the CPU again (ttwu_runnable).

    It stays on its CPU even if another one is idle, until a tick evens the queues out or an idle
    CPU looks for work, and it keeps its deadline. Whether it still owes anything is asked before
    the thread that runs is charged (requeue_delayed_entity has no update_curr).
    """
    row = world.threads[thread]
    fair.take(world, world.cpus[row.cpu], thread)
    fair.stay(world.cpus[row.cpu], row)
    _bring_up_to_date(world, row.cpu, now_ns)
    row.state = ThreadState.RUNNABLE
    row.stays = 1
    world.run_order += 1
    _queue(world, row.cpu, thread, world.run_order)
    _challenge(world, row.cpu, thread, now_ns)


@compiled
def _wait_for_cpu(world, thread, now_ns):
    """Put a thread into the run queue of its CPU; a real-time one into that of the least urgent."""
    row = world.threads[thread]
    if fair.is_real_time(row):
        row.cpu = _least_urgent(world, row)
    _bring_up_to_date(world, row.cpu, now_ns)
    row.state = ThreadState.RUNNABLE
    fair.join(world.cpus[row.cpu], row)
    world.run_order += 1
    _queue(world, row.cpu, thread, world.run_order)
    _challenge(world, row.cpu, thread, now_ns)


@compiled
def _bring_up_to_date(world, cpu, now_ns):
    """Let the time of a CPU be what it is now: its thread has run meanwhile (update_curr)."""
    row = world.cpus[cpu]
    if row.thread == NOBODY:
        return
    current = world.threads[row.thread]
    if fair.ran(row, current, now_ns) and not fair.is_alone(row, current):
        _set_need_resched(world, cpu, now_ns)


@compiled
def _idle_for(world, runner):
    """Return an idle CPU that a thread may run on, its last one first, or NOBODY.

    It shares a cache with the last one (select_idle_sibling). One that somebody is just leaving is
    not idle yet; it is taken if no other one is.
    """
    own = world.cpus[runner.cpu]
    if own.is_idle and own.since_ns <= world.now_ns:
        return runner.cpu
    found = np.int64(runner.cpu) if own.is_idle else np.int64(NOBODY)
    cpu = np.int64(world.idle_first)
    while cpu != NOBODY:
        if _shares_cache(world, cpu, runner.cpu) and may_run(world, runner, cpu):
            if world.cpus[cpu].since_ns <= world.now_ns:
                return cpu
            if found == NOBODY:
                found = cpu
        cpu = np.int64(world.cpus[cpu].idle_next)
    return found


@compiled
def _least_urgent(world, runner):
    """Return on which CPU a real-time thread is to run: on its last one, if all are alike."""
    found = runner.cpu
    least = world.threads[world.cpus[found].thread].priority
    for cpu in range(world.config.cpus):
        if may_run(world, runner, cpu):
            priority = world.threads[world.cpus[cpu].thread].priority
            if priority < least:
                found = cpu
                least = priority
    return found


@compiled
def _challenge(world, cpu, thread, now_ns):
    """Let a thread that has joined a queue run instead of the one that runs, if it is to."""
    row = world.cpus[cpu]
    if now_ns < row.chosen_ns:
        _choose_again(world, cpu, thread, now_ns)
    elif row.need_resched:
        row.need_resched = BY_WAKE
    elif _preempts(world, row, thread):
        _set_need_resched(world, cpu, now_ns)
    elif row.slice_until_ns == NEVER_NS:
        _begin_slice(world, cpu, now_ns)
        _hurry(world, cpu)


@compiled
def _choose_again(world, cpu, thread, now_ns):
    """Let an idle CPU that is just waking up for a thread take another one, if that comes first."""
    row = world.cpus[cpu]
    if not _comes_first(world, row, thread):
        if row.slice_until_ns == NEVER_NS:
            _begin_slice(world, cpu, now_ns)
        return
    current = row.thread
    runner = world.threads[current]
    take_back(world, current, now_ns)
    runner.state = ThreadState.RUNNABLE
    runner.since_ns = now_ns
    _unqueue(world, thread)
    world.run_order += 1
    _queue(world, cpu, current, world.run_order)
    if runner.blamed_first != NOBODY:
        blame.follow(world, current, now_ns)
    _dispatch(world, cpu, thread, now_ns, max(row.chosen_ns - now_ns, 0))


@compiled
def _comes_first(world, cpu, thread):
    """Whether a CPU that has not begun to run anybody is to run a thread that has just come."""
    runner, current = world.threads[thread], world.threads[cpu.thread]
    if fair.is_real_time(runner) or fair.is_real_time(current):
        return runner.priority > current.priority
    if fair.first(world, cpu) != thread:
        return False
    if not fair.is_eligible(cpu, current):
        return True
    return runner.virtual_deadline_ns < current.virtual_deadline_ns


@compiled
def _preempts(world, cpu, thread):
    """Whether a thread that woke up is to run at once (wakeup_preempt)."""
    runner, current = world.threads[thread], world.threads[cpu.thread]
    if fair.is_real_time(runner) or fair.is_real_time(current):
        return runner.priority > current.priority
    if not world.config.wakeup_preemption or runner.policy == SchedPolicy.IDLE:
        return False
    if current.policy == SchedPolicy.IDLE:
        return True
    if runner.policy != SchedPolicy.OTHER:
        return False
    return fair.rival(world, cpu, cpu.thread) == thread


@compiled
def _set_need_resched(world, cpu, now_ns):
    """Let the thread of a CPU make room as soon as it can be made to, as another one woke up.

    Until then it runs for free, and the one that runs next pays (rq_clock_skip_update).
    """
    row = world.cpus[cpu]
    row.need_resched = BY_WAKE
    row.slice_until_ns = 0
    if can_be_cut_off(world, row.thread, now_ns):
        _hurry(world, cpu)


@compiled
def _hurry(world, cpu):
    """Let the thread of a CPU be looked at as early as its slice says."""
    row = world.cpus[cpu]
    time_ns = max(row.slice_until_ns, world.now_ns)
    if time_ns < row.until_ns:
        _push(world, cpu, time_ns)


@compiled
def carry_on(world, cpu, now_ns):
    """Let the thread of a CPU have its event when it was going to, with a new slice."""
    _begin_slice(world, cpu, now_ns)
    _schedule(world, cpu, world.cpus[cpu].until_ns)


@compiled
def finish_burst(world, cpu):
    """Let the thread of a CPU have its event when it was going to, whatever its slice says."""
    row = world.cpus[cpu]
    _push(world, cpu, row.until_ns)


@compiled
def _begin_slice(world, cpu, now_ns):
    """Set when the slice of the thread of a CPU is over, if anybody waits for that.

    Slices end at ticks.
    """
    row = world.cpus[cpu]
    runner = world.threads[row.thread]
    row.slice_until_ns = NEVER_NS
    row.slice_is_over = 0
    if row.queued == 0 or runner.policy == SchedPolicy.FIFO:
        return
    if fair.is_real_time(runner):
        fair.renew(world.config, runner)
    jiffy_ns = world.config.jiffy_ns
    end_ns = now_ns + max(fair.slice_left_ns(runner), 1)
    row.slice_until_ns = (end_ns + jiffy_ns - 1) // jiffy_ns * jiffy_ns


@compiled
def tick_waits(world, cpu, now_ns):
    """Put off the tick that ends a slice, if interrupts have to wait."""
    if now_ns >= world.queue.opens_ns:
        return False
    row = world.cpus[cpu]
    row.slice_until_ns = world.queue.opens_ns
    _schedule(world, cpu, row.until_ns)
    return True


@compiled
def _let_interrupts_in(world, time_ns):
    """Let interrupts that wait, ticks too, strike at a time, if they do not before."""
    if time_ns >= world.queue.opens_ns:
        return
    opened_ns = world.queue.opens_ns
    world.queue.opens_ns = time_ns
    for cpu in range(world.config.cpus):
        row = world.cpus[cpu]
        if row.slice_until_ns == opened_ns and not row.is_idle:
            row.slice_until_ns = time_ns
            _hurry(world, cpu)


@compiled
def tick(world, cpu, now_ns):
    """See whether somebody else is to run, now that a slice may be over (entity_tick)."""
    row = world.cpus[cpu]
    current = world.threads[row.thread]
    is_over = fair.ran(row, current, now_ns)
    if fair.is_real_time(current):
        is_over = fair.renew(world.config, current)
    _balance(world, cpu, now_ns)
    if row.queued == 0:
        return
    row.slice_is_over = is_over
    row.need_resched = BY_TICK
    row.slice_until_ns = 0


@compiled
def is_to_leave(world, cpu, now_ns):
    """Whether the thread of a CPU is to make room for another one; if not, it need not be asked."""
    row = world.cpus[cpu]
    if row.need_resched:
        current = world.threads[row.thread]
        if row.need_resched != BY_WAKE:
            fair.ran(row, current, now_ns)
        if fair.rival(world, row, row.thread) != NOBODY:
            return True
        if row.slice_is_over and fair.is_real_time(current):
            thread = fair.first(world, row)
            if thread != NOBODY and world.threads[thread].priority == current.priority:
                return True
    row.need_resched = 0
    return False


@compiled
def _balance(world, cpu, now_ns):
    """Give a thread that waits to the CPU with the fewest threads, if those are fewer by two."""
    row = world.cpus[cpu]
    shortest = cpu
    for other in range(world.config.cpus):
        if _threads_on(world.cpus[other]) < _threads_on(world.cpus[shortest]):
            shortest = other
    if _threads_on(row) < _threads_on(world.cpus[shortest]) + 2:
        return
    thread = _movable(world, row, shortest)
    if thread == NOBODY:
        return
    order = world.run_nodes[thread].order
    _unqueue(world, thread)
    _bring(world, thread, shortest, now_ns)
    if world.cpus[shortest].is_idle:
        _idle_remove(world, shortest)
        _wake_up(world, shortest, thread, now_ns, 0)
    else:
        _queue(world, shortest, thread, order)
        _challenge(world, shortest, thread, now_ns)


@compiled
def _threads_on(cpu):
    return cpu.queued + (0 if cpu.is_idle else 1)


@compiled
def can_be_cut_off(world, thread, now_ns):
    """Whether the burst of a thread can end at any time.

    It can in user mode, in a preemptible kernel, and in reclaim and other long loops of the kernel
    if these have still to come to a cond_resched(). A switch has to be completed.
    """
    runner = world.threads[thread]
    if runner.state == ThreadState.SPINNING:
        return True
    if runner.pending_cause == Cause.RUN_QUEUE:
        return False
    if world.config.preemption == Preemption.FULL:
        return True
    if is_in_user_mode(runner, now_ns):
        return True
    if world.cpus[runner.cpu].until_ns - now_ns <= COND_RESCHED_NS:
        return False
    if runner.pending_reclaim_ns > 0 or _reschedules(runner.step):
        return True
    return world.config.preemption == Preemption.VOLUNTARY and _allocates(runner.step)


@compiled
def may_give_way(world, thread):
    """Whether a thread gives way between two steps.

    It does on its way back to user mode, in a preemptible kernel, and in one with voluntary
    preemption before what might sleep.
    """
    runner = world.threads[thread]
    step = runner.step
    if runner.state != ThreadState.RUNNING or step == Step.RESUME:
        return False
    if step == Step.PROGRAM or step == Step.FAULT_END or step == Step.OPERATION_END:
        return True
    if world.config.preemption == Preemption.VOLUNTARY:
        return not _is_reached_at_once(step)
    return world.config.preemption == Preemption.FULL


@compiled
def _is_reached_at_once(step):
    """Whether the kernel comes to a step without a call that might sleep before."""
    if step == Step.LOCK_VMA or step == Step.LOOKUP or step == Step.MAP_PAGE:
        return True
    if step == Step.RELEASE or step == Step.ANON_MAP or step == Step.SWAP_MAP:
        return True
    if step == Step.WP_COPY or step == Step.WP_REUSE or step == Step.ZEROED:
        return True
    if step == Step.DRAINED or step == Step.YOUNG:
        return True
    if step == Step.APPLY or step == Step.ZAP:
        return False
    return _reschedules(step)


@compiled
def is_in_user_mode(runner, now_ns):
    """Whether a thread is in its program, or on the way to its next fault or operation."""
    if runner.in_fault or runner.in_operation:
        return now_ns < runner.begin_ns
    return runner.step == Step.PROGRAM


@compiled
def _reschedules(step):
    """Whether a step ends a burst that is a long loop with a cond_resched() in it."""
    if step == Step.APPLY or step == Step.ZAP or step == Step.READ_DONE:
        return True
    if step == Step.POPULATED or step == Step.PROC_DONE or step == Step.NUMA_SCANNED:
        return True
    if step == Step.COLLAPSE_SCANNED or step == Step.COLLAPSE_RELOCK:
        return True
    if step == Step.EXIT_UNMAPPED or step == Step.KSWAPD or step == Step.AGE_WALKED:
        return True
    if step == Step.HUGETLB_MAP or step == Step.HUGETLB_COPIED:
        return True
    return step == Step.MIGRATE_COPIED or step == Step.TRUNCATE or step == Step.WRITE_BACK


@compiled
def _allocates(step):
    """Whether a step ends a burst that allocates many pages: each might sleep."""
    return step == Step.READAHEAD_SYNC or step == Step.READAHEAD_ASYNC or step == Step.ADVICE_READ


@compiled
def _wake_up(world, cpu, thread, now_ns, delay_ns):
    """Wake an idle CPU for a thread, which pays from when the interrupt has woken it."""
    row = world.cpus[cpu]
    row.since_ns = max(row.since_ns, now_ns + delay_ns // 2)
    _dispatch(world, cpu, thread, now_ns, delay_ns + world.config.cost.idle_exit_ns)


@compiled
def _dispatch(world, cpu, thread, now_ns, delay_ns):
    """Switch a CPU to a thread, which goes on with its step after the switch."""
    row = world.threads[thread]
    prefetch(row)
    row.state = ThreadState.RUNNING
    row.stays = 0
    place = world.cpus[cpu]
    cost = world.config.cost
    switch_ns = delay_ns + cost.switch_ns + fair.depth(place) * cost.run_queue_ns
    if cost.cold_ns > 0:
        switch_ns += cold.switched(cost, place, row, now_ns, switch_ns)
    time_ns = max(now_ns, place.free_ns) + switch_ns
    row.wait_ns[Cause.RUN_QUEUE] += time_ns - row.since_ns
    row.pending_cause = Cause.RUN_QUEUE
    row.pending_stall_ns = 0
    row.pending_reclaim_ns = 0
    place.thread = thread
    place.stolen_ns = 0
    place.chosen_ns = max(now_ns + delay_ns, place.since_ns)
    place.need_resched = 0
    place.is_protected = 1
    _begin_slice(world, cpu, now_ns)
    _schedule(world, cpu, time_ns)


@compiled
def _queue(world, cpu, thread, order):
    world.queued += 1
    world.real_time_queued += fair.is_real_time(world.threads[thread])
    world.cpus[cpu].queued += 1
    fair.put(world, world.cpus[cpu], thread, order)


@compiled
def _unqueue(world, thread):
    runner = world.threads[thread]
    world.queued -= 1
    world.real_time_queued -= fair.is_real_time(runner)
    cpu = world.cpus[runner.cpu]
    cpu.queued -= 1
    fair.take(world, cpu, thread)


@compiled
def _bring(world, thread, cpu, now_ns):
    """Move a thread that is in no run queue to another CPU, lag and all."""
    runner = world.threads[thread]
    if runner.cpu == cpu:
        return
    _bring_up_to_date(world, runner.cpu, now_ns)
    _bring_up_to_date(world, cpu, now_ns)
    _let_sleepers_go(world, world.cpus[cpu], now_ns)
    fair.leave(world.cpus[runner.cpu], runner)
    runner.cpu = cpu
    fair.join(world.cpus[cpu], runner)


@compiled
def _idle_push(world, cpu):
    """Put a CPU at the front of the idle ones: the next wake-up finds it warm."""
    row = world.cpus[cpu]
    row.is_idle = 1
    row.idle_before = NOBODY
    row.idle_next = world.idle_first
    if world.idle_first != NOBODY:
        world.cpus[world.idle_first].idle_before = cpu
    else:
        _let_interrupts_in(world, row.free_ns)
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
    runner = world.threads[thread]
    if runner.step == Step.RESUME:
        runner.owed_ns = 0
    else:
        _schedule(world, runner.cpu, now_ns)


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
def give_back_stolen(world, cpu):
    """Put off the event of a CPU by what interrupts took.

    As in the kernel's tick accounting, the time is charged to the thread that was
    interrupted; one that was just being switched to waits for its CPU that much
    longer.
    """
    row = world.cpus[cpu]
    thread = world.threads[row.thread]
    if thread.state == ThreadState.RUNNING:
        thread.wait_ns[thread.pending_cause] += row.stolen_ns
    until_ns = row.until_ns
    if until_ns != NEVER_NS:
        until_ns += row.stolen_ns
    row.stolen_ns = 0
    _schedule(world, cpu, until_ns)


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
