"""Chance: hashes of integers, and laws in fixed point.

A draw is a word of 64 bits, made from a seed, a purpose, an entity and an ordinal and from
nothing else; so whatever else happens in a run, the n-th draw of an entity stays the same.
The laws take a word and give whole nanoseconds. There are no floats: the tables are made once
(`tables/make.py`) and committed, so that every machine draws the same.

A fraction is a 64-bit integer with 32 fractional bits, called `q32`.
"""

from enum import IntEnum
from pathlib import Path

import numpy as np

from faultlane_server.engine.jit import compiled

MEAN_NS_MAX = 10**12
MEDIANS_MAX_LOG2 = 20  # a log-normal draw is at most 2**20 medians
ZIPF_RANKS_MAX = 1 << 24


class Purpose(IntEnum):
    """What a word is drawn for: draws for two purposes have nothing to do with each other."""

    # which page a touch goes to: by thread, by ordinal of the touch
    TOUCH = 1
    # how long a compute or sleep step takes: by thread, by ordinal of the step
    DURATION = 2
    # how long a device works on a read: by device, file and page, by ordinal of the read
    IO = 3
    # how long it works on a write: by device, file and page, by ordinal of the write
    WRITE = 4
    # whether a read fails: by device, file and page, by ordinal of the read
    ERROR = 5
    # how long interrupts wait while all CPUs work: by how-many-th time that all do
    INTERRUPT = 6


class Law(IntEnum):
    """How a duration is drawn."""

    # always `a`
    FIXED = 1
    # exponential of mean `a`
    EXPONENTIAL = 2
    # log-normal of median `a`, with `b` as the sigma of its logarithm, in millionths
    LOG_NORMAL = 3
    # piecewise linear through `n_points` points from `first_point`
    QUANTILES = 4


DurationSpec = np.dtype(
    [
        ("law", np.int64),
        ("a", np.int64),  # ns, see `Law`
        ("b", np.int64),
        ("first_point", np.int64),  # in the pool of points
        ("n_points", np.int64),
    ],
    align=True,
)

QuantilePoint = np.dtype(
    [
        ("ppm", np.int64),  # which part of the draws is not larger, in millionths
        ("ns", np.int64),
    ],
    align=True,
)

_TABLES = Path(__file__).parent / "tables"
_LOG2 = np.load(_TABLES / "log2.npy")
_EXP2 = np.load(_TABLES / "exp2.npy")
_NORMAL = np.load(_TABLES / "normal.npy")
_STEP_BITS = 12  # of log2 and exp2
_NORMAL_STEP_BITS = 7
_NORMAL_OCTAVES = 40

_MILLION = 1_000_000
_MASK_Q32 = (1 << 32) - 1
_LN2_Q24 = 11629080

# The increment and the finaliser of splitmix64 (Steele, Lea, Flood 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

# numba makes floats of unsigned and signed integers together, so these are unsigned as well.
_U1, _U2, _U27, _U30, _U31, _U32 = (np.uint64(bits) for bits in (1, 2, 27, 30, 31, 32))
_LOW_HALF = np.uint64(0xFFFFFFFF)
_TOP_BIT = np.uint64(1 << 63)


def _wrapping(function):
    """Compile arithmetic modulo 2**64; uncompiled, numpy would warn of every overflow."""
    function = compiled(function)
    return function if hasattr(function, "py_func") else np.errstate(over="ignore")(function)


@_wrapping
def mix(bits):
    """Scatter the bits of a 64-bit word, one to one."""
    bits = (bits ^ (bits >> _U30)) * _FIRST
    bits = (bits ^ (bits >> _U27)) * _SECOND
    return bits ^ (bits >> _U31)


@_wrapping
def word(seed, purpose, entity, ordinal):
    """Draw the `ordinal`-th word of an entity for a purpose."""
    stream = mix(np.uint64(seed) + np.uint64(purpose) * _GOLDEN)
    stream = mix(stream + np.uint64(entity) * _GOLDEN)
    return mix(stream + np.uint64(ordinal) * _GOLDEN)


