"""What `faultlane calibrate` takes the simulator for is what it is."""

from faultlane.calibrate.costs import CHARGES, NEUTRAL_NS, UNMAPPED_PAGES, costs_of
from faultlane.calibrate.primitives import AROUND_PAGES_MAX, Calibration
from faultlane.calibrate.stopwatch import Measured
from faultlane_server.codes import Access, FileKind, Madvice, PageState, Protection
from faultlane_server.machines import COSTS, MACHINES
from faultlane_server.scenario import (
    AnonymousMapping,
    File,
    FileMapping,
    FileRange,
    Kernel,
    Loop,
    Machine,
    Madvise,
    Mmap,
    Mprotect,
    Munmap,
    Process,
    Scenario,
    Sequential,
    Step,
    Stride,
    ThreadGroup,
    Touch,
    Vma,
    Workload,
    check,
)
from tests.engine.some_runs import run

PAGE = 4096
PAGES = 256
TIMES = 12
READ = (Protection.READ,)
READ_WRITE = (Protection.READ, Protection.WRITE)
MEMORY = Vma("it", PAGES * PAGE, AnonymousMapping(), protection=READ_WRITE)
SHARED = Vma("it", PAGES * PAGE, FileMapping("file"), protection=READ_WRITE)
WINDOW = Touch("it", Stride(AROUND_PAGES_MAX * PAGE), count=TIMES)

# Every primitive as a program: what it maps, what it does, which part of its rows counts, and
# whether all of its file is cached, or one page to a fault.
PROGRAMS: dict[str, tuple[Vma, Step, slice, int]] = {
    "anon_read": (MEMORY, Touch("it", Sequential(), count=TIMES), slice(None), 1),
    "anon_write": (MEMORY, Touch("it", Sequential(), Access.WRITE, TIMES), slice(None), 1),
    "file_alone": (SHARED, WINDOW, slice(None), AROUND_PAGES_MAX),
    "file_around": (SHARED, WINDOW, slice(None), 1),
    "file_write": (SHARED, Touch("it", Sequential(), Access.WRITE, TIMES), slice(None), 1),
    "mmap": (
        MEMORY,
        Loop(TIMES, (Mmap("new", UNMAPPED_PAGES * PAGE), Munmap("new"))),
        slice(None, None, 2),
        1,
    ),
    "munmap": (
        MEMORY,
        Loop(TIMES, (Mmap("new", UNMAPPED_PAGES * PAGE), Munmap("new"))),
        slice(1, None, 2),
        1,
    ),
    "mprotect": (
        MEMORY,
        Loop(TIMES, (Mprotect("it", protection=READ), Mprotect("it", protection=READ_WRITE))),
        slice(None),
        1,
    ),
    "mprotect_split": (
        MEMORY,
        Loop(TIMES, (Mprotect("it", 0, PAGE, READ), Mprotect("it", 0, PAGE, READ_WRITE))),
        slice(None, None, 2),
        1,
    ),
    "mprotect_merge": (
        MEMORY,
        Loop(TIMES, (Mprotect("it", 0, PAGE, READ), Mprotect("it", 0, PAGE, READ_WRITE))),
        slice(1, None, 2),
        1,
    ),
    "madvise": (MEMORY, Loop(TIMES, (Madvise("it", Madvice.NORMAL),)), slice(None), 1),
}

# What the primitives took on some machine. Their names are those of the measurements.
TOOK_NS = {
    "syscall": 170,
    "anon_read": 601,
    "anon_write": 1352,
    "file_alone": 900,
    "file_around": 1700,
    "file_write": 1100,
    "mmap_lock_read": 140,
    "mmap": 1900,
    "mprotect": 800,
    "mprotect_split": 2484,
    "mprotect_merge": 2263,
    "munmap": 2056,
    "madvise": 371,
    "wake_same_cpu": 3034,
    "wake_other_cpu": 13841,
    "shared_vma": 120,
}
WORDS_NS = 2 * NEUTRAL_NS["word_remote"]  # a lock word that was touched elsewhere, or not yet
ROUNDED_NS = 20  # costs are whole, and up to sixteen of them are added


def took_ns(primitive: str, costs_ns: dict[str, int]) -> int:
    """Simulate a primitive, and return what it takes when it has been there before."""
    vma, step, part, every = PROGRAMS[primitive]
    cached = FileRange(PageState.CACHED, every_pages=every)
    file = File("file", PAGES * PAGE, initial=(cached,), kind=FileKind.TMPFS)
    app = Process("app", (vma,), (ThreadGroup("one", 1, (step,)),))
    ended = run(
        check(
            Scenario(
                Workload((app,), (file,)),
                Machine("x86", 1, costs_ns=costs_ns),
                Kernel(),
                horizon_ns=10**12,
            )
        )
    )
    rows = ended.faults if isinstance(step, Touch) else ended.operations
    durations_ns = rows["duration_ns"][part][2:]
    assert len(set(durations_ns)) == 1, "all alike"
    return int(durations_ns[0])


def test_neutral_is_what_calibrate_takes_it_for():
    assert {
        name: cost.ns for name, cost in MACHINES["neutral"].costs.items() if name in NEUTRAL_NS
    } == NEUTRAL_NS


def test_every_cost_that_is_divided_has_a_weight():
    assert {name for charges in CHARGES.values() for name in charges} == NEUTRAL_NS.keys()
    assert NEUTRAL_NS.keys() <= COSTS.keys()


def test_calibrated_costs_make_a_simulated_primitive_take_what_it_took():
    took = {name: Measured(name, ns, ns, ns, 2, "nothing") for name, ns in TOOK_NS.items()}
    costs = costs_of(Calibration(took, AROUND_PAGES_MAX, {}))
    costs_ns = {name: cost.ns for name, cost in costs.known.items()}
    nothing_else = dict.fromkeys(COSTS, 0) | {"word_local": NEUTRAL_NS["word_local"]}

    simulated = {name: took_ns(name, nothing_else | costs_ns) for name in PROGRAMS}

    assert costs.missing == {}
    for name, ns in simulated.items():
        assert TOOK_NS[name] - ROUNDED_NS <= ns <= TOOK_NS[name] + ROUNDED_NS + WORDS_NS, name
