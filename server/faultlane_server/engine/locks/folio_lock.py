"""The folio lock (mm/filemap.c: folio_wait_bit_common, folio_wake_bit).

A folio is locked by a thread (`holder`) or by the read that fills it (`holder` is
NOBODY). Whoever waits for it in order to own it waits exclusively; the others only
want to see it unlocked and own nothing when they are woken.

A woken exclusive waiter has left the line and has to `try_lock` again when it runs;
beaten to it, it lines up anew with `wait_for`. That happens ROUNDS_UNFAIR times at
most (the kernel's page_lock_unfairness): in the round after, the lock is handed over.
"""

import numpy as np

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import LOCKED

ROUNDS_UNFAIR = 5


@compiled
def try_lock(folio, thread):
    """Take the lock if it is free, whoever waits for it."""
    if folio.state & LOCKED != 0:
        return False
    folio.state |= LOCKED
    folio.holder = thread
    return True


@compiled
def own(folio, thread):
    """Have the lock: because it was handed over to the thread, or because it is free."""
    return np.int64(folio.holder) == thread or try_lock(folio, thread)


@compiled
def wait_for(folio, threads, thread, exclusive):
    """Line up, which begins a round; `rounds` was set to 0 before the first one."""
    assert folio.state & LOCKED != 0, "only a locked folio is waited for"
    threads[thread].exclusive = 1 if exclusive else 0
    if exclusive:
        threads[thread].rounds += 1
    threads[thread].behind = NOBODY
    if folio.first == NOBODY:
        folio.first = thread
    else:
        threads[folio.last].behind = thread
    folio.last = thread


@compiled
def unlock(folio, threads):
    """Unlock the folio and wake those who wait, up to and with the first exclusive one.

    Returns
    -------
    int
        The first of those who were woken, linked by `behind`, or NOBODY. The last one
        holds the lock already if it is the folio's `holder`.
    """
    assert folio.state & LOCKED != 0, "a locked folio is unlocked"
    folio.state ^= LOCKED
    folio.holder = NOBODY
    woken = folio.first
    waiter = folio.first
    while waiter != NOBODY:
        behind = threads[waiter].behind
        if threads[waiter].exclusive == 1:
            _wake_exclusive(folio, threads, waiter)
            folio.first = behind
            break
        waiter = behind
    if waiter == NOBODY:
        folio.first = NOBODY
    if folio.first == NOBODY:
        folio.last = NOBODY
    return woken


@compiled
def wake_first(folio, threads):
    """Take the first of those who wait out of the line, and return it: its folio is gone."""
    waiter = folio.first
    folio.first = threads[waiter].behind
    if folio.first == NOBODY:
        folio.last = NOBODY
    return waiter


@compiled
def leave(folio, threads, thread):
    """Take a waiter out of the line: it will not have the lock."""
    before = NOBODY
    at = folio.first
    while at != thread:
        assert at != NOBODY, "the thread stands in this line"
        before = at
        at = threads[at].behind
    behind = threads[thread].behind
    if before == NOBODY:
        folio.first = behind
    else:
        threads[before].behind = behind
    if behind == NOBODY:
        folio.last = before


@compiled
def _wake_exclusive(folio, threads, waiter):
    """Cut the chain of the woken behind an exclusive waiter, and be fair to it if it is time."""
    threads[waiter].behind = NOBODY
    if threads[waiter].rounds > ROUNDS_UNFAIR:
        folio.state |= LOCKED
        folio.holder = waiter
