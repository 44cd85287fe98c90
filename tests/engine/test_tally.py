"""Histograms keep percentiles within one per cent, whatever the size of the values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultlane_server.codes import StopReason
from faultlane_server.engine.jit import entry_point
from faultlane_server.engine.names import Names
from faultlane_server.engine.report import bucket_low, bucket_middle, summarise
from faultlane_server.engine.tally import bucket_of, collect
from faultlane_server.engine.world import HISTOGRAM_BUCKETS, Histograms, empty_world
from faultlane_server.scenario.limits import HORIZON_NS_MAX
from faultlane_server.summary import Latency

pytestmark = pytest.mark.uncompiled_too

VALUE_MAX = (1 << 53) - 1  # the largest value that has a bucket of its own
ERROR_MAX = 0.01
PERCENTS = {"p50_ns": 50, "p90_ns": 90, "p99_ns": 99, "p999_ns": 99.9}
CHANCE = np.random.default_rng(1)
SAMPLES = {
    "exponential": CHANCE.exponential(80_000, 3_000),
    "log-normal, far apart": CHANCE.lognormal(12, 3, 3_000),
    "two heaps": np.append(CHANCE.normal(1_000, 50, 2_000), CHANCE.normal(10**9, 10**7, 500)),
    "small": CHANCE.integers(0, 200, 1_000),
    "as large as a horizon": CHANCE.uniform(0.5, 1, 999) * HORIZON_NS_MAX,
    "all alike": np.full(10, 123_456_789),
    "one": np.array([5_000_001]),
}


@entry_point
def collect_all(worlds, values):
    """Collect values in one call: to hand a whole record over takes milliseconds each time."""
    for value in values:
        collect(worlds[0], Histograms.FAULT, value, 1)


def latency_of(values: np.ndarray) -> Latency:
    """Collect values, and summarise them."""
    worlds = empty_world()
    collect_all(worlds, values)
    (latency,) = summarise(worlds[0], Names(), StopReason.FINISHED, 1).latencies
    return latency


@pytest.mark.parametrize("name", SAMPLES)
def test_percentiles_are_off_by_one_per_cent_at_most(name):
    values = SAMPLES[name].astype(np.int64)
    latency = latency_of(values)

    for field, percent in PERCENTS.items():
        low, high = (np.percentile(values, percent, method=m) for m in ("lower", "higher"))
        told = getattr(latency, field)
        assert low * (1 - ERROR_MAX) <= told <= high * (1 + ERROR_MAX), field


@pytest.mark.parametrize("name", SAMPLES)
def test_count_mean_and_extremes_are_exact(name):
    values = SAMPLES[name].astype(np.int64)
    latency = latency_of(values)

    assert latency.count == len(values)
    assert latency.mean_ns == values.sum() / len(values)
    assert (latency.min_ns, latency.max_ns) == (values.min(), values.max())


@pytest.mark.parametrize("name", SAMPLES)
def test_log2_counts_are_those_of_the_leading_bits(name):
    values = SAMPLES[name].astype(np.int64)
    powers = [max(int(value), 1).bit_length() - 1 for value in values]

    assert latency_of(values).log2_counts == tuple(np.bincount(powers))


@given(st.integers(0, VALUE_MAX))
def test_the_middle_of_a_bucket_is_off_by_less_than_one_per_cent_of_what_lies_in_it(value):
    assert abs(bucket_middle(bucket_of(value)) - value) < max(ERROR_MAX * value, 1)


@pytest.mark.parametrize("bucket", [0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 2000, 3070])
def test_a_bucket_begins_where_the_one_before_it_ends(bucket):
    assert bucket_of(bucket_low(bucket)) == bucket
    assert bucket_of(bucket_low(bucket + 1) - 1) == bucket


def test_every_length_of_time_of_a_run_has_a_bucket_of_its_own_size():
    assert bucket_of(HORIZON_NS_MAX) < HISTOGRAM_BUCKETS - 1
    assert bucket_of(VALUE_MAX) == HISTOGRAM_BUCKETS - 1


def test_what_is_larger_than_any_run_lands_in_the_last_bucket():
    assert bucket_of(1 << 62) == HISTOGRAM_BUCKETS - 1


def test_what_has_not_ended_is_censored_and_counted():
    worlds = empty_world()
    collect(worlds[0], Histograms.FAULT, 100, 1)
    collect(worlds[0], Histograms.FAULT, 900, 0)

    (latency,) = summarise(worlds[0], Names(), StopReason.HORIZON, 1).latencies

    assert (latency.count, latency.censored, latency.max_ns) == (2, 1, 900)
