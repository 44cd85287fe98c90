"""Measured runs of a real kernel, as scenarios: what was measured beside what is simulated."""
