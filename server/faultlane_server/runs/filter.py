"""Which rows of a log somebody wants to have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faultlane_server.store import Columns, rows_of


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Every condition that is set must hold. Fields as in the proto."""

    duration_ns_min: int = 0
    start_ns_min: int = 0
    start_ns_max: int = 0  # 0: no bound
    attempts_min: int = 0  # of faults alone
    threads: tuple[int, ...] = ()  # empty: all
    processes: tuple[int, ...] = ()
    kinds: tuple[int, ...] = ()

    def rows(self, columns: Columns) -> NDArray[np.intp]:
        """Return the numbers of the rows for which all conditions hold."""
        holds = np.ones(rows_of(columns), bool)
        for column, least in (
            ("duration_ns", self.duration_ns_min),
            ("start_ns", self.start_ns_min),
            ("attempts", self.attempts_min),
        ):
            if least:
                holds &= columns[column] >= np.uint64(least)
        if self.start_ns_max:
            holds &= columns["start_ns"] <= np.uint64(self.start_ns_max)
        for column, wanted in (
            ("thread", self.threads),
            ("process", self.processes),
            ("kind", self.kinds),
        ):
            if wanted:
                holds &= np.isin(columns[column], np.array(wanted, columns[column].dtype))
        return np.flatnonzero(holds)
