"""What the documentation of the SDK shows can be done as it stands there."""

import asyncio
import doctest
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import faultlane
from faultlane import v1 as pb
from faultlane.access import Access
from faultlane_server.service.local import LocalServer
from tests.service.fake import a_scenario, an_engine

NAMES = sorted(set(faultlane.__all__))
# What an example needs that comes with an extra.
NEEDED = {"FaultEvents": ["pandas"], "OperationEvents": ["polars"], "write_parquet": ["pyarrow"]}


def examples_of(name: str) -> doctest.DocTest:
    """The examples in the documentation of a public name."""
    documented = getattr(faultlane, name)
    text = documented.__doc__ or ""
    return doctest.DocTestParser().get_doctest(text, {}, name, None, None)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server that simulates in no time, which is no matter to who uses it."""
    with LocalServer(workers=1, engine=an_engine()) as server:
        yield server.address


@pytest.fixture
def names(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What examples take as given: the public names, a client, and a scenario."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "faultlane_server.service.local.LocalServer", partial(LocalServer, engine=an_engine())
    )
    with faultlane.Client.connect(address, Access()) as client:
        yield {
            **{name: getattr(faultlane, name) for name in NAMES},
            "asyncio": asyncio,
            "pb": pb,
            "Path": Path,
            "address": address,
            "client": client,
            "scenario": a_scenario(),
        }


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_examples_that_work(
    name: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for module in NEEDED.get(name, ()):
        pytest.importorskip(module)
    examples = examples_of(name)
    examples.globs = names

    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples)

    assert outcome.attempted > 0
    assert outcome.failed == 0, capsys.readouterr().out
