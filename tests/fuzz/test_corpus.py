"""Whatever somebody sends is answered or refused; what was not, once, is kept in corpus/.

`python -m tests.fuzz` tries many more.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faultlane_server.runs import Engine
from tests.fuzz.__main__ import LIMITS, kept_inputs, try_one
from tests.fuzz.front import Front
from tests.fuzz.inputs import File, Request, an_input
from tests.service.fake import an_engine

FRESH = 1500


def outcomes(
    inputs: Sequence[Request | File], scratch: Path, engine: Engine
) -> list[tuple[str, str]]:
    async def tried(front: Front) -> list[tuple[str, str]]:
        return [await try_one(front, each, scratch) for each in inputs]

    with Front(engine, scratch / "data", LIMITS) as front:
        return asyncio.run(tried(front))


def test_what_was_found_once_is_answered_or_refused(tmp_path: Path) -> None:
    inputs = kept_inputs()

    found = outcomes(inputs, tmp_path, an_engine(slices=1))

    assert [wrong for _, wrong in found if wrong] == []


def test_fresh_inputs_are_answered_or_refused(tmp_path: Path) -> None:
    inputs = [an_input(random.Random(number), []) for number in range(FRESH)]

    found = outcomes(inputs, tmp_path, an_engine(slices=1))

    assert [wrong for _, wrong in found if wrong] == []
    counts = Counter(outcome for outcome, _ in found)
    for outcome in ("OK", "INVALID_ARGUMENT", "file accepted", "file refused"):
        assert counts[outcome] > FRESH / 100, "or the inputs try too little"


def test_a_bug_would_be_found(tmp_path: Path) -> None:
    """Else all of this would find nothing because it looks at nothing."""

    def broken(_: int) -> None:
        raise AssertionError("a lock that nobody holds")

    inputs = [an_input(random.Random(number), []) for number in range(200)]

    found = outcomes(inputs, tmp_path, an_engine(on_slice=broken))

    assert any(outcome == "broken run" and "nobody holds" in wrong for outcome, wrong in found)
