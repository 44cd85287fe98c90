"""One name for everything that decides a run."""

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from faultlane_server.scenario import Scenario


def digest_of(scenario: Scenario, model_version: int) -> str:
    """Return SHA-256 over a checked scenario and the version of the model, in hexadecimal."""
    content = json.dumps([model_version, _plain(scenario)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return `value` out of lists and dicts alone; records carry the name of their class."""
    if is_dataclass(value):
        content = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {"": type(value).__name__, **content}
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return [_plain(entry) for entry in value]
    return value
