"""A calibration as a table for people, and as a file for `--machine`."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from faultlane.calibrate.costs import Costs
from faultlane.calibrate.primitives import Calibration
from faultlane.calibrate.system import ALLOWED_CPUS, PAGE, is_busy
from faultlane.report.format import text_table

BASE = "neutral"


def machine_name() -> str:
    """What was measured: host, kernel, processor, page size."""
    system = platform.uname()
    return (
        f"{system.node}, {system.system} {system.release}, {system.machine}, {_processor()},"
        f" pages of {PAGE} bytes"
    )


def _processor() -> str:
    """What the kernel calls the CPUs, where it says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return "unknown CPUs"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown CPUs"


def busy() -> str:
    """A warning if others are at work as well, or nothing."""
    if not is_busy():
        return ""
    load, cpus = os.getloadavg()[0], len(ALLOWED_CPUS)
    return (
        f"this machine is busy, with a load of {load:.1f} on {cpus} CPUs: what is measured takes"
        " longer than when it is idle"
    )


def calibration_report(calibration: Calibration, costs: Costs) -> list[str]:
    """What was measured and what follows, in lines."""
    head = ["primitive", "median", "10 %", "90 %", "rounds", "taken off"]
    rows = [
        [
            each.name,
            f"{each.ns:.0f} ns",
            f"{each.low_ns:.0f} ns",
            f"{each.high_ns:.0f} ns",
            str(each.rounds),
            each.less,
        ]
        for each in calibration.measured.values()
    ]
    lines = [machine_name(), "", *text_table([head, *rows])]
    lines += ["", f"costs that follow; all others are those of the profile {BASE}:"]
    lines += text_table(
        [[name, f"{cost.ns} ns", cost.source] for name, cost in costs.known.items()]
    )
    missing = calibration.missing | costs.missing
    lines += ["", "not measured:"] if missing else []
    return lines + [f"  {what}: {why}" for what, why in missing.items()]


def machine_file(calibration: Calibration, costs: Costs) -> str:
    """The fields of a scenario's `machine` that were found, as YAML."""
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"# What things cost on {machine_name()}.",
        f"# Written by faultlane calibrate on {today}; for faultlane run --machine.",
        f"# Costs that are not here are those of the profile {BASE}.",
        *(f"# {warning}" for warning in [busy()] if warning),
        *(
            f"# Not measured: {what}: {why}"
            for what, why in (calibration.missing | costs.missing).items()
        ),
        f"profile: {BASE}",
        "costs_ns:",
    ]
    lines += [f"  {name}: {cost.ns}  # {cost.source}" for name, cost in costs.known.items()]
    return "\n".join(lines) + "\n"
