"""A row that nobody measured: the usual values of its columns, and what a test is about."""

from faultlane_server.fidelity.rows import PARAMETERS, Row

USUAL = {
    "set": "nobody's",
    "scenario": "S1",
    "threads": "64",
    "vmas": "1",
    "faults_per_thread": "20",
    "device_latency_ns": "1000000",
    "device": "null_blk",
    "readahead": "readahead_1page",
    "writers": "0",
    "variant": "base",
}


def a_row(**columns: object) -> Row:
    """Return a row of the parallel guest, unless it says otherwise."""
    told = {name: str(value) for name, value in columns.items()}
    return dict.fromkeys(PARAMETERS, "") | USUAL | told
