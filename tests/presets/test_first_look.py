"""The preset `first-look` shows what its description says."""

import pytest
from google.protobuf.json_format import Parse

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.codes import StopReason
from faultlane_server.presets import preset_files
from faultlane_server.service.translate import scenario_from_wire
from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated


@pytest.fixture(scope="module")
def summaries() -> dict[str, Summary]:
    return {policy: simulated("first-look", policy) for policy in ("mainline", "rfc", "hold")}


def p99_ns(summary: Summary, name: str) -> int:
    return latency(summary, name).p99_ns


def test_all_requests_are_served_and_the_faults_are_enough_to_compare_and_few_enough_to_wait_for(
    summaries,
):
    for summary in summaries.values():
        assert summary.stop == StopReason.FINISHED
        assert summary.metrics["touches.count"] == 48 * 150 * 8
        assert 20_000 < summary.metrics["faults.count"] < 100_000


def test_rfc_leaves_mmap_lock_to_the_mappers(summaries):
    mainline, rfc = summaries["mainline"], summaries["rfc"]

    # all retries of mainline: about two thirds of its faults
    assert mainline.metrics["mmap_lock.read.acquired"] > mainline.metrics["faults.count"] / 2
    assert rfc.metrics["mmap_lock.read.acquired"] < rfc.metrics["faults.count"] / 100
    assert p99_ns(rfc, "section.map_unmap") < p99_ns(mainline, "section.map_unmap") / 1.5


def test_under_hold_everybody_waits_for_the_disk(summaries):
    mainline, hold = summaries["mainline"], summaries["hold"]

    assert p99_ns(mainline, "section.protect") < 100_000
    assert p99_ns(hold, "section.protect") > 1_000_000
    assert p99_ns(hold, "section.map_unmap") > 10 * p99_ns(mainline, "section.map_unmap")
    assert hold.metrics["wait.mmap_lock_ns"] > 10 * mainline.metrics["wait.mmap_lock_ns"]


@pytest.mark.parametrize("page_bytes", [4096, 16384, 65536])
def test_it_makes_sense_at_every_page_size(page_bytes):
    scenario = Parse(dict(preset_files())["first-look"], pb.Preset()).scenario
    scenario.machine.arch = "arm64"
    scenario.machine.page_size_bytes = page_bytes

    assert scenario_from_wire(scenario).machine.page_size_bytes == page_bytes
