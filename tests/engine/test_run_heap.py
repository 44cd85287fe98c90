"""The heaps of threads that wait for a CPU agree with sorted lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlane_server.codes import NOBODY
from faultlane_server.engine.run_heap import add, next_of, remove
from faultlane_server.engine.world import RunNode

pytestmark = pytest.mark.uncompiled_too

THREADS = 24

keys = st.integers(-3, 3)
# Who comes in with which key, or who leaves: by its place in the order, or anybody.
comings = st.tuples(st.just("comes"), st.integers(0, THREADS - 1), keys)
goings = st.tuples(st.sampled_from(["first leaves", "leaves"]), st.integers(0, THREADS - 1), keys)


class Heap:
    """A heap beside the list that it stands for."""

    def __init__(self):
        self.nodes = np.zeros(THREADS, RunNode).view(np.recarray)
        self.top = NOBODY
        self.line = []
        self.orders = 0

    def add(self, thread, key):
        self.orders += 1
        self.line = sorted([*self.line, (key, self.orders, thread)])
        self.top = add(self.nodes, self.top, thread, key, self.orders)

    def remove(self, thread):
        self.line = [entry for entry in self.line if entry[2] != thread]
        self.top = remove(self.nodes, self.top, thread)

    @property
    def threads(self):
        return [thread for _, _, thread in self.line]

    def gone_through(self):
        found = []
        thread = self.top
        while thread != NOBODY:
            found.append(int(thread))
            thread = next_of(self.nodes, thread)
        return found


@settings(deadline=None)
@given(st.lists(comings | goings, max_size=80))
def test_a_heap_agrees_with_a_sorted_list(steps):
    heap = Heap()
    for what, thread, key in steps:
        if what == "comes":
            if thread not in heap.threads:
                heap.add(thread, key)
        elif heap.line:
            heap.remove(heap.threads[0 if what == "first leaves" else thread % len(heap.line)])
        assert heap.top == (heap.threads[0] if heap.line else NOBODY)
        assert sorted(heap.gone_through()) == sorted(heap.threads)


def test_of_equals_the_one_with_the_least_order_comes_first():
    heap = Heap()
    for thread in (5, 3, 9):
        heap.add(thread, 7)

    assert heap.top == 5
    heap.remove(5)
    assert heap.top == 3
