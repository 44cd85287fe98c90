"""The simulations that wait: owners take turns, and each one's own come in their order."""

from collections import deque
from collections.abc import Callable, Iterator

from faultlane_server.runs.job import Job


class FairQueue:
    """Somebody who queues a hundred simulations does not make everybody else wait for them."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Job]] = {}  # by owner; whose turn it is comes first

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Job]:
        for line in self._lines.values():
            yield from line

    def queued_by(self, owner: str) -> int:
        return len(self._lines.get(owner, ()))

    def push(self, job: Job) -> None:
        self._lines.setdefault(job.simulation.owner, deque()).append(job)

    def remove(self, job: Job) -> None:
        """Take a job out, if it is there."""
        line = self._lines.get(job.simulation.owner, deque())
        if job in line:
            line.remove(job)
        if not line:
            self._lines.pop(job.simulation.owner, None)

    def pop(self, may_run: Callable[[Job], bool]) -> Job | None:
        """Take out the next job that may run; its owner's next turn comes after all others'."""
        for owner, line in self._lines.items():
            for job in line:
                if may_run(job):
                    self.remove(job)
                    if owner in self._lines:
                        self._lines[owner] = self._lines.pop(owner)
                    return job
        return None
