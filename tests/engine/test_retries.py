"""How often faults were tried again, and how the attempts of the most stubborn one ended."""

import pytest

from faultlane_server.codes import DeviceKind
from faultlane_server.scenario import FileMapping, Vma
from faultlane_server.summary import RetryRow, WaitPart
from tests.engine.small_stories import (
    CACHED,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Memory,
    Played,
    a_story,
    after,
    heap,
    one,
    page_range,
    touch,
)

DATA = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)

pytestmark = pytest.mark.uncompiled_too


def test_faults_are_counted_by_kind_and_by_how_often_they_were_tried_again():
    played = Played(a_story(one("reader", touch(3)), one("second", after(20 * US), touch(3))))
    mapped = Played(a_story(one("reader", touch(3)), data=CACHED))

    assert played.summary.retries.kinds == (RetryRow("file_read", (0, 2)),)
    assert mapped.summary.retries.kinds == (RetryRow("file_read", (1,)),)


def test_the_share_of_faults_that_were_tried_again_more_than_k_times_is_a_metric():
    played = Played(a_story(one("reader", touch(3)), one("mapped", after(20 * US), touch(60))))
    metrics = played.summary.metrics

    assert metrics["retries.file_read.more_than_0"] == 1
    assert metrics["retries.file_read.more_than_1"] == 0


def test_kinds_are_told_apart():
    played = Played(
        a_story(
            one("reader", touch(3)),
            one("swapped", touch(0, vma="heap")),
            vmas=(DATA, heap(swapped=(page_range(0),))),
            memory=Memory(swap=DeviceKind.BLOCK),
        )
    )

    assert {row.kind for row in played.summary.retries.kinds} == {"swap", "file_read"}


def test_each_attempt_of_the_longest_chain_is_explained():
    played = Played(a_story(one("reader", after(10 * US), touch(3))))
    fault, longest = played.fault_of("reader"), played.summary.retries.longest

    assert longest is not None
    assert (longest.group, longest.touch, longest.attempts) == ("reader", 0, 2)
    assert (longest.start_ns, longest.duration_ns) == (fault["start_ns"], fault["duration_ns"])
    first, last = longest.rows
    assert (first.lock, first.tried, first.reason) == ("vma", False, "F7")
    assert first.waits == (WaitPart("device", READ_NS),)
    assert (last.lock, last.reason, last.waits) == ("mmap", "", ())
    assert READ_NS < first.end_ns < last.end_ns == longest.duration_ns


def test_no_chain_is_told_where_every_fault_made_one_attempt():
    played = Played(a_story(one("reader", touch(3)), data=CACHED))

    assert played.summary.retries.longest is None
