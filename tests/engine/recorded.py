"""The fingerprints that were recorded. `python -m tests.engine.recorded` records them anew."""

import json
from pathlib import Path
from typing import Any

from faultlane_server.engine import MODEL_VERSION
from tests.engine.some_runs import busy_scenarios, run

PATH = Path(__file__).with_name("fingerprints.json")


def recorded() -> dict[str, Any]:
    """Return the model version that was recorded, and the fingerprint of each scenario by name."""
    loaded: dict[str, Any] = json.loads(PATH.read_text())
    return loaded


def record() -> None:
    """Run all scenarios, and keep their fingerprints."""
    fingerprints = {
        name: f"{run(scenario).summary.fingerprint:#018x}"
        for name, scenario in busy_scenarios().items()
    }
    new = {"model_version": MODEL_VERSION, "fingerprints": fingerprints}
    PATH.write_text(json.dumps(new, indent=2) + "\n")


if __name__ == "__main__":
    record()
