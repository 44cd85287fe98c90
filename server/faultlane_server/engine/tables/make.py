"""Makes the tables of the draws from decimal arithmetic, without libm: `python -m ...tables.make`.

All entries are fixed point with 32 fractional bits, rounded to nearest. Arguments that go
over several powers of two are spaced like floating-point numbers: a power of two, and equal
steps up to the next.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
DIGITS = 60
ONE = 1 << 32

LOG2_STEPS = 4096
EXP2_STEPS = 4096
NORMAL_STEPS = 128
NORMAL_OCTAVES = 40

# Machin's formula: pi / 4 = 4 * arctan(1 / 5) - arctan(1 / 239).
_MACHIN = ((16, 5), (-4, 239))


def log2() -> NDArray[np.int64]:
    """log2(1 + i / LOG2_STEPS), for i from 0 to LOG2_STEPS."""
    ln2 = Decimal(2).ln()
    return _fixed([(1 + Decimal(i) / LOG2_STEPS).ln() / ln2 for i in range(LOG2_STEPS + 1)])


def exp2() -> NDArray[np.int64]:
    """2 ** (i / EXP2_STEPS), for i from 0 to EXP2_STEPS."""
    ln2 = Decimal(2).ln()
    return _fixed([(ln2 * i / EXP2_STEPS).exp() for i in range(EXP2_STEPS + 1)])


def normal() -> NDArray[np.int64]:
    """The z that a standard normal passes with chance p, over ln 2, for p up to 1 / 2.

    p is spaced over octaves: 2 ** -(1 + NORMAL_OCTAVES) * 2 ** octave * (1 + i / NORMAL_STEPS).
    The division by ln 2 makes it an exponent of two.
    """
    chances = [
        Decimal(NORMAL_STEPS + i) / NORMAL_STEPS / 2 ** (1 + NORMAL_OCTAVES - octave)
        for octave in range(NORMAL_OCTAVES)
        for i in range(NORMAL_STEPS)
    ]
    ln2, pi = Decimal(2).ln(), _pi()
    z, quantiles = Decimal(0), [Decimal(0)]
    for chance in reversed(chances):
        z = _normal_quantile(chance, z, pi)
        quantiles.append(z / ln2)
    return _fixed(quantiles[::-1])


TABLES: dict[str, Callable[[], NDArray[np.int64]]] = {"log2": log2, "exp2": exp2, "normal": normal}


def make(name: str) -> NDArray[np.int64]:
    """Make the table of that name."""
    with localcontext() as context:
        context.prec = DIGITS
        return TABLES[name]()


def path(name: str) -> Path:
    """Say where the table of that name is kept."""
    return FOLDER / f"{name}.npy"


def _fixed(values: list[Decimal]) -> NDArray[np.int64]:
    return np.array([int((value * ONE).to_integral_value()) for value in values], dtype=np.int64)


def _normal_quantile(chance: Decimal, near: Decimal, pi: Decimal) -> Decimal:
    """Solve P(Z > z) = chance by Newton's method, from a z that is near."""
    z = near
    while True:
        density = (-z * z / 2).exp() / (2 * pi).sqrt()
        step = (Decimal("0.5") - density * _half_mass(z) - chance) / density
        z += step
        if abs(step) < Decimal("1e-20"):
            return z


def _half_mass(z: Decimal) -> Decimal:
    """P(0 < Z < z) over the density at z: z + z^3 / 3 + z^5 / (3 * 5) + ..."""
    term, total, odd = z, Decimal(0), 1
    while total + term != total:
        total += term
        odd += 2
        term *= z * z / odd
    return total


def _pi() -> Decimal:
    return sum((times * _arctan_of_one_over(x) for times, x in _MACHIN), Decimal(0))


def _arctan_of_one_over(x: int) -> Decimal:
    power, total, odd = 1 / Decimal(x), Decimal(0), 1
    while total + power != total:
        total += power / odd
        power /= -x * x
        odd += 2
    return total


if __name__ == "__main__":
    for table in TABLES:
        np.save(path(table), make(table))
