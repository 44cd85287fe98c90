"""Draws are good chance, follow their laws, and are the same everywhere.

The laws turn a word into a time monotonically, so they are compared with theory word by word
and not by sampling: the word that stands for the chance p must give the quantile of p.
"""

from itertools import pairwise
from math import exp, log
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from faultlane_server.engine import draw
from faultlane_server.engine.draw import Law, Purpose
from faultlane_server.engine.tables import make

pytestmark = pytest.mark.uncompiled_too

WORDS = 1 << 64
MEAN_NS = 10**12
RECORDED = 581025200901482816
CHANCES = [1e-9, 1e-6, 1e-4, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 1e-9]

words = st.integers(0, WORDS - 1)


def a_word(ordinal=0, *, seed=1, purpose=Purpose.IO, entity=1):
    return np.uint64(draw.word(seed, purpose, entity, ordinal))


def word_of(part):
    """Return the word that lies at `part` of all words."""
    return np.uint64(int(part * WORDS))


def words_at_equal_steps(n):
    return [np.uint64((2 * i + 1) * WORDS // (2 * n)) for i in range(n)]


def a_pool(points):
    pool = np.zeros(1, np.dtype([("points", draw.QuantilePoint, 64)])).view(np.recarray)[0]
    pool.points[: len(points)] = points
    return pool


def a_spec(law, a=0, b=0, first_point=0, n_points=0):
    return np.array([(law, a, b, first_point, n_points)], draw.DurationSpec).view(np.recarray)[0]


@pytest.mark.parametrize("name", make.TABLES)
def test_the_committed_tables_are_those_that_decimal_arithmetic_makes(name):
    committed = np.load(make.path(name))

    assert committed.dtype == np.int64
    assert np.array_equal(committed, make.make(name))


def test_the_table_of_the_normal_agrees_with_another_implementation():
    chances = [2.0**-41, 2.0**-30, 2.0**-10, 0.25]
    at = [0, 11 * 128, 31 * 128, 39 * 128]

    z = np.load(make.path("normal"))[at] / 2**32 * log(2)

    assert z == pytest.approx(stats.norm.isf(chances), rel=1e-9)


def test_draws_are_those_that_were_recorded():
    """Compiled and not, on every machine: the tests of this file run both ways."""
    pool = a_pool([(0, 5), (500_000, 10**6), (1_000_000, 10**12)])
    specs = [
        a_spec(Law.FIXED, 5),
        a_spec(Law.EXPONENTIAL, 10**12),
        a_spec(Law.LOG_NORMAL, 10**12, 4_000_000),
        a_spec(Law.QUANTILES, first_point=0, n_points=3),
    ]
    zipf = draw.zipf_table(1000, 990_000)
    seen = 0
    for ordinal in range(1000):
        bits = a_word(ordinal)
        drawn = [draw.duration(spec, pool, bits) for spec in specs]
        drawn += [draw.zipf_rank(zipf, 0, 1000, bits), draw.shuffled(ordinal, 1000, a_word(7))]
        for value in drawn:
            seen = (seen * 31 + int(value)) % (1 << 61)

    assert seen == RECORDED


@pytest.mark.parametrize("changed", ["seed", "purpose", "entity", "ordinal"])
def test_one_bit_of_what_a_word_is_made_from_flips_half_of_its_bits(changed):
    """The net: each bit of 64 is flipped by each bit in 256 tries, a deviation is 1 / 32."""
    tries, bits_in = 256, 32
    flipped = np.zeros((bits_in, 64))
    for i in range(tries):
        given = {"seed": 3 * i, "purpose": 2, "entity": 5 * i, "ordinal": 7 * i}
        before = np.uint64(draw.word(**given))
        for bit in range(bits_in):
            after = np.uint64(draw.word(**(given | {changed: given[changed] ^ (1 << bit)})))
            flipped[bit] += np.unpackbits((before ^ after).reshape(1).view(np.uint8))

    assert np.abs(flipped / tries - 0.5).max() < 6 / 32


def uniformity(cells, n_cells):
    """Return the chance of cells at least this uneven, by the chi-square test."""
    return stats.chisquare(np.bincount(cells, minlength=n_cells)).pvalue


@pytest.mark.parametrize("neighbours", ["ordinal", "entity", "seed"])
def test_words_of_neighbours_are_uniform_and_independent(neighbours):
    made = [draw.word(**({"seed": 1, "purpose": 1, "entity": 1, "ordinal": 1} | {neighbours: i}))
            for i in range(20_000)]  # fmt: skip
    drawn = np.array(made, np.uint64)
    top, bottom = (drawn >> np.uint64(60)).astype(int), (drawn & np.uint64(15)).astype(int)

    for cells in (top, bottom):
        assert 1e-4 < uniformity(cells, 16) < 1 - 1e-4
        assert 1e-4 < uniformity(cells[:-1] * 16 + cells[1:], 256) < 1 - 1e-4


def test_the_net_for_uniformity_catches_a_cell_that_is_a_fifth_too_full():
    cells = np.repeat(np.arange(16), [1500] + [1233] * 15)

    assert uniformity(cells, 16) < 1e-4
    assert uniformity(np.arange(20_000) % 16, 16) > 1 - 1e-4, "too even is caught as well"


@given(words, st.integers(1, 1 << 40))
def test_below_is_the_high_half_of_the_product(word, n):
    assert draw.below(np.uint64(word), n) == word * n >> 64


@pytest.mark.parametrize("chance", CHANCES)
def test_exponential_draws_are_the_quantiles_of_the_law(chance):
    theory_ns = -MEAN_NS * np.log1p(-chance)

    drawn = draw.exponential(word_of(1 - chance), MEAN_NS)

    assert drawn == pytest.approx(theory_ns, rel=1e-4, abs=MEAN_NS * 2**-31)


@pytest.mark.parametrize("mean", [100, 100_000, 10**12])
def test_exponential_draws_have_their_mean(mean):
    drawn = [int(draw.exponential(bits, mean)) for bits in words_at_equal_steps(20_000)]

    # the steps miss half a step of the tail, which is 1 / 40000 of the words
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("sigma_ppm", [0, 1, 300_000, 1_000_000, 4_000_000])
@pytest.mark.parametrize("chance", [c for c in CHANCES if c <= 0.5])
@pytest.mark.parametrize("side", [-1, 1])
def test_log_normal_draws_are_the_quantiles_of_the_law(sigma_ppm, chance, side):
    median_ns = 10**12
    z = side * NormalDist().inv_cdf(1 - chance)
    theory_ns = min(median_ns * exp(z * sigma_ppm / 1e6), median_ns * 2**20)
    # the lowest bit chooses the side, and the others how far out
    bits = word_of(2 * chance if chance < 0.5 else 1 - 2**-50)
    bits = bits & ~np.uint64(1) if side > 0 else bits | np.uint64(1)

    drawn = draw.log_normal(bits, median_ns, sigma_ppm)

    assert drawn == pytest.approx(theory_ns, rel=1e-4, abs=0.51)


def test_log_normal_draws_have_the_mean_of_the_law():
    median_ns, sigma = 80_000, 0.5
    drawn = [
        int(draw.log_normal(bits ^ np.uint64(side), median_ns, 500_000))
        for bits in words_at_equal_steps(10_000)
        for side in (0, 1)
    ]

    assert np.mean(drawn) == pytest.approx(median_ns * exp(sigma**2 / 2), rel=1e-4)


@given(words, st.integers(1, 10**12), st.integers(0, 4_000_000))
def test_no_draw_is_out_of_range(word, scale_ns, sigma_ppm):
    assert 0 <= draw.exponential(np.uint64(word), scale_ns) <= 45 * scale_ns
    assert 0 <= draw.log_normal(np.uint64(word), scale_ns, sigma_ppm) <= scale_ns << 20


@given(
    words,
    st.lists(st.integers(0, 10**12), min_size=2, max_size=8).map(sorted),
    st.data(),
)
def test_quantile_draws_lie_on_the_lines_between_the_points(word, ns, data):
    inner = data.draw(
        st.lists(
            st.integers(1, 999_999), min_size=len(ns) - 2, max_size=len(ns) - 2, unique=True
        ).map(sorted)
    )
    ppm = [0, *inner, 1_000_000]

    drawn = draw.quantile(np.uint64(word), a_pool([(0, 0), *zip(ppm, ns, strict=True)]), 1)

    theory = np.interp(word / WORDS * 1e6, ppm, ns)
    steepest = max(b - a for a, b in pairwise(ns))
    assert drawn == pytest.approx(theory, rel=1e-9, abs=1 + steepest * 1e-8)


@given(st.integers(1, 10**12), words)
def test_a_duration_is_drawn_by_its_law(a, word):
    bits, pool = np.uint64(word), a_pool([(0, 7), (1_000_000, 7)])

    assert draw.duration(a_spec(Law.FIXED, a), pool, bits) == a
    assert draw.duration(a_spec(Law.EXPONENTIAL, a), pool, bits) == draw.exponential(bits, a)
    assert draw.duration(a_spec(Law.LOG_NORMAL, a, 5), pool, bits) == draw.log_normal(bits, a, 5)
    assert draw.duration(a_spec(Law.QUANTILES, n_points=2), pool, bits) == 7


@pytest.mark.parametrize("n", [1, 2, 1000, 5000])
@pytest.mark.parametrize("theta", [0.000001, 0.5, 0.99, 1.0, 1.2, 2.0, 10.0])
def test_zipf_weights_are_powers_of_the_ranks(n, theta):
    weights = np.diff(draw.zipf_table(n, int(theta * 1e6)), prepend=np.uint64(0)).astype(float)

    theory = np.arange(1, n + 1) ** -theta
    assert weights / weights.sum() == pytest.approx(theory / theory.sum(), rel=1e-6, abs=2**-60)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(0, 5), words)
def test_a_zipf_rank_is_the_first_one_whose_weights_pass_the_point(weights, first, word):
    weights[0] += 1
    cumulative = np.cumsum([0] * first + weights).astype(np.uint64)
    point = word * sum(weights) >> 64

    rank = draw.zipf_rank(cumulative, first, len(weights), np.uint64(word))

    assert sum(weights[:rank]) <= point < sum(weights[: rank + 1])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 64, 100, 1000])
def test_shuffling_is_a_permutation(n):
    assert sorted(draw.shuffled(rank, n, a_word(n)) for rank in range(n)) == list(range(n))


def test_shuffling_puts_a_rank_anywhere():
    """Where rank 0 goes under 4000 keys: chi-square over 20 places."""
    places = [int(draw.shuffled(0, 20, key)) for key in range(4000)]

    assert 1e-4 < uniformity(places, 20) < 1 - 1e-4
