"""What is measured.

A primitive is a fault, a system call or a wake-up that the simulator has as well. Faults are made
by stores and loads of numpy, a page apart, which is a loop in C: the same loop over pages that are
mapped already is what it costs without faults. Where there were not as many faults as there should
be it was something else, such as huge pages, and is not told.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import log2
from typing import NamedTuple

from faultlane.calibrate.stopwatch import (
    Clock,
    Measured,
    Step,
    Stopwatch,
    Unmeasurable,
    Watches,
    measured,
)
from faultlane.calibrate.system import (
    ALLOWED_CPUS,
    ANONYMOUS,
    FIXED_NOREPLACE,
    LIBC,
    MADV_NORMAL,
    MS_ASYNC,
    MS_OF_NO_KIND,
    PAGE,
    READ,
    READ_WRITE,
    Bytes,
    Call,
    Mapping,
    cached_file,
    call_all,
    hole,
    is_busy,
    mapped,
    minor_faults,
    pinned,
    require_success,
)

AROUND_PAGES_MAX = 16  # that a fault maps at once, unless fault_around_bytes was raised
PAIR_PAGES = 1024  # numpy lets another thread run while it writes to more than 500
STRAY_FAULTS_MAX = 8  # in a batch: of the interpreter itself


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    pages: int  # in a batch of faults
    calls: int  # in a batch of system calls
    trips: int  # in a batch of wake-ups, there and back
    pairs: int  # of runs of two threads at once


LONG = Size(rounds=2000, pages=128, calls=32, trips=4, pairs=300)
QUICK = Size(rounds=100, pages=128, calls=32, trips=4, pairs=40)


class Calibration(NamedTuple):
    """What was found out."""

    measured: dict[str, Measured]
    around_pages: int  # that a fault on a file maps at once; 0 if that is not known
    missing: dict[str, str]  # what could not be measured, and why


def calibrate(
    watches: Watches, size: Size, progress: Callable[[str], None] = lambda _: None
) -> Calibration:
    """Measure everything that can be measured."""
    found: dict[str, Measured] = {}
    missing: dict[str, str] = {}
    around_pages = 0
    with pinned(ALLOWED_CPUS[0]):
        for what, measure in PRIMITIVES.items():
            progress(what)
            try:
                found |= {each.name: each for each in measure(watches, size)}
            except (Unmeasurable, OSError) as error:
                missing[what] = str(error)
        try:
            around_pages = pages_around()
        except (Unmeasurable, OSError) as error:
            missing["pages that a fault maps around it"] = str(error)
    return Calibration(found, around_pages, missing)


def _calls(watches: Watches, size: Size) -> list[Measured]:
    with mapped(1, READ_WRITE) as mapping:
        noop = (mapping.address, PAGE, MADV_NORMAL)
        return [
            _call(watches.cpu, "syscall", LIBC.getppid, [()] * size.calls),
            _call(watches.cpu, "madvise", LIBC.madvise, [noop] * size.calls),
        ]


def _call(
    stopwatch: Stopwatch, name: str, call: Call, arguments: Sequence[tuple[int, ...]]
) -> Measured:
    require_success(name, call_all(call, arguments))
    times = stopwatch.time(
        Step(name, lambda: call_all(call, arguments), len(arguments)), _nothing("no", arguments)
    )
    return measured(name, times[name], times["no"], NOTHING)


NOTHING = "a call that does nothing"


def _nothing(name: str, arguments: Sequence[tuple[int, ...]]) -> Step:
    """Calls that do nothing: the overhead of Python."""
    nothing = LIBC.nothing(len(arguments[0]))
    return Step(name, lambda: call_all(nothing, arguments), len(arguments))


def _mmap_lock(watches: Watches, size: Size) -> list[Measured]:
    """Time msync, which takes mmap_lock for read, finds a VMA, and has nothing to do."""
    with mapped(1, READ_WRITE) as mapping:
        finds = [(mapping.address, PAGE, MS_ASYNC)] * size.calls
        fails = [(mapping.address, PAGE, MS_OF_NO_KIND)] * size.calls
        require_success("msync", call_all(LIBC.msync, finds))
        times = watches.cpu.time(
            Step("finds", lambda: call_all(LIBC.msync, finds), size.calls),
            Step("fails", lambda: call_all(LIBC.msync, fails), size.calls),
        )
    less = "an msync that takes no lock, as its flags make no sense"
    return [measured("mmap_lock_read", times["finds"], times["fails"], less)]


def _mappings(watches: Watches, size: Size) -> list[Measured]:
    """Time the life of mappings of two pages that have no neighbours, all in step."""
    begin = hole(4 * size.calls)
    places = [begin + 4 * number * PAGE for number in range(size.calls)]
    life: list[tuple[str, Call, list[tuple[int, ...]]]] = [
        (
            "mmap",
            LIBC.mmap,
            [(at, 2 * PAGE, READ_WRITE, ANONYMOUS | FIXED_NOREPLACE, -1, 0) for at in places],
        ),
        ("mprotect", LIBC.mprotect, [(at, 2 * PAGE, READ) for at in places]),
        ("mprotect_split", LIBC.mprotect, [(at, PAGE, READ_WRITE) for at in places]),
        ("mprotect_merge", LIBC.mprotect, [(at, PAGE, READ) for at in places]),
        ("munmap", LIBC.munmap, [(at, 2 * PAGE) for at in places]),
    ]
    times = watches.cpu.time(
        *(Step(name, _succeeding(name, call, each), len(each)) for name, call, each in life),
        *(_nothing(f"no {name}", each) for name, _, each in life),
    )
    return [measured(name, times[name], times[f"no {name}"], NOTHING) for name, _, _ in life]


def _succeeding(
    name: str, call: Call, arguments: Sequence[tuple[int, ...]]
) -> Callable[[], object]:
    return lambda: require_success(name, call_all(call, arguments))


def _anonymous_faults(watches: Watches, size: Size) -> list[Measured]:
    with mapped(size.pages, READ_WRITE) as mapping:
        pages = mapping.every(1)
        return [
            _faults(watches.cpu, "anon_read", mapping, lambda: load(pages), size.pages),
            _faults(watches.cpu, "anon_write", mapping, lambda: store(pages), size.pages),
        ]


def _file_faults(watches: Watches, size: Size) -> list[Measured]:
    """Time faults on a file whose pages are all there, or one of them to a fault."""
    faults = size.pages // AROUND_PAGES_MAX
    with _mapped_file(size.pages, every=AROUND_PAGES_MAX) as mapping:
        pages = mapping.every(AROUND_PAGES_MAX)
        alone = _faults(watches.cpu, "file_alone", mapping, lambda: load(pages), faults)
    with _mapped_file(size.pages, every=1) as mapping:
        pages = mapping.every(AROUND_PAGES_MAX)
        around = _faults(watches.cpu, "file_around", mapping, lambda: load(pages), faults)
        pages = mapping.every(1)
        write = _faults(watches.cpu, "file_write", mapping, lambda: store(pages), size.pages)
    return [alone, around, write]


def _faults(
    stopwatch: Stopwatch, name: str, mapping: Mapping, touch: Callable[[], object], faults: int
) -> Measured:
    """Time as many faults, and then the same accesses without them."""
    mapping.forget()
    require_faults(touch, faults)
    times = stopwatch.time(
        Step("forget", mapping.forget),
        Step("faults", touch, faults),
        Step("again", touch, faults),
    )
    return measured(name, times["faults"], times["again"], "the accesses alone")


def require_faults(touch: Callable[[], object], faults: int) -> None:
    """Raise Unmeasurable if accesses are not as many faults."""
    before = minor_faults()
    touch()
    got = minor_faults() - before
    if not faults <= got <= faults + STRAY_FAULTS_MAX:
        raise Unmeasurable(f"accesses to {faults} pages were {got} faults")


def load(pages: Bytes) -> object:
    """Read a byte of each page."""
    return pages.max()


def store(pages: Bytes) -> None:
    """Write a byte of each page."""
    pages[:] = 1


def pages_around() -> int:
    """How many pages a fault on a file maps, itself among them: a power of two."""
    pages = 16 * AROUND_PAGES_MAX
    with _mapped_file(pages, every=1) as mapping:
        before = minor_faults()
        load(mapping.every(1))
        faults = minor_faults() - before
    return 1 << round(log2(pages / max(faults, 1)))


@contextmanager
def _mapped_file(pages: int, every: int) -> Iterator[Mapping]:
    with cached_file(pages, every) as file, mapped(pages, READ_WRITE, file) as mapping:
        yield mapping


ECHO = """\
import os
while True:
    word = os.read(0, 1)
    os.write(1, word)
    if not word:
        break
