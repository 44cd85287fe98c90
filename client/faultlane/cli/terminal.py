"""What a person at a terminal sees on stderr while a run goes on; nobody else sees any of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from faultlane import v1 as pb
from faultlane.events import FaultEvents
from faultlane.report.format import duration_text, number_text

STARTING = "starting a server in this process; the first start compiles it, up to a minute"


@contextmanager
def starting() -> Iterator[None]:
    """Say what takes so long before the first run."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(STARTING):
        yield


@contextmanager
def explaining() -> Iterator[None]:
    """Say what takes as long as the run."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status("simulating the run again, up to the fault"):
        yield


@contextmanager
def measuring() -> Iterator[Callable[[str], None]]:
    """Say what is measured at the moment."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status("measuring") as status:
        yield lambda what: status.update(f"measuring {what}")


class RunProgress:
    """A bar for each run: how far simulated time is, and how many faults have arrived."""

    def __init__(self, horizon_ns: int) -> None:
        console = Console(stderr=True)
        self._horizon_ns = horizon_ns
        self._bars: dict[str, TaskID] = {}
        self._faults: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "RunProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def see(self, scenario: pb.Scenario, faults: FaultEvents) -> None:
        """Move the bar of a run to its latest fault."""
        name = f"{scenario.kernel.policy_id or 'mainline'}, seed {scenario.seed}"
        if name not in self._bars:
            self._faults[name] = 0
            self._bars[name] = self._progress.add_task(name, total=self._horizon_ns, told="")
        self._faults[name] += len(faults)
        now_ns = int(faults.start_ns[-1] + faults.duration_ns[-1])
        told = f"{duration_text(now_ns)}, {number_text(self._faults[name])} faults"
        self._progress.update(self._bars[name], completed=now_ns, told=told)