@compiled
def below(bits, n):
    """Turn a word into an integer from 0 to n - 1, with chances that differ by 2**-64 at most."""
    high, low = bits >> _U32, bits & _LOW_HALF
    n_high, n_low = np.uint64(n) >> _U32, np.uint64(n) & _LOW_HALF
    upper = high * n_low + ((low * n_low) >> _U32)
    lower = low * n_high + (upper & _LOW_HALF)
    return np.int64(high * n_high + (upper >> _U32) + (lower >> _U32))


@compiled
def duration(spec, pool, bits):
    """Turn a word into nanoseconds by the law of `spec`, whose points are in `pool.points`."""
    if spec.law == Law.FIXED:
        return np.int64(spec.a)
    if spec.law == Law.EXPONENTIAL:
        return exponential(bits, spec.a)
    if spec.law == Law.LOG_NORMAL:
        return log_normal(bits, spec.a, spec.b)
    assert spec.law == Law.QUANTILES, "a duration of no known law"
    return quantile(bits, pool, spec.first_point)


@compiled
def exponential(bits, mean):
    """Turn a word into an exponential draw: the mean, times minus the logarithm of a chance."""
    bits, octave = _normalised(bits | _U1)
    log2_q32 = ((octave + 1) << 32) - _log2_q32(bits)
    return _times_q32(mean, (log2_q32 * _LN2_Q24) >> 24)


@compiled
def log_normal(bits, median, sigma_ppm):
    """Turn a word into a log-normal draw, cut off at 2**20 medians."""
    exponent_q32 = (_normal_over_ln2_q32(bits) * sigma_ppm) // _MILLION
    whole = exponent_q32 >> 32
    factor_q32 = _exp2_q32(exponent_q32 & _MASK_Q32)
    if whole >= MEDIANS_MAX_LOG2:
        return np.int64(median) << MEDIANS_MAX_LOG2
    if whole >= 0:
        return _times_q32(median, factor_q32 << whole)
    return _halved(_times_q32(median << 8, factor_q32), 8 - whole)


@compiled
def quantile(bits, pool, first):
    """Turn a word into a draw by the quantiles from `first` on, with straight lines between."""
    part_q32 = below(bits, _MILLION << 32)
    right = first + 1
    while pool.points[right].ppm << 32 <= part_q32:
        right += 1
    low, high = pool.points[right - 1], pool.points[right]
    along_q32 = (part_q32 - (low.ppm << 32)) // (high.ppm - low.ppm)
    return low.ns + _times_q32(high.ns - low.ns, along_q32)


@compiled
def zipf_rank(cumulative, first, n, bits):
    """Turn a word into a rank from 0 to n - 1, by the weights `cumulative[first : first + n]`."""
    point = np.uint64(below(bits, cumulative[first + n - 1]))
    low, high = np.int64(0), np.int64(n - 1)
    while low < high:
        middle = (low + high) >> 1
        if cumulative[first + middle] > point:
            high = middle
        else:
            low = middle + 1
    return low


def zipf_table(n, theta_ppm):
    """Make the cumulative weights of a zipf law: rank k, from 0, weighs (k + 1) ** -theta.

    What weighs less than 2**-61 of them all may weigh nothing.
    """
    assert 1 <= n <= ZIPF_RANKS_MAX, "too many ranks for 64 bits"
    cumulative = np.zeros(n, np.uint64)
    total_bits = int(_add_up_zipf(cumulative, theta_ppm, 0)).bit_length()
    _add_up_zipf(cumulative, theta_ppm, 62 - total_bits)
    return cumulative


