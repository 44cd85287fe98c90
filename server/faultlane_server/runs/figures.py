"""How busy the server is, and how each run ended, for whoever watches over it."""

from typing import NamedTuple

from faultlane_server.runs.simulation import Simulation


class Figures(NamedTuple):
    """What there is at a moment."""

    queued: int
    running: int
    streams: int
    explained: int  # faults that are being explained, or wait for it
    faults: int  # that were simulated since the server began


class RunEnd(NamedTuple):
    """A run that is over, or that goes on with the next server."""

    simulation: Simulation
    was_simulated: bool  # False: it ended as an equal one, or before its begin
    seconds: float
