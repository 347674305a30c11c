"""Quality levels, and integer tables that depend on them. No PyTorch.

    level 0..4000 ─► interpolate_integers(table at 9 knots) ─► integers ─► [powers_of_two ─► multipliers]

A level is an integer (container/quality.py maps qualities to it). What depends on it is stored at KNOTS
equidistant levels and interpolated linearly between them. What multiplies is stored as a logarithm.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

MAX_LEVEL = 4000
KNOTS = 9
LEVELS_PER_KNOT = MAX_LEVEL // (KNOTS - 1)

OCTAVE = 1 << 16  # units of a logarithm to the base 2
POWER_BITS = 24  # of a mantissa: 2^24 stands for 1
_STEPS = 256  # tabulated powers an octave

Integers = NDArray[np.integer]
Longs = NDArray[np.int64]


def interpolate_integers(table: Integers, level: int) -> Longs:
    """Linear interpolation of an integer knot table (KNOTS, ...) at an integer level, rounding halves up."""
    knot, rest = divmod(level, LEVELS_PER_KNOT)
    low: Longs = table[knot].astype(np.int64)
    if rest == 0:
        return low
    high = table[knot + 1].astype(np.int64)
    between: Longs = (low * (LEVELS_PER_KNOT - rest) + high * rest + LEVELS_PER_KNOT // 2) // LEVELS_PER_KNOT
    return between


def powers_of_two(logarithms: Integers) -> tuple[Longs, Longs]:
    """(mantissa, exponent) of 2^(logarithms / OCTAVE): mantissa * 2^(exponent - POWER_BITS).

    The mantissa is in 2^24..2^25: the table's entry at the 256th of an octave below, and 1/256 of the way to
    the next for each further unit, halves rounded up.
    """
    exponent = logarithms >> 16
    fraction = logarithms & (OCTAVE - 1)
    table, place, rest = power_table(), fraction >> 8, fraction & 255
    mantissa = (table[place] * (256 - rest) + table[place + 1] * rest + 128) >> 8
    return mantissa.astype(np.int64), exponent.astype(np.int64)


@cache
def power_table() -> Longs:
    """(257,) round(2^(24 + i / 256)): computed in exact arithmetic, the same everywhere."""
    # 2^(i/256) by repeated square roots of integers with 200 spare bits.
    spare = 200
    root = 2 << spare
    for _ in range(8):
        root = isqrt(root << spare)
    powers, value = [], Fraction(1 << spare)
    for _ in range(_STEPS + 1):
        powers.append(int(value * (1 << POWER_BITS) / (1 << spare) + Fraction(1, 2)))
        value = Fraction(int(value) * root >> spare)
    return np.array(powers, np.int64)