"""


def _wake_ups(watches: Watches, size: Size) -> list[Measured]:
    """Time a byte that goes to another process and back, on one CPU."""
    return [_trip(watches.wall, size, "wake_same_cpu", ALLOWED_CPUS[0])]


def _wake_ups_elsewhere(watches: Watches, size: Size) -> list[Measured]:
    """Time a byte that goes to another process on an idle CPU, and back."""
    return [_trip(watches.wall, size, "wake_other_cpu", _another_cpu())]


def _trip(stopwatch: Stopwatch, size: Size, name: str, cpu: int) -> Measured:
    """Time one way of a byte between processes, less what pipes take without a sleep."""
    command = [sys.executable, "-I", "-S", "-c", ECHO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None, "a pipe"
        assert child.stdout is not None, "a pipe"
        os.sched_setaffinity(child.pid, {cpu})
        there, back = child.stdin.fileno(), child.stdout.fileno()
        near, far = os.pipe()
        times = stopwatch.time(
            Step("trips", lambda: _pass(there, back, size.trips), 2 * size.trips),
            Step("pipe", lambda: _pass(far, near, size.trips), size.trips),
        )
        os.close(near)
        os.close(far)
    return measured(name, times["trips"], times["pipe"], "a write and a read of a pipe")


def _pass(into: int, out: int, times: int) -> None:
    for _ in range(times):
        os.write(into, b"1")
        os.read(out, 1)


def _another_cpu() -> int:
    """A CPU that this process may use, and that is idle."""
    if len(ALLOWED_CPUS) < 2:
        raise Unmeasurable("this process may only run on one CPU")
    if is_busy():
        raise Unmeasurable("it takes a second CPU that is idle, and this machine is busy")
    return ALLOWED_CPUS[1]


def _lock_words(watches: Watches, size: Size) -> list[Measured]:
    """Time the faults of two threads on two CPUs in one VMA, and in a VMA each."""
    _another_cpu()
    together, apart = [], []
    with mapped(2 * PAIR_PAGES, READ_WRITE) as one, mapped(3 * PAIR_PAGES, READ_WRITE) as two:
        LIBC.mprotect(two.address + PAIR_PAGES * PAGE, PAIR_PAGES * PAGE, READ)
        halves = [one.every(1)[:PAIR_PAGES], one.every(1)[PAIR_PAGES:]]
        ends = [two.every(1)[:PAIR_PAGES], two.every(1)[2 * PAIR_PAGES :]]
        with _Pair(watches.cpu.clock) as pair:
            for _ in range(size.pairs):
                one.forget()
                together.append(pair.store_ns(halves) / PAIR_PAGES)
                two.forget()
                apart.append(pair.store_ns(ends) / PAIR_PAGES)
    return [measured("shared_vma", together, apart, "the same in a VMA each")]


class _Pair:
    """Two threads, each on a CPU of its own, which write to pages at the same time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pages: list[Bytes] = []
        self._times_ns = [0, 0]
        self._begin, self._end = threading.Barrier(3), threading.Barrier(3)
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in (0, 1)
        ]

    def __enter__(self) -> "_Pair":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.store_ns([])
        for thread in self._threads:
            thread.join()

    def store_ns(self, pages: list[Bytes]) -> float:
        """Let each write to its pages, and return what they take on average; [] ends them."""
        self._pages = pages
        self._begin.wait()
        self._end.wait()
        return sum(self._times_ns) / 2

    def _run(self, number: int) -> None:
        os.sched_setaffinity(0, {ALLOWED_CPUS[number]})
        while True:
            self._begin.wait()
            pages = self._pages
            if pages:
                begin_ns = self._clock()
                store(pages[number])
                self._times_ns[number] = self._clock() - begin_ns
            self._end.wait()
            if not pages:
                return


PRIMITIVES: dict[str, Callable[[Watches, Size], list[Measured]]] = {
    "system calls": _calls,
    "mmap_lock": _mmap_lock,
    "mmap, mprotect and munmap": _mappings,
    "faults on anonymous memory": _anonymous_faults,
    "faults on a file": _file_faults,
    "wake-ups on the same CPU": _wake_ups,
    "wake-ups on another CPU": _wake_ups_elsewhere,
    "a lock word that two CPUs share": _lock_words,
}
