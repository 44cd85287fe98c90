"""What things cost on the Linux machine that this runs on.

Primitives are measured, each as a median over many batches, with what measuring itself costs taken
off; then each is divided among the costs of a machine profile that the simulator charges for it.
Nothing here needs to be root. What could not be measured is said, with the reason, and keeps the
cost of the profile `neutral`. Importing it takes Linux.

    system.py      memory, files and CPUs, by system calls
    stopwatch.py   batches, medians, and what is taken off
    primitives.py  what is measured
    costs.py       what the simulator charges for each primitive, and the costs that follow
    text.py        a table, and the file that `--machine` takes
"""

from faultlane.calibrate.costs import Costs, DerivedCost, costs_of
from faultlane.calibrate.primitives import LONG, QUICK, Calibration, calibrate
from faultlane.calibrate.stopwatch import Measured, Stopwatch, Unmeasurable, Watches
from faultlane.calibrate.text import busy, calibration_report, machine_file

__all__ = [
    "LONG",
    "QUICK",
    "Calibration",
    "Costs",
    "DerivedCost",
    "Measured",
    "Stopwatch",
    "Unmeasurable",
    "Watches",
    "busy",
    "calibrate",
    "calibration_report",
    "costs_of",
    "machine_file",
]
