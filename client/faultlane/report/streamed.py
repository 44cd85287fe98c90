"""What is counted of the events of a run while they are streamed."""

from collections import Counter

import numpy as np

from faultlane import v1 as pb
from faultlane.events import FaultEvents, OperationEvents
from faultlane.report.format import number_text, table


class Streamed:
    """Counts of the events that arrived, however many they are.

    Attributes
    ----------
    faults
        How many faults.
    operations
        How many operations.
    """

    def __init__(self) -> None:
        self.faults = 0
        self.operations = 0
        self._kinds: Counter[tuple[int, int, int]] = Counter()  # attempts, last lock, finished

    def see_faults(self, batch: FaultEvents) -> None:
        """Count some faults."""
        self.faults += len(batch)
        columns = np.stack([batch.attempts, batch.lock, batch.finished])
        kinds, counts = np.unique(columns, axis=1, return_counts=True)
        for kind, count in zip(kinds.T.tolist(), counts.tolist(), strict=True):
            self._kinds[tuple(kind)] += count

    def see_operations(self, batch: OperationEvents) -> None:
        """Count some operations."""
        self.operations += len(batch)

    def attempts(self) -> list[str]:
        """How many attempts faults made, and under which lock the last of them ran."""
        head = ["attempts", "faults", "under VMA lock", "under mmap_lock", "unfinished"]
        rows = [
            [str(number), *(number_text(count) for count in self._counts(number))]
            for number in sorted({attempts for attempts, _, _ in self._kinds})
        ]
        return table([head, *rows]) if rows else []

    def _counts(self, number: int) -> list[int]:
        kinds = [kind for kind in self._kinds if kind[0] == number]
        return [
            sum(self._kinds[kind] for kind in kinds),
            sum(self._kinds[kind] for kind in kinds if kind[1] == pb.FaultLock.FAULT_LOCK_VMA),
            sum(self._kinds[kind] for kind in kinds if kind[1] == pb.FaultLock.FAULT_LOCK_MMAP),
            sum(self._kinds[kind] for kind in kinds if kind[2] == 0),
        ]
