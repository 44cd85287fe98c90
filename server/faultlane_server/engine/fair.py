"""Who of the threads that want a CPU is to have it: EEVDF, as kernel/sched/fair.c has it.

A thread's virtual time runs the slower the greater its weight. A CPU's is the average of
those of the threads on it, weighted. Who has had less than its share has a lag above 0 and
is eligible; of the eligible ones the one whose virtual deadline comes first runs, until it
has had its slice. Threads with real-time priorities stand before all others.

As in Linux 6.12: lags are kept over a sleep (PLACE_LAG); who goes to sleep after more than
its share stays in the run queue until the others have caught up, and then owes nothing
(DELAY_DEQUEUE, DELAY_ZERO); and who was picked keeps the CPU for its slice while it is eligible
(RUN_TO_PARITY). Whenever a CPU is asked for the best thread, also by one that wakes up, sleepers
that would be it leave the queue: in 6.12 as released they stood in the way of who woke up, which
the stable kernels have mended. Task groups have no shares of their own.
"""

from faultlane_server.codes import NOBODY, SchedPolicy
from faultlane_server.engine import run_heap
from faultlane_server.engine.jit import compiled

WEIGHT = 1024  # NICE_0_LOAD: at this weight virtual time is as fast as time
BEFORE_ALL = -(1 << 62)  # keys of real-time threads: before all deadlines
REBASE = 24  # bits: after so many ns the sums are taken from a later origin
CHARGED_MAX_NS = 1 << 36  # of virtual time at once: sums of products stay within 63 bits


@compiled
def is_real_time(thread):
    return thread.policy == SchedPolicy.FIFO or thread.policy == SchedPolicy.RR


@compiled
def time_of(cpu):
    """Return the virtual time of a CPU (avg_vruntime)."""
    if cpu.load == 0:
        return cpu.origin_ns
    return cpu.origin_ns + cpu.weighted_ns // cpu.load


@compiled
def is_eligible(cpu, thread):
    """Whether a thread on a CPU has had no more than its share (entity_eligible)."""
    return (thread.virtual_ns - cpu.origin_ns) * cpu.load <= cpu.weighted_ns


@compiled
def join(cpu, thread):
    """Let a thread take part in the time of a CPU, where it lags as it did (place_entity)."""
    if is_real_time(thread):
        return
    weight = thread.weight
    now_ns = time_of(cpu)
    if cpu.load > 0:
        now_ns -= thread.lag_ns * (cpu.load + weight) // cpu.load
    thread.virtual_ns = now_ns
    thread.virtual_deadline_ns = now_ns + thread.slice_ns
    cpu.load += weight
    cpu.weighted_ns += (now_ns - cpu.origin_ns) * weight


@compiled
def leave(cpu, thread):
    """Let a thread take part no more, and remember its lag (update_entity_lag)."""
    if is_real_time(thread):
        return
    weight = thread.weight
    now_ns = time_of(cpu)
    most_ns = thread.lag_max_ns
    thread.lag_ns = min(max(now_ns - thread.virtual_ns, -most_ns), most_ns)
    cpu.weighted_ns -= (thread.virtual_ns - cpu.origin_ns) * weight
    cpu.load -= weight
    if cpu.load == 0:
        cpu.origin_ns = max(cpu.origin_ns, now_ns)
        cpu.weighted_ns = 0


