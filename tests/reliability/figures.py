"""What a test has measured, told at its end: pytest prints it with -s, or with -rP."""

from pathlib import Path


def tell(what: str, **figures: float | str) -> None:
    """Print figures in one line, which can be found again."""
    told = ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in figures.items())
    print(f"\nFIGURE {what}: {told}")


def resident_mib(pid: int) -> float:
    """Return how much memory a process has."""
    return _status(pid)["VmRSS"] / 1024


def peak_mib(pid: int) -> float:
    """Return how much memory a process has had at most."""
    return _status(pid)["VmHWM"] / 1024


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _status(pid: int) -> dict[str, int]:
    """Return the lines of /proc that are lengths, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(length) for name, length, _ in found}


def _text(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
