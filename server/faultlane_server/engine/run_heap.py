"""Pairing heaps of threads that wait for a CPU, linked through the threads' own nodes.

A thread stands in one heap at most, so its node is all the memory that a heap takes. What
comes in goes under the top without a search; what is at the top goes out for good, and
those below it are paired up (Fredman, Sedgewick, Sleator and Tarjan: The pairing heap,
1986). A heap is known by the thread at its top, or NOBODY.
"""

from faultlane_server.codes import NOBODY
from faultlane_server.engine.jit import compiled


@compiled
def add(nodes, top, thread, key, order):
    """Put a thread in, and return the new top: the least key, of those the least order."""
    node = nodes[thread]
    node.key = key
    node.order = order
    node.child = NOBODY
    node.beside = NOBODY
    node.before = NOBODY
    if top == NOBODY:
        return thread
    return _meld(nodes, top, thread)


@compiled
def remove(nodes, top, thread):
    """Take a thread out, wherever it stands, and return the new top or NOBODY."""
    rest = _pair_up(nodes, nodes[thread].child)
    if thread == top:
        return rest
    before, beside = nodes[thread].before, nodes[thread].beside
    if nodes[before].child == thread:
        nodes[before].child = beside
    else:
        nodes[before].beside = beside
    if beside != NOBODY:
        nodes[beside].before = before
    return top if rest == NOBODY else _meld(nodes, top, rest)


@compiled
def _meld(nodes, one, other):
    """Put one of two tops under the other."""
    if _is_less(nodes[other], nodes[one]):
        one, other = other, one
    child = nodes[one].child
    nodes[other].beside = child
    nodes[other].before = one
    if child != NOBODY:
        nodes[child].before = other
    nodes[one].child = other
    return one


@compiled
def _is_less(one, other):
    return one.key < other.key or (one.key == other.key and one.order < other.order)


@compiled
def _pair_up(nodes, first):
    """Make one heap of those that stand beside each other: in pairs, and then from behind."""
    melded = NOBODY
    while first != NOBODY:
        other = nodes[first].beside
        pair = first
        first = NOBODY
        if other != NOBODY:
            first = nodes[other].beside
            pair = _meld(nodes, pair, other)
        nodes[pair].beside = melded
        melded = pair
    top = NOBODY
    while melded != NOBODY:
        behind = nodes[melded].beside
        top = melded if top == NOBODY else _meld(nodes, top, melded)
        melded = behind
    if top != NOBODY:
        nodes[top].beside = NOBODY
        nodes[top].before = NOBODY
    return top


@compiled
def next_of(nodes, thread):
    """Return the thread that comes after one as all of a heap are gone through, or NOBODY."""
    if nodes[thread].child != NOBODY:
        return nodes[thread].child
    while thread != NOBODY and nodes[thread].beside == NOBODY:
        thread = _parent(nodes, thread)
    return NOBODY if thread == NOBODY else nodes[thread].beside


@compiled
def _parent(nodes, thread):
    before = nodes[thread].before
    while before != NOBODY and nodes[before].child != thread:
        thread = before
        before = nodes[thread].before
    return before
