"""Rows of the kernel model's table of golden scenarios, as whole runs: anonymous memory."""

import pytest

from faultlane_server.codes import Access
from tests.golden.account import account_of, told, written
from tests.golden.story import Run, after, mprotect, one, touch
from tests.golden.table import ANON_BESIDE_A_WRITER, ANON_FIRST_WRITE

pytestmark = pytest.mark.uncompiled_too

WRITE_NS = 100_000


def write(page):
    return touch(page, "stack", Access.WRITE)


def test_row_9_the_first_write_to_anonymous_memory(setting):
    scenario = setting.story(one("app", write(3)), stack=True)

    assert told(scenario, "app") == written({"app": setting.cell(ANON_FIRST_WRITE)})


def test_row_10_the_same_while_another_vma_is_changed(setting):
    scenario = setting.story(
        one("writer", mprotect("other")),
        one("app", after(20_000), write(3)),
        stack=True,
        costs_ns={"mprotect": WRITE_NS},
    )
    run = Run(scenario, traced="app")

    assert account_of(run, "app") == written({"app": setting.cell(ANON_BESIDE_A_WRITER)})
    if setting.policy != "blind":
        assert run.faults["app"]["wait_mmap_lock_ns"] > WRITE_NS / 2
