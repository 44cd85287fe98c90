"""Rows of the kernel model's table of golden scenarios, as whole runs: kernel mode and signals."""

import pytest

from faultlane_server.codes import SignalKind
from tests.golden.account import account_of, told, written
from tests.golden.setting import one_of_each_size
from tests.golden.story import CACHED, READ_NS, Run, after, one, send, touch, write
from tests.golden.table import (
    ABSENT,
    BEING_MAPPED_KILLED,
    COW_READY,
    INTERRUPTED,
    KERNEL_MODE,
    KERNEL_MODE_BEING_READ,
    KERNEL_MODE_KILLED,
    KERNEL_MODE_SHARED_WRITE,
    KILLED,
    READY,
)

pytestmark = pytest.mark.uncompiled_too

PAGE = 112
BEFORE = PAGE - 1  # in its window of read-around, but not in that of fault-around


def test_row_11_a_fault_in_kernel_mode_on_an_absent_page(setting):
    run = Run(setting.story(one("reader", touch(PAGE, kernel_mode=True))), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(KERNEL_MODE)})
    assert run.metrics["device.pages"] == setting.windows.ahead


@one_of_each_size
def test_row_11_a_write_in_kernel_mode(setting):
    scenario = setting.story(one("writer", write(PAGE, kernel_mode=True)), writable=True)

    cell = setting.cell(KERNEL_MODE_SHARED_WRITE)
    assert told(scenario, "writer") == written({"writer": cell})


def test_row_31_a_fault_in_kernel_mode_on_a_page_that_another_reader_reads(setting):
    scenario = setting.story(
        one("first", touch(PAGE)),
        one("second", after(50_000), touch(BEFORE, kernel_mode=True)),
    )

    cells = {"second": setting.cell(KERNEL_MODE_BEING_READ), "first": setting.cell(ABSENT)}
    assert told(scenario, "second") == written(cells)


def signalled(setting, signal, *cast, **more):
    """Let a signal come while the first of the cast waits, from another process."""
    killer = one("killer", after(100_000), send(signal, cast[0].name))
    return setting.story(*cast, elsewhere=[killer, *more.pop("elsewhere", ())], **more)


def test_row_22_a_signal_that_is_handled_ends_the_fault_when_its_retry_returns(setting):
    """It does not end the wait. The access faults again, and finds the page."""
    run = Run(signalled(setting, SignalKind.HANDLED, one("reader", touch(PAGE))), traced="reader")

    cell = setting.cell(INTERRUPTED)
    cells = [cell, setting.cell(READY)] if "interrupted" in cell else [cell]
    assert account_of(run, "reader") == written({"reader": cells})
    assert run.log[0]["duration_ns"] > READ_NS
    assert run.metrics["signals.handled"] == 1
    assert run.metrics["touches.count"] == 1


def test_row_22_a_fatal_signal_ends_the_wait(setting):
    run = Run(signalled(setting, SignalKind.FATAL, one("reader", touch(PAGE))), traced="reader")

    assert account_of(run, "reader") == written({"reader": setting.cell(KILLED)})
    assert 90_000 < run.log[0]["duration_ns"] < 110_000
    assert run.metrics["touches.count"] == 0, "the access was never made"


@one_of_each_size
def test_row_22_a_signal_that_is_handled_is_nothing_to_a_fault_in_kernel_mode(setting):
    reader = one("reader", touch(PAGE, kernel_mode=True))
    scenario = signalled(setting, SignalKind.HANDLED, reader)

    assert told(scenario, "reader") == written({"reader": setting.cell(KERNEL_MODE)})


@one_of_each_size
def test_row_22_a_fatal_signal_ends_a_fault_in_kernel_mode(setting):
    reader = one("reader", touch(PAGE, kernel_mode=True))
    scenario = signalled(setting, SignalKind.FATAL, reader)

    assert told(scenario, "reader") == written({"reader": setting.cell(KERNEL_MODE_KILLED)})


@one_of_each_size
def test_row_22_a_wait_for_a_page_that_is_ready_can_be_killed_or_not(setting):
    """Which is the difference between rfc_uptodate and v2."""
    scenario = signalled(
        setting,
        SignalKind.FATAL,
        one("reader", after(50_000), touch(PAGE)),
        elsewhere=[one("copier", write(PAGE))],
        data=[CACHED],
        private=True,
        writable=True,
        costs_ns={"copy_page": 200_000},
    )

    cells = {"reader": setting.cell(BEING_MAPPED_KILLED), "copier": setting.cell(COW_READY)}
    assert told(scenario, "reader") == written(cells)
