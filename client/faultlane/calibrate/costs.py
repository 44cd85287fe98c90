"""Which costs of the simulator follow from what was measured.

For each primitive the simulator charges some costs. Those that are known from a primitive before it
are taken off, and the rest is divided among the others as in the profile `neutral`: a measurement
tells what a fault takes, and not which of its steps took it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from faultlane.calibrate.primitives import Calibration
from faultlane.calibrate.stopwatch import Measured

FAULT = {"trap": 1, "vma_find": 1, "handle": 1, "fault_exit": 1, "word_local": 2}
UNMAPPED_PAGES = 2  # by each munmap that is measured

# How often each cost is charged for each primitive, in the order in which they are looked at.
CHARGES: dict[str, dict[str, int]] = {
    "syscall": {"syscall": 1},
    "anon_read": {**FAULT, "map_anon": 1},
    "anon_write": {**FAULT, "map_anon": 1, "anon_page": 1, "clear_page": 1},
    "file_pages": {"fault_around_page": 1},
    "file_alone": {**FAULT, "fault_around": 1, "fault_around_page": 1},
    "file_write": {**FAULT, "cache_lookup": 1, "map_page": 1, "dirty": 1},
    "mmap_lock_read": {"mmap_lock": 1, "vma_find": 1, "word_local": 2},
    "mmap": {"syscall": 1, "mmap": 1, "word_local": 2},
    "mprotect": {"syscall": 1, "mprotect": 1, "word_local": 3},
    "mprotect_split": {"syscall": 1, "mprotect": 1, "vma_split": 1, "word_local": 3},
    "mprotect_merge": {"syscall": 1, "mprotect": 1, "vma_merge": 1, "word_local": 4},
    "munmap": {
        "syscall": 1,
        "munmap": 1,
        "munmap_zap": 1,
        "munmap_page": UNMAPPED_PAGES,
        "word_local": 4,
    },
    "madvise": {"syscall": 1, "madvise": 1, "word_local": 2},
    "wake_same_cpu": {"wake": 1, "sleep": 1, "dequeue": 1, "switch": 1},
    "wake_other_cpu": {"wake": 1, "idle_exit": 1, "switch": 1},
    "shared_vma": {"word_remote": 2, "word_local": -2},
}

# What `neutral` has for them.
NEUTRAL_NS: dict[str, int] = {
    "syscall": 100,
    "trap": 150,
    "vma_find": 50,
    "handle": 150,
    "fault_exit": 100,
    "map_anon": 100,
    "anon_page": 250,
    "clear_page": 150,
    "fault_around": 200,
    "fault_around_page": 25,
    "cache_lookup": 50,
    "map_page": 150,
    "dirty": 250,
    "mmap_lock": 20,
    "mmap": 900,
    "munmap": 900,
    "munmap_zap": 400,
    "munmap_page": 5,
    "mprotect": 500,
    "vma_split": 700,
    "vma_merge": 600,
    "madvise": 300,
    "wake": 700,
    "sleep": 250,
    "dequeue": 250,
    "switch": 1200,
    "idle_exit": 1500,
    "word_local": 10,
    "word_remote": 75,
}
ASSUMED = ("word_local",)  # too short for anything here to see


class DerivedCost(NamedTuple):
    """A cost, and which measurement it comes from."""

    ns: int
    source: str  # in the form of `Cost.source`


class Costs(NamedTuple):
    """What follows from a calibration."""

    known: dict[str, DerivedCost]
    missing: dict[str, str]  # primitives that nothing follows from, and why


def costs_of(calibration: Calibration) -> Costs:
    """Divide everything that was measured among costs."""
    known: dict[str, DerivedCost] = {}
    missing: dict[str, str] = {}
    measured = {**calibration.measured, **_file_pages(calibration)}
    for name, charges in CHARGES.items():
        if name not in measured:
            continue
        found = _divided(measured[name], charges, known)
        if found:
            known |= found
        else:
            missing[name] = f"{measured[name].ns:.0f} ns are less than its other parts take"
    return Costs(known, missing)


def _file_pages(calibration: Calibration) -> dict[str, Measured]:
    """What a fault on a file takes for one more page around it."""
    pages, measured = calibration.around_pages, calibration.measured
    if pages < 2 or not {"file_alone", "file_around"} <= measured.keys():
        return {}
    alone, around = measured["file_alone"], measured["file_around"]
    name = f"file_around {around.ns:.0f} ns, less file_alone, for each of {pages - 1} pages:"
    return {"file_pages": around._replace(name=name, ns=(around.ns - alone.ns) / (pages - 1))}


def _divided(
    primitive: Measured, charges: Mapping[str, int], known: Mapping[str, DerivedCost]
) -> dict[str, DerivedCost]:
    """Divide what is not known yet of a primitive, if that leaves anything."""
    unknown = [name for name in charges if name not in known and name not in ASSUMED]
    rest_ns = primitive.ns - sum(
        times * (known[name].ns if name in known else NEUTRAL_NS[name])
        for name, times in charges.items()
        if name not in unknown
    )
    weight = sum(charges[name] * NEUTRAL_NS[name] for name in unknown)
    if rest_ns <= 0:
        return {}
    source = _source(primitive, charges)
    return {
        name: DerivedCost(round(rest_ns * NEUTRAL_NS[name] / weight), source) for name in unknown
    }


def _source(primitive: Measured, charges: Mapping[str, int]) -> str:
    if list(charges) == [primitive.name]:
        return f"measured: {primitive.name} {primitive.ns:.0f} ns"
    return f"derived: {primitive.name} {primitive.ns:.0f} ns"
