"""Explains faults: what one of them did, step by step, and who was in its way.

Runs are deterministic. So a fault is simulated once more, with all that was around it, and the
record is looked at between the events: the run itself pays nothing for being explained.
"""

from faultlane_server.explain.explain import explain

__all__ = ["explain"]
