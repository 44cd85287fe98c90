"""The simulation: state in one record, and compiled functions over it.

It knows nothing of gRPC, of files or of who asks.
"""

from faultlane_server.engine.jit import is_cold
from faultlane_server.engine.simulator import (
    MODEL_VERSION,
    BrokenInvariant,
    Simulator,
    warm_up,
)

__all__ = ["MODEL_VERSION", "BrokenInvariant", "Simulator", "is_cold", "warm_up"]
