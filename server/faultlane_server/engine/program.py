"""What user programs do: compiled to flat instructions, run one after the other.

A touch whose page is mapped costs `touch` and nothing else; several of them are made
in one burst. Any other touch faults, and is made again after the fault, as a CPU
does: the n-th touch of a thread goes to the same place under every policy.
"""

from faultlane_server.codes import NOBODY, Access
from faultlane_server.engine import draw, sched, signals
from faultlane_server.engine.draw import Purpose
from faultlane_server.engine.jit import compiled, prefetch_at
from faultlane_server.engine.memory.page_table import needed
from faultlane_server.engine.ops import end as end_of_mm
from faultlane_server.engine.ops import entry
from faultlane_server.engine.queue import Kind, push
from faultlane_server.engine.tally import collect, count
from faultlane_server.engine.world import (
    PTE_DIRTY,
    PTE_NUMA,
    PTE_PRESENT,
    PTE_YOUNG,
    Cause,
    Counter,
    Histograms,
    Op,
    Pattern,
    Step,
    ThreadState,
)

HITS_NS_MAX = 1000  # of touches without a fault in one burst
INSTRUCTIONS_AT_ONCE_MAX = 64  # before the loop of events gets its turn again


@compiled
def proceed(world, thread, now_ns):
    """Go on with a thread's program until something takes time; signals come first."""
    runner = world.threads[thread]
    if runner.killed or runner.ending:
        _end(world, thread, now_ns)
        return
    if runner.signalled:
        runner.signalled = 0
        count(world, Counter.SIGNALS, 1)
        sched.burst(world, thread, now_ns, world.config.cost.signal_ns, Step.PROGRAM)
        return
    for _ in range(INSTRUCTIONS_AT_ONCE_MAX):
        if _execute(world, thread, world.instructions[runner.pc], now_ns):
            return
    _pay(world, thread, now_ns)


@compiled
def _execute(world, thread, instruction, now_ns):
    """Execute one instruction; returns whether it takes time.

    What touches have cost is carried on to the next touch, round a loop if need be, but is
    paid before anything else begins.
    """
    op = instruction.op
    if op == Op.TOUCH:
        return _touch(world, thread, instruction, now_ns)
    if op == Op.LOOP_BEGIN or op == Op.LOOP_END:
        _steer(world, thread, instruction, now_ns)
        return False
    if world.threads[thread].carried_ns > 0:
        _pay(world, thread, now_ns)
        return True
    if op == Op.COMPUTE:
        return _compute(world, thread, instruction, now_ns)
    if op == Op.SLEEP:
        return _sleep(world, thread, instruction, now_ns)
    if _is_operation(op):
        world.threads[thread].pc += 1
        if op == Op.FORK:
            world.threads[thread].op_child_ns = _draw_duration(world, thread, instruction)
        entry.begin(world, thread, instruction, now_ns)
        return True
    if op == Op.KILL:
        return _kill(world, thread, instruction, now_ns)
    if op == Op.BARRIER:
        return _barrier(world, thread, instruction, now_ns)
    if op == Op.END:
        _end(world, thread, now_ns)
        return True
    _steer(world, thread, instruction, now_ns)
    return False


@compiled
def _is_operation(op):
    if op == Op.MMAP or op == Op.MUNMAP or op == Op.MPROTECT:
        return True
    if op == Op.MADVISE or op == Op.FORK:
        return True
    if op >= Op.USERFAULTFD_REGISTER and op <= Op.MIGRATE:
        return True
    if op >= Op.MREMAP and op <= Op.NUMA_SCAN:
        return True
    return op >= Op.FTRUNCATE and op <= Op.FADVISE_DONTNEED


