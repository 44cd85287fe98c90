"""How many of the tests with parameters run."""

from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--one-of-each",
        action="store_true",
        help="run each test that has parameters once: with some of them, and always the same",
    )


@pytest.hookimpl(trylast=True)  # what the marks leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("one_of_each"):
        return
    tests = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    chosen = {_one_of(name, of_one_test) for name, of_one_test in tests.items()}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def _one_of(name: str, items: Sequence[pytest.Item]) -> pytest.Item:
    """Choose by the name of the test: all tests together have all policies and machines."""
    return items[crc32(name.encode()) % len(items)]
