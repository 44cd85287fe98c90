"""Rows of the kernel model's table of golden scenarios, as whole runs: migration, stack growth."""

from dataclasses import replace

import pytest

from faultlane_server.codes import Access
from faultlane_server.engine.world import Counter, Locks
from faultlane_server.scenario import Migrate
from tests.golden.account import account_of, told, written
from tests.golden.setting import Setting, one_of_each_size
from tests.golden.story import CACHED, STACK_PAGES, Run, after, one, touch
from tests.golden.table import ANON_FIRST_WRITE, MIGRATING, READY, STACK, at_page_size

pytestmark = pytest.mark.uncompiled_too

PAGE = 112
SLOW_COPY = {"migrate_page": 100_000}


def test_row_20_a_page_of_a_file_that_is_being_migrated(setting):
    mover = one("mover", touch(PAGE), Migrate("data", PAGE * setting.page_bytes))
    reader = one("reader", after(50_000), touch(PAGE))
    run = Run(setting.story(mover, reader, data=[CACHED], costs_ns=SLOW_COPY), traced="reader")

    cells = {"reader": setting.cell(MIGRATING), "mover": setting.cell(READY)}
    assert account_of(run, "reader") == written(cells)
    assert run.faults["reader"]["wait_folio_ns"] > 40_000
    lock = Locks.MMAP_READ if setting.policy == "mmap_lock_only" else Locks.VMA_READ
    held_ns = run.simulator.world.tally.locks[lock].hold_ns
    assert held_ns > 40_000, "it waits with its lock held"


@one_of_each_size
def test_row_20_the_page_of_another_process(setting):
    """What maps the folio is found by rmap, wherever it is."""
    move = Migrate("data", PAGE * setting.page_bytes)
    mover = one("mover", after(10_000), touch(PAGE), after(10_000), move)
    reader = one("reader", touch(PAGE), after(50_000), touch(PAGE))
    scenario = setting.story(reader, elsewhere=[mover], data=[CACHED], costs_ns=SLOW_COPY)

    ready = setting.cell(READY)
    cells = {"reader": [ready, setting.cell(MIGRATING)], "mover": [ready]}
    assert told(scenario, "reader") == written(cells)


def test_row_20_a_page_of_anonymous_memory_that_is_being_migrated(setting):
    mover = one("mover", touch(3, "stack", Access.WRITE), Migrate("stack"))
    reader = one("reader", after(50_000), touch(3, "stack"))
    scenario = setting.story(mover, reader, stack=True, costs_ns=SLOW_COPY)

    cells = {"reader": setting.cell(MIGRATING), "mover": setting.cell(ANON_FIRST_WRITE)}
    assert told(scenario, "reader") == written(cells)


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
def test_row_21_stack_growth(setting, access):
    run = Run(setting.story(one("app", touch(3, "below", access)), stack=True), traced="app")

    assert account_of(run, "app") == written({"app": setting.cell(STACK)})
    world = run.simulator.world
    assert world.tally.locks[Locks.MMAP_WRITE].acquired == 1
    assert world.tally.locks[Locks.VMA_WRITE].acquired == 1, "that of the stack"
    assert world.tally.counters[Counter.MMAP_DOWNGRADES] == 1
    stack = world.vmas[2]
    assert stack.end - stack.start == STACK_PAGES + (STACK_PAGES - 3), "down to the page, no more"


@one_of_each_size
def test_row_21_the_stack_has_grown_for_all_that_come_later(setting):
    """The first write makes the anon_vma, after which no write needs mmap_lock."""
    app = one("app", touch(3, "below", Access.WRITE), touch(9, "below", Access.WRITE))
    run = Run(setting.story(app, stack=True))

    by_mmap_lock = setting.policy == "mmap_lock_only"
    assert [row["mmap_reads"] for row in run.log] == [1, int(by_mmap_lock)]
    assert run.metrics["mmap_lock.write.acquired"] == run.metrics["stacks.grown"] == 1


class TestLoongArchBefore618:
    """It had no VMA lock: rows are those of mmap_lock alone, whatever the policy."""

    PAGE_SIZES = pytest.mark.parametrize("page_bytes", [4096, 16384, 65536])

    def told(self, page_bytes, *cast, **more):
        story = Setting("loongarch", page_bytes, "mainline").story(*cast, **more)
        return told(replace(story, kernel=replace(story.kernel, generation="6.12")), cast[0].name)

    @PAGE_SIZES
    def test_row_20(self, page_bytes):
        mover = one("mover", after(20_000), touch(PAGE), Migrate("data", PAGE * page_bytes))
        reader = one("reader", after(70_000), touch(PAGE))
        found = self.told(page_bytes, reader, mover, data=[CACHED], costs_ns=SLOW_COPY)

        ready = at_page_size(READY["mmap_lock_only"], page_bytes)
        assert found == written({"reader": MIGRATING["mmap_lock_only"], "mover": ready})

    @PAGE_SIZES
    def test_row_21(self, page_bytes):
        found = self.told(page_bytes, one("app", touch(3, "below", Access.WRITE)), stack=True)

        assert found == written({"app": STACK["mmap_lock_only"]})