@compiled
def _steer(world, thread, instruction, now_ns):
    """Execute what takes no time: loops and measures."""
    runner = world.threads[thread]
    depth = instruction.depth
    runner.pc += 1
    if instruction.op == Op.LOOP_BEGIN:
        runner.loops_left[depth] = instruction.count
    elif instruction.op == Op.LOOP_END:
        runner.loops_left[depth] -= 1
        if instruction.count == 0 or runner.loops_left[depth] > 0:
            runner.pc = instruction.to + 1
    elif instruction.op == Op.MEASURE_BEGIN:
        runner.measured_since_ns[depth] = now_ns
    else:
        assert instruction.op == Op.MEASURE_END, "an instruction of no known kind"
        since_ns = runner.measured_since_ns[depth]
        if since_ns >= world.config.warmup_ns:
            collect(world, Histograms.SECTIONS + instruction.id, now_ns - since_ns, 1)


@compiled
def _touch(world, thread, instruction, now_ns):
    """Make touches that hit, up to the first one that faults or until it is time to pay.

    Returns whether it takes time now.
    """
    runner = world.threads[thread]
    if runner.left < 0:
        runner.left = instruction.count
    bits = needed(world, instruction.access)
    marks = PTE_YOUNG | PTE_DIRTY if instruction.access == Access.WRITE else PTE_YOUNG
    spent_ns = runner.carried_ns
    runner.carried_ns = 0
    ptes = instruction.pte + runner.index * instruction.own_pages
    while runner.left > 0 and spent_ns < HITS_NS_MAX:
        page = _page_of_touch(world, thread, instruction)
        pte = world.ptes[ptes + page]
        if pte & (bits | PTE_NUMA) != bits:
            _fetch_own_page(world, runner, ptes + page)
            _begin_fault(world, thread, instruction, page, now_ns, spent_ns)
            return True
        if pte & marks != marks:
            world.ptes[ptes + page] = pte | marks
        spent_ns += world.config.cost.touch_ns
        _touched(world, thread, instruction, now_ns + spent_ns)
    if runner.left == 0:
        runner.left = -1
        runner.pc += 1
    runner.carried_ns = spent_ns
    if spent_ns < HITS_NS_MAX:
        return False
    _pay(world, thread, now_ns)
    return True


@compiled
def _pay(world, thread, now_ns):
    """Spend the time that touches have cost."""
    runner = world.threads[thread]
    spent_ns = runner.carried_ns
    runner.carried_ns = 0
    sched.burst(world, thread, now_ns, spent_ns, Step.PROGRAM)


@compiled
def _touched(world, thread, instruction, end_ns):
    """Count a touch, and move on to the next one."""
    runner = world.threads[thread]
    runner.left -= 1
    runner.touches += 1
    if instruction.cursor >= 0:
        world.cursors[runner.first_cursor + instruction.cursor] += 1
    count(world, Counter.TOUCHES, 1)
    ns = world.config.cost.touch_ns
    if runner.touch_since_ns >= 0:
        ns = end_ns - runner.touch_since_ns
        runner.touch_since_ns = -1
    if end_ns - ns >= world.config.warmup_ns:
        collect(world, Histograms.TOUCH, ns, 1)


@compiled
def skip_touch(world, thread, now_ns):
    """Go past a touch that ended in a signal: the program has a handler that skips it."""
    sched.owe(world, thread, world.config.cost.touch_ns)
    _touched(world, thread, world.instructions[world.threads[thread].pc], now_ns)


@compiled
def _begin_fault(world, thread, instruction, page, now_ns, spent_ns):
    """Trap, after `spent_ns` of touches that hit."""
    fault = world.threads[thread]
    cost = world.config.cost
    sched.begin_account(world, thread, now_ns, spent_ns)
    fault.in_fault = 1
    fault.operates = 0
    region = instruction.region + fault.index * instruction.own_region
    fault.page = instruction.start + fault.index * instruction.own_pages + page
    fault.page += world.regions[region].shift
    fault.huge_base = instruction.huge_base
    fault.access = instruction.access
    fault.kernel_mode = instruction.kernel_mode
    fault.vma_id = NOBODY
    fault.lock = 0
    fault.tried = 0
    fault.major = 0
    fault.attempts = 0
    fault.awake_attempts = 0
    fault.vma_retries = 0
    fault.reasons = 0
    fault.result = 0
    fault.kind = 0
    fault.reads = 0
    fault.reads_lost = 0
    fault.waited_for = 0
    fault.mmap_reads = 0
    if fault.touch_since_ns < 0:
        fault.touch_since_ns = fault.begin_ns
        fault.touch_page = page
    count(world, Counter.PERF_PAGE_FAULTS, 1)
    if fault.kernel_mode:
        count(world, Counter.KERNEL_FAULTS, 1)
    if _is_refused_early(world, fault, instruction, page):
        count(world, Counter.REFUSED_EARLY, 1)
        sched.burst(world, thread, now_ns, spent_ns + cost.trap_ns, Step.REFUSED)
    elif world.config.vma_path and not fault.kernel_mode:
        spent_ns += cost.trap_ns + cost.vma_find_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.LOCK_VMA)
    else:
        spent_ns += cost.trap_ns + cost.mmap_lock_ns
        sched.burst(world, thread, now_ns, spent_ns, Step.LOCK_MMAP)


