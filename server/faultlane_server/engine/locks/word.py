"""Lock words: what an atomic on a contended one costs.

A word is a server, first come first served: an atomic on it costs `word_local`
on the CPU that touched it last and `word_remote` on any other, and begins no
earlier than the end of the one before it.
"""

from faultlane_server.engine.jit import compiled


@compiled
def strike(world, thread, word, now_ns):
    """Make one atomic on a lock word, and charge it with the thread's next burst."""
    runner = world.threads[thread]
    cost = world.config.cost
    begin_ns = max(now_ns, word.free_ns)
    if word.cpu == runner.cpu:
        runner.stall_ns += begin_ns - now_ns
        runner.owed_ns += cost.word_local_ns
        word.free_ns = begin_ns + cost.word_local_ns
        return
    word.free_ns = begin_ns + cost.word_remote_ns
    word.cpu = runner.cpu
    runner.stall_ns += word.free_ns - now_ns
