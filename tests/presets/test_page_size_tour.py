"""The preset `page-size-tour` shows what its description says."""

import pytest

from faultlane_server.summary import Summary
from tests.presets.runs import latency, simulated

KIB = 1024
FILE_BYTES = 16 * KIB * KIB
PAGE_SIZES = (4 * KIB, 16 * KIB, 64 * KIB)
SMALL = PAGE_SIZES[:2]
WINDOWS = FILE_BYTES // (128 * KIB)  # of readahead

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


def toured(page_size_bytes: int, policy: str, seed: int) -> Summary:
    return simulated(
        "page-size-tour", policy, seed, (f"machine.page_size_bytes={page_size_bytes}",)
    )


@pytest.mark.parametrize("page_size_bytes", PAGE_SIZES)
@pytest.mark.parametrize("policy", ["mainline", "rfc", "hold"])
def test_the_same_bytes_are_read_once_whatever_the_page_size(seed, policy, page_size_bytes):
    metrics = toured(page_size_bytes, policy, seed).metrics

    assert metrics["touches.count"] == 4096
    assert metrics["device.pages"] * page_size_bytes == FILE_BYTES


@pytest.mark.parametrize("page_size_bytes", SMALL)
def test_with_small_pages_readahead_runs_ahead_of_the_scan(seed, page_size_bytes):
    metrics = toured(page_size_bytes, "mainline", seed).metrics

    assert metrics["vmstat.pgmajfault"] == 1
    assert metrics["device.reads"] == WINDOWS


def test_with_large_pages_each_fault_waits_for_a_read_of_its_own(seed):
    large = toured(64 * KIB, "mainline", seed)
    pages = FILE_BYTES // (64 * KIB)

    assert large.metrics["faults.count"] == pages
    assert large.metrics["vmstat.pgmajfault"] == large.metrics["device.reads"] == pages - 1
    for page_size_bytes in SMALL:
        small_ns = latency(toured(page_size_bytes, "mainline", seed), "section.scan").max_ns
        assert latency(large, "section.scan").max_ns > 2 * small_ns


def test_with_large_pages_even_rfc_takes_mmap_lock_once_readahead_is_given_up(seed):
    large = toured(64 * KIB, "rfc", seed).metrics

    # the first hundred misses go back to the VMA lock, the others read their page themselves
    assert 100 <= large["faults.vma_retries"] <= 101
    assert large["mmap_lock.read.acquired"] > 0.5 * large["faults.count"]
    assert all(toured(size, "rfc", seed).metrics["mmap_lock.read.acquired"] == 0 for size in SMALL)


@pytest.mark.parametrize("page_size_bytes", PAGE_SIZES)
def test_all_retries_of_mainline_take_mmap_lock_and_hold_has_none(seed, page_size_bytes):
    mainline, hold = (toured(page_size_bytes, name, seed).metrics for name in ("mainline", "hold"))

    retries = mainline["faults.attempts"] - mainline["faults.count"]
    assert mainline["mmap_lock.read.acquired"] == retries > 0.4 * mainline["faults.count"]
    assert hold["faults.attempts"] == hold["faults.count"]
    assert hold["mmap_lock.read.acquired"] == 0
