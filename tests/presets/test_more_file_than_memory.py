"""The preset `more-file-than-memory` shows what its description says."""

import pytest

from faultlane_server.codes import StopReason
from tests.presets.runs import is_told, latency, simulated

PRESET = "more-file-than-memory"
TOUCHES = 2000 * 40
ROOM_FOR_ALL = "workload.memcgs[limited].max_bytes=320MiB"
NO_READAHEAD = "machine.devices[disk].readahead_bytes=0"

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_nearly_every_touch_needs_a_read_and_nobody_is_killed(seed, policy):
    summary = simulated(PRESET, policy, seed)

    assert summary.stop == StopReason.FINISHED
    assert summary.metrics["touches.count"] == TOUCHES
    assert summary.metrics["vmstat.pgmajfault"] > 0.9 * TOUCHES
    assert summary.metrics["memory.events.oom"] == 0


def test_under_mainline_most_pages_are_gone_when_their_faults_come_back(seed):
    metrics = simulated(PRESET, "mainline", seed).metrics

    assert metrics["faults.reads_lost"] > 0.85 * metrics["faults.count"]
    assert metrics["faults.reads_twice"] > 0.85 * metrics["faults.count"]
    assert metrics["touches.per_read"] < 0.6


def test_under_mainline_more_than_a_thousand_faults_stand_in_line(seed):
    mainline = simulated(PRESET, "mainline", seed)

    assert mainline.metrics["wait.mmap_lock_ns"] > 1000 * mainline.end_ns


def test_under_rfc_next_to_none_are_gone_and_under_hold_none(seed):
    rfc, hold = simulated(PRESET, "rfc", seed).metrics, simulated(PRESET, "hold", seed).metrics

    assert rfc["faults.reads_lost"] < 0.001 * rfc["faults.count"]
    assert hold["faults.reads_lost"] == 0
    assert rfc["touches.per_read"] > 1
    assert hold["touches.per_read"] > 1


def test_under_mainline_who_maps_waits_for_the_disk_and_otherwise_not(seed):
    mainline = latency(simulated(PRESET, "mainline", seed), "section.map_unmap")
    assert mainline.p50_ns > 7_000_000

    for policy in ("rfc", "hold"):
        row = latency(simulated(PRESET, policy, seed), "section.map_unmap")
        assert row.p999_ns < mainline.p50_ns / 40
        assert row.max_ns < mainline.p50_ns / 4  # for a CPU, or for another mapper without one
        assert row.count > 50 * mainline.count


@pytest.mark.parametrize("policy", ["rfc", "hold"])
def test_readers_need_half_the_time(seed, policy):
    mainline, other = simulated(PRESET, "mainline", seed), simulated(PRESET, policy, seed)

    slow_ns = latency(mainline, "section.request").p50_ns
    assert latency(other, "section.request").p50_ns < 0.6 * slow_ns
    assert other.end_ns < 0.6 * mainline.end_ns


@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_with_room_for_everything_no_read_is_lost(seed, policy):
    metrics = simulated(PRESET, policy, seed, (ROOM_FOR_ALL,)).metrics

    assert is_told(PRESET, ROOM_FOR_ALL)
    assert metrics["faults.reads_lost"] == 0
    assert metrics["vmstat.pgsteal_direct"] == 0


def test_without_readahead_rfc_is_mainline_to_the_last_fault(seed):
    runs = {
        policy: simulated(PRESET, policy, seed, (NO_READAHEAD,))
        for policy in ("mainline", "rfc", "rfc_all_reads")
    }

    assert is_told(PRESET, NO_READAHEAD)
    assert runs["rfc"].metrics == runs["mainline"].metrics
    assert runs["rfc"].metrics["faults.reads_lost"] > 0.85 * runs["rfc"].metrics["faults.count"]
    all_reads = runs["rfc_all_reads"].metrics
    assert all_reads["faults.reads_lost"] < 0.001 * all_reads["faults.count"]
