"""The twin of the workload in SimPy: each thread is a process, as SimPy's own examples have it."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice
from random import Random
from typing import Any, NamedTuple

import simpy

from tests.bench.peers.load import WRITERS, Batch, Load

Process = Generator[simpy.Event, Any, None]

STEPS = 200  # of SimPy, before it is seen whether a batch is full


class Fault(NamedTuple):
    """A row of the log of faults."""

    thread: int
    vma: int
    is_cached: bool
    begin_ns: float
    duration_ns: float
    device_ns: float
    mmap_wait_ns: float
    mmap_reads: int
    has_failed: bool


class Write(NamedTuple):
    """A row of the log of writes."""

    thread: int
    begin_ns: float
    duration_ns: float
    wait_ns: float
    drain_ns: float


class MmapLock:
    """mmap_lock: a waiting writer spins, so it does not keep readers out of a lock that is read.

    When the lock is released, a writer has it before readers do.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._readers = 0
        self._is_written = False
        self._reader_line: deque[simpy.Event] = deque()
        self._writer_line: deque[simpy.Event] = deque()

    def read(self) -> simpy.Event:
        granted = self._env.event()
        if self._is_written:
            self._reader_line.append(granted)
        else:
            self._let_read(granted)
        return granted

    def write(self) -> simpy.Event:
        granted = self._env.event()
        self._writer_line.append(granted)
        self._let_write()
        return granted

    def release_read(self) -> None:
        self._readers -= 1
        self._let_write()

    def release_write(self) -> None:
        self._is_written = False
        self._let_write()
        while self._reader_line and not self._is_written:
            self._let_read(self._reader_line.popleft())

    def _let_read(self, granted: simpy.Event) -> None:
        self._readers += 1
        granted.succeed()

    def _let_write(self) -> None:
        if self._writer_line and self._readers == 0 and not self._is_written:
            self._is_written = True
            self._writer_line.popleft().succeed()


class VmaLock:
    """A VMA lock: readers never wait, and are not kept out while a writer waits for them."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._readers = 0
        self._drained: simpy.Event | None = None
        self.is_stamped = False

    def read(self) -> None:
        self._readers += 1

    def release_read(self) -> None:
        self._readers -= 1
        if self._readers == 0 and self._drained is not None:
            self._stamp(self._drained)

    def drain(self) -> simpy.Event:
        drained = self._env.event()
        if self._readers == 0:
            self._stamp(drained)
        else:
            self._drained = drained
        return drained

    def _stamp(self, drained: simpy.Event) -> None:
        self.is_stamped = True
        self._drained = None
        drained.succeed()


class Twin:
    """The simulation and its logs."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.env = simpy.Environment()
        self.random = Random(load.seed)
        self.mmap_lock = MmapLock(self.env)
        self.vma_locks = [VmaLock(self.env) for _ in range(WRITERS)]
        self.device = simpy.Resource(self.env, load.channels)
        self.faults: list[Fault] = []
        self.writes: list[Write] = []
        for number in range(WRITERS):
            self.env.process(self._writer(number))
        for number in range(WRITERS, WRITERS + load.threads):
            self.env.process(self._reader(number))

    def _after(self, mean_ns: int) -> simpy.Event:
        return self.env.timeout(self.random.expovariate(1 / mean_ns))

    def _reader(self, thread: int) -> Process:
        is_cached = thread // WRITERS % 2 == 0
        while True:
            yield self._after(self.load.think_ns)
            is_cached = not is_cached
            yield from self._fault(thread, is_cached)

    def _fault(self, thread: int, is_cached: bool) -> Process:
        env, begin_ns = self.env, self.env.now
        vma = self.vma_locks[thread % WRITERS]
        has_failed = vma.is_stamped
        wait_ns = device_ns = 0.0
        mmap_reads = 0
        if has_failed:
            wait_ns += yield from self._attempt_with_mmap_lock(is_cached)
            mmap_reads += 1
        else:
            vma.read()
            yield env.timeout(self._attempt_ns(is_cached))
            vma.release_read()
        if not is_cached:
            asked_ns = env.now
            with self.device.request() as channel:
                yield channel
                yield self._after(self.load.read_ns)
            device_ns = env.now - asked_ns
            wait_ns += yield from self._attempt_with_mmap_lock(True)
            mmap_reads += 1
        row = (thread, thread % WRITERS, is_cached, begin_ns, env.now - begin_ns)
        self.faults.append(Fault(*row, device_ns, wait_ns, mmap_reads, has_failed))

    def _attempt_with_mmap_lock(self, is_there: bool) -> Generator[simpy.Event, Any, float]:
        asked_ns = self.env.now
        yield self.mmap_lock.read()
        wait_ns: float = self.env.now - asked_ns
        yield self.env.timeout(self._attempt_ns(is_there))
        self.mmap_lock.release_read()
        return wait_ns

    def _attempt_ns(self, is_there: bool) -> int:
        return self.load.find_ns + (self.load.map_ns if is_there else 0)

    def _writer(self, thread: int) -> Process:
        env, vma = self.env, self.vma_locks[thread]
        while True:
            yield self._after(self.load.pause_ns)
            begin_ns = env.now
            yield self.mmap_lock.write()
            held_ns = env.now
            yield vma.drain()
            drained_ns = env.now
            yield env.timeout(self.load.write_ns)
            vma.is_stamped = False
            self.mmap_lock.release_write()
            wait_ns, drain_ns = held_ns - begin_ns, drained_ns - held_ns
            self.writes.append(Write(thread, begin_ns, env.now - begin_ns, wait_ns, drain_ns))


def run(load: Load) -> list[Batch]:
    return list(islice(_batches(Twin(load)), load.batches))


def _batches(twin: Twin) -> Iterator[Batch]:
    while True:
        twin.faults.clear()
        twin.writes.clear()
        began_ns = twin.env.now
        began = time.process_time()
        while len(twin.faults) < twin.load.batch_faults:
            for _ in range(STEPS):
                twin.env.step()
        yield _batch(twin, time.process_time() - began, twin.env.now - began_ns)


def _batch(twin: Twin, cpu_s: float, simulated_ns: float) -> Batch:
    faults, writes = twin.faults, twin.writes
    return Batch(
        cpu_s=cpu_s,
        simulated_ns=round(simulated_ns),
        faults=len(faults),
        fault_ns=round(sum(row.duration_ns for row in faults)),
        device_ns=round(sum(row.device_ns for row in faults)),
        mmap_wait_ns=round(sum(row.mmap_wait_ns for row in faults)),
        mmap_reads=sum(row.mmap_reads for row in faults),
        vma_failures=sum(row.has_failed for row in faults),
        writes=len(writes),
        write_wait_ns=round(sum(row.wait_ns for row in writes)),
        drain_ns=round(sum(row.drain_ns for row in writes)),
    )
