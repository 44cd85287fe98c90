"""The workload that all peers simulate, and what each of them has to tell of it."""

from dataclasses import dataclass

WRITERS = 4  # each has a VMA of its own, into which a quarter of the readers fault


@dataclass(frozen=True, slots=True)
class Load:
    """What decides a run. The C++ twin takes the fields as its arguments, in this order."""

    seed: int
    threads: int  # that fault; a multiple of the writers
    batches: int
    batch_faults: int
    think_ns: int  # mean, exponential
    channels: int
    read_ns: int  # mean, exponential
    find_ns: int  # under a fault lock, up to the page
    map_ns: int  # under the same lock, if the page is there
    pause_ns: int  # of a writer: mean, exponential
    write_ns: int  # under mmap_lock and the VMA's lock


def make_load(threads: int, seed: int, batches: int) -> Load:
    """Make a load in which faults are as frequent with many threads as with few.

    Threads that never waited would keep the device busy for nine tenths of the time.
    """
    channels, read_ns = 32, 80_000
    return Load(
        seed=seed,
        threads=threads,
        batches=batches,
        batch_faults=25_000,
        think_ns=threads * read_ns * 10 // (2 * 9 * channels),
        channels=channels,
        read_ns=read_ns,
        find_ns=600,
        map_ns=200,
        pause_ns=200_000,
        write_ns=3_000,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Sums over `batch_faults` faults in a row, or some more, and over the writes beside them.

    The C++ twin prints the fields in this order.
    """

    cpu_s: float  # what the simulator took for it, the rows of both logs included
    simulated_ns: int
    faults: int
    fault_ns: int
    device_ns: int  # waiting for a channel, and for the read
    mmap_wait_ns: int
    mmap_reads: int  # how often mmap_lock was taken for read
    vma_failures: int  # faults that found their VMA write-locked
    writes: int
    write_wait_ns: int  # for mmap_lock
    drain_ns: int  # for the readers of the VMA