@compiled
def ran(cpu, thread, now_ns):
    """Charge the thread that runs on a CPU for the time that it has had (update_curr).

    When its slice is over it begins a new one (update_deadline), and is protected no more.
    Returns whether that was so.
    """
    ns = now_ns - cpu.since_ns
    if ns <= 0:
        return False
    cpu.since_ns = now_ns
    if is_real_time(thread):
        thread.slice_left_ns -= ns
        return False
    weight = thread.weight
    if weight != WEIGHT:
        ns = min(ns * WEIGHT // weight, CHARGED_MAX_NS)
    thread.virtual_ns += ns
    cpu.weighted_ns += ns * weight
    if cpu.weighted_ns >> REBASE > cpu.load:
        moved_ns = cpu.weighted_ns // cpu.load
        cpu.origin_ns += moved_ns
        cpu.weighted_ns -= moved_ns * cpu.load
    if thread.virtual_ns < thread.virtual_deadline_ns:
        return False
    thread.virtual_deadline_ns = thread.virtual_ns + thread.slice_ns
    cpu.is_protected = 0
    return True


@compiled
def depth(cpu):
    """Return the depth of the tree of those who are on a CPU beside the one that runs."""
    others = cpu.load // WEIGHT - 1
    levels = 0
    while others > 0:
        others >>= 1
        levels += 1
    return levels


@compiled
def is_alone(cpu, thread):
    """Whether no other thread takes part in the time of a CPU, sleepers there among them."""
    return cpu.load == thread.weight


@compiled
def renew(config, thread):
    """Begin a new slice of a real-time thread if the last one is over; returns whether it was."""
    if thread.policy != SchedPolicy.RR or thread.slice_left_ns > 0:
        return False
    thread.slice_left_ns = config.rr_slice_ns
    return True


@compiled
def slice_left_ns(thread):
    """Return how long a thread can run until its slice is over."""
    if is_real_time(thread):
        return thread.slice_left_ns
    return (thread.virtual_deadline_ns - thread.virtual_ns) * thread.weight // WEIGHT


@compiled
def put(world, cpu, thread, order):
    """Put a thread into the run queue of a CPU, before its equals of a greater order."""
    runner = world.threads[thread]
    key = runner.virtual_deadline_ns
    if is_real_time(runner):
        key = BEFORE_ALL - runner.priority
    runner.is_late = 0
    cpu.ready = run_heap.add(world.run_nodes, cpu.ready, thread, key, order)


@compiled
def take(world, cpu, thread):
    """Take a thread out of the run queue of a CPU."""
    if world.threads[thread].is_late:
        cpu.late = run_heap.remove(world.run_nodes, cpu.late, thread)
    else:
        cpu.ready = run_heap.remove(world.run_nodes, cpu.ready, thread)


@compiled
def best(world, cpu):
    """Return who in the run queue of a CPU is to run first, or NOBODY.

    A sleeper that stands there and would be the one has nothing to make up for any more: it
    leaves the queue.
    """
    thread = first(world, cpu)
    while thread != NOBODY and world.threads[thread].is_delayed:
        let_sleep(world, cpu, thread)
        thread = first(world, cpu)
    return thread


@compiled
def rival(world, cpu, current):
    """Return who in the run queue of a CPU is to run instead of the one that runs, or NOBODY."""
    thread = first(world, cpu)
    while thread != NOBODY and is_before(world, cpu, thread, current):
        if not world.threads[thread].is_delayed:
            return thread
        let_sleep(world, cpu, thread)
        thread = first(world, cpu)
    return NOBODY


@compiled
def let_sleep(world, cpu, thread):
    """Let a sleeper leave the run queue of a CPU, without the lag that it has got by sleeping."""
    take(world, cpu, thread)
    sleeper = world.threads[thread]
    sleeper.is_delayed = 0
    leave(cpu, sleeper)
    sleeper.lag_ns = min(sleeper.lag_ns, 0)


@compiled
def stay(cpu, sleeper):
    """Let a sleeper that is still on a CPU be awake there (requeue_delayed_entity).

    It owes what it owed; but what it has gained by sleeping is gone (DELAY_ZERO).
    """
    sleeper.is_delayed = 0
    if time_of(cpu) > sleeper.virtual_ns:
        leave(cpu, sleeper)
        sleeper.lag_ns = 0
        join(cpu, sleeper)


@compiled
def first(world, cpu):
    """Return who in the run queue of a CPU comes first, sleepers that stand there among them.

    Who is not eligible is set aside, in the order in which it will be.
    """
    late = cpu.late
    while late != NOBODY and is_eligible(cpu, world.threads[late]):
        _set(world, cpu, late, 0)
        late = cpu.late
    thread = cpu.ready
    while thread != NOBODY:
        runner = world.threads[thread]
        if is_real_time(runner) or is_eligible(cpu, runner):
            return thread
        _set(world, cpu, thread, 1)
        thread = cpu.ready
    return cpu.late


@compiled
def _set(world, cpu, thread, late):
    """Move a thread that waits to those who had too much, or back from them."""
    runner = world.threads[thread]
    order = world.run_nodes[thread].order
    if late:
        cpu.ready = run_heap.remove(world.run_nodes, cpu.ready, thread)
        cpu.late = run_heap.add(world.run_nodes, cpu.late, thread, runner.virtual_ns, order)
    else:
        key = runner.virtual_deadline_ns
        cpu.late = run_heap.remove(world.run_nodes, cpu.late, thread)
        cpu.ready = run_heap.add(world.run_nodes, cpu.ready, thread, key, order)
    runner.is_late = late


@compiled
def is_before(world, cpu, thread, current):
    """Whether a thread that waits is to run instead of the one that runs (pick_eevdf)."""
    one, other = world.threads[thread], world.threads[current]
    if is_real_time(one) or is_real_time(other):
        return one.priority > other.priority
    if not is_eligible(cpu, other):
        return True
    return not cpu.is_protected and one.virtual_deadline_ns <= other.virtual_deadline_ns