@compiled
def _is_refused_early(world, fault, instruction, page):
    """Whether the architecture refuses an access at its entry (G0)."""
    if not world.config.fetch_fails_early or instruction.access != Access.EXEC:
        return False
    pte = instruction.pte + fault.index * instruction.own_pages + page
    mapped = PTE_PRESENT | PTE_YOUNG
    return world.ptes[pte] & (mapped | PTE_NUMA) == mapped


@compiled
def _page_of_touch(world, thread, instruction):
    """Return which page of the part the touch goes to, again if it has faulted."""
    runner = world.threads[thread]
    if runner.touch_since_ns >= 0:
        return runner.touch_page
    is_known = runner.next_pc == runner.pc
    runner.next_pc = -1
    if is_known:
        return runner.next_page
    return _page(world, thread, instruction, runner.touches, 0)


@compiled
def _page(world, thread, instruction, touch, again):
    """Return which page of the part a touch goes to: this one, or the next one if it is `again`."""
    runner = world.threads[thread]
    pattern = instruction.pattern
    if pattern == Pattern.UNIFORM:
        return draw.below(_word(world, thread, touch), instruction.pages)
    if pattern == Pattern.ZIPF:
        bits = _word(world, thread, touch)
        entries = instruction.entries
        rank = draw.zipf_rank(world.zipf, instruction.first_entry, entries, bits)
        return draw.shuffled(rank, instruction.pages, world.config.seed)
    done = world.cursors[runner.first_cursor + instruction.cursor] + again
    if pattern == Pattern.SEQUENTIAL:
        return _sequential(runner, instruction, done)
    if pattern == Pattern.STRIDE:
        at = runner.index * instruction.thread_pages + done * instruction.step_pages
        return (at + at // instruction.pages) % instruction.pages
    assert pattern == Pattern.EXPLICIT, "a pattern of no known kind"
    first = instruction.first_entry + runner.index * instruction.thread_pages
    return world.pages_listed[first + done % instruction.entries]


@compiled
def look_ahead(world, thread):
    """Find out where the touch after this one goes to, and let its page-table entry be fetched."""
    runner = world.threads[thread]
    at = _behind_touch(world, runner)
    instruction = world.instructions[at]
    if instruction.op != Op.TOUCH:
        return
    again = 1 if at == runner.pc else 0
    runner.next_pc = at
    runner.next_page = _page(world, thread, instruction, runner.touches + 1, again)
    page = runner.index * instruction.own_pages + runner.next_page
    prefetch_at(world.ptes, instruction.pte + page)


@compiled
def _behind_touch(world, runner):
    """Return the instruction that comes after a touch, as if no loop ended there."""
    if runner.left > 1:
        return runner.pc
    behind = world.instructions[runner.pc + 1]
    return behind.to + 1 if behind.op == Op.LOOP_END else runner.pc + 1


@compiled
def _fetch_own_page(world, runner, pte):
    """Let the folio be fetched that a fault will look at, if the last one was anonymous memory."""
    if runner.vma != NOBODY and world.vmas[runner.vma].open == NOBODY:
        prefetch_at(world.folios, world.config.anon_first + pte)


@compiled
def _sequential(runner, instruction, done):
    """Walk through the whole part, or through the thread's piece of it."""
    if not instruction.divided:
        return _around(done, instruction.pages)
    first = runner.index * instruction.pages // instruction.parties
    end = (runner.index + 1) * instruction.pages // instruction.parties
    return first + _around(done, max(end - first, 1))


@compiled
def _around(done, pages):
    """Return a number modulo another one: mostly it is the less, and there is nothing to divide."""
    return done if done < pages else done % pages


@compiled
def _word(world, thread, touch):
    return draw.word(world.config.seed, Purpose.TOUCH, thread, touch)


@compiled
def _draw_duration(world, thread, instruction):
    runner = world.threads[thread]
    bits = draw.word(world.config.seed, Purpose.DURATION, thread, runner.durations)
    runner.durations += 1
    return draw.duration(instruction.duration, world, bits)


@compiled
def _compute(world, thread, instruction, now_ns):
    ns = _draw_duration(world, thread, instruction)
    world.threads[thread].pc += 1
    sched.burst(world, thread, now_ns, ns, Step.PROGRAM)
    return True


@compiled
def _sleep(world, thread, instruction, now_ns):
    ns = _draw_duration(world, thread, instruction)
    world.threads[thread].pc += 1
    world.threads[thread].timer = push(world.queue, now_ns + ns, Kind.TIMER, thread)
    sched.owe(world, thread, world.config.cost.syscall_ns)
    sched.block(world, thread, now_ns, Cause.PROGRAM, NOBODY, Step.PROGRAM)
    return True


@compiled
def sleep_ended(world, thread, now_ns):
    """Wake a thread whose sleep or pause has ended, from the interrupt of its timer."""
    world.threads[thread].timer = -1
    cpu = world.threads[thread].cpu
    delay_ns = sched.interrupt(world, cpu, world.config.cost.timer_ns)
    sched.wake(world, thread, now_ns, delay_ns)


@compiled
def _kill(world, thread, instruction, now_ns):
    """Send a signal to some threads, at the expense of the one that sends it."""
    cost = world.config.cost
    world.threads[thread].pc += 1
    first = instruction.first_entry
    for other in range(first, first + instruction.entries):
        signals.send(world, other, instruction.id, now_ns)
    sched.burst(world, thread, now_ns, cost.syscall_ns + cost.kill_ns, Step.PROGRAM)
    return True


@compiled
def _barrier(world, thread, instruction, now_ns):
    """Wait for the others at a barrier; the last one lets them all go on."""
    barrier = world.barriers[instruction.id]
    world.threads[thread].pc += 1
    barrier.waiting += 1
    if barrier.waiting < barrier.parties:
        _join_barrier(world, barrier, thread)
        sched.owe(world, thread, world.config.cost.syscall_ns)
        sched.block(world, thread, now_ns, Cause.PROGRAM, NOBODY, Step.PROGRAM)
        return True
    barrier.waiting = 0
    waiter = barrier.first
    barrier.first = NOBODY
    while waiter != NOBODY:
        behind = world.threads[waiter].behind
        sched.wake_from(world, waiter, thread, now_ns)
        waiter = behind
    sched.burst(world, thread, now_ns, 0, Step.PROGRAM)
    return True


@compiled
def _join_barrier(world, barrier, thread):
    world.threads[thread].behind = NOBODY
    if barrier.first == NOBODY:
        barrier.first = thread
    else:
        world.threads[barrier.last].behind = thread
    barrier.last = thread


@compiled
def _end(world, thread, now_ns):
    """End a thread; the last one of its process ends the address space first.

    The run does not wait for that, if no other program goes on.
    """
    runner = world.threads[thread]
    if not runner.ending:
        runner.ending = 1
        if not runner.daemon:
            world.running -= 1
        mm = world.mms[runner.mm]
        mm.users -= 1
        if mm.users == 0 and mm.order_count > 0 and world.running > 0:
            end_of_mm.begin(world, thread, now_ns)
            return
    runner.state = ThreadState.DONE
    sched.leave_cpu(world, thread, now_ns)