@compiled
def shuffled(rank, n, key):
    """Say where a rank from 0 to n - 1 goes in the permutation that `key` chooses.

    A Feistel network permutes the next power of four; it is walked until it comes below n.
    """
    key, half_bits = mix(np.uint64(key)), _U1
    while _U1 << (_U2 * half_bits) < np.uint64(n):
        half_bits += _U1
    place = _feistel(np.uint64(rank), half_bits, key)
    while place >= np.uint64(n):
        place = _feistel(place, half_bits, key)
    return np.int64(place)


@compiled
def _feistel(place, half_bits, key):
    mask = (_U1 << half_bits) - _U1
    left, right = place >> half_bits, place & mask
    for turn in range(4):
        scattered = mix(key ^ (right << _U2) ^ np.uint64(turn))
        left, right = right, left ^ (scattered >> (_U32 + _U1)) & mask
    return (left << half_bits) | right


@compiled
def _add_up_zipf(cumulative, theta_ppm, extra_bits):
    """Fill in the cumulative weights, in units of 2 ** -(32 + extra_bits), and return the last."""
    total = np.int64(0)
    for rank in range(len(cumulative)):
        bits, octave = _normalised(np.uint64(rank + 1))
        log2_q32 = ((63 - octave) << 32) + _log2_q32(bits)
        exponent_q32 = -((log2_q32 * theta_ppm) // _MILLION)
        total += _shifted(_exp2_q32(exponent_q32 & _MASK_Q32), (exponent_q32 >> 32) + extra_bits)
        cumulative[rank] = np.uint64(total)
    return total


@compiled
def _normalised(bits):
    """Shift a word that is not 0 until its top bit is set, and return it with how far it went."""
    octave = np.int64(0)
    while bits < _TOP_BIT:
        bits <<= _U1
        octave += 1
    return bits, octave


@compiled
def _log2_q32(bits):
    """Return log2(1 + x), x being the bits below the top one, read as a fraction."""
    step = np.int64((bits << _U1) >> np.uint64(64 - _STEP_BITS))
    along_q32 = np.int64((bits >> np.uint64(31 - _STEP_BITS)) & _LOW_HALF)
    return _between(_LOG2[step], _LOG2[step + 1], along_q32)


@compiled
def _exp2_q32(fraction_q32):
    step = fraction_q32 >> (32 - _STEP_BITS)
    along_q32 = (fraction_q32 << _STEP_BITS) & _MASK_Q32
    return _between(_EXP2[step], _EXP2[step + 1], along_q32)


@compiled
def _normal_over_ln2_q32(bits):
    """Turn a word into a standard normal draw, over ln 2: its lowest bit chooses the side."""
    sign = np.int64(1) - 2 * np.int64(bits & _U1)
    bits, octave = _normalised(bits | _U1)
    if octave >= _NORMAL_OCTAVES:
        return sign * _NORMAL[0]
    step = np.int64((bits << _U1) >> np.uint64(64 - _NORMAL_STEP_BITS))
    step += (_NORMAL_OCTAVES - 1 - octave) << _NORMAL_STEP_BITS
    along_q32 = np.int64((bits >> np.uint64(31 - _NORMAL_STEP_BITS)) & _LOW_HALF)
    return sign * _between(_NORMAL[step], _NORMAL[step + 1], along_q32)


@compiled
def _between(left, right, along_q32):
    return left + (((right - left) * along_q32) >> 32)


@compiled
def _times_q32(value, factor_q32):
    """Multiply and round, for a value below 2**48 and a product below 2**62."""
    whole, fraction = factor_q32 >> 32, factor_q32 & _MASK_Q32
    high, low = value >> 20, value & ((1 << 20) - 1)
    return value * whole + ((fraction * high + ((fraction * low + (1 << 31)) >> 20)) >> 12)


@compiled
def _halved(value, times):
    """Halve a value again and again, and round once."""
    return (value + (1 << (times - 1))) >> times


@compiled
def _shifted(value, bits):
    if bits >= 0:
        return value << bits
    return value >> min(-bits, 63)
