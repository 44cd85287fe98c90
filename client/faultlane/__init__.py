"""faultlane: how long page faults wait, and what another retry design would change.

`Client.connect(address)`, `AsyncClient.connect(address)` or `local()` gives a client; its
`run(scenario)` gives a run whose faults arrive as numpy columns. `Access` is for servers that want
a token or speak TLS. `faultlane.v1` has the messages, `faultlane.errors` what can go wrong.
"""

from faultlane.access import Access
from faultlane.aio import AsyncClient, AsyncRun
from faultlane.client import Client
from faultlane.errors import FaultlaneError, InvalidScenario
from faultlane.events import FaultEvents, OperationEvents, write_parquet
from faultlane.local import local
from faultlane.run import Run
from faultlane.scenario import (
    read_machine,
    read_scenario,
    scenario_from,
    set_field,
    set_fields,
    set_machine,
)

__all__ = [
    "Access",
    "AsyncClient",
    "AsyncRun",
    "Client",
    "FaultEvents",
    "FaultlaneError",
    "InvalidScenario",
    "OperationEvents",
    "Run",
    "local",
    "read_machine",
    "read_scenario",
    "scenario_from",
    "set_field",
    "set_fields",
    "set_machine",
    "write_parquet",
]
