"""faultlane: how long page faults wait, and what another retry design would change."""
