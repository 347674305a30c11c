"""Knots and powers of two: what interpolation in integers is, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcodec.nn.knots import (
    KNOTS,
    LEVELS_PER_KNOT,
    MAX_LEVEL,
    OCTAVE,
    POWER_BITS,
    interpolate_integers,
    power_table,
    powers_of_two,
)


def test_knots_are_equidistant_and_reach_both_ends() -> None:
    assert LEVELS_PER_KNOT * (KNOTS - 1) == MAX_LEVEL


def test_integer_interpolation() -> None:
    table = np.array([[k * 1000 - 4000, -7 * k] for k in range(KNOTS)], np.int32)
    assert interpolate_integers(table, 0).tolist() == [-4000, 0]
    assert interpolate_integers(table, MAX_LEVEL).tolist() == [4000, -56]
    for level in range(0, MAX_LEVEL + 1, 9):
        first, second = interpolate_integers(table, level).tolist()
        assert first == -4000 + 2 * level
        assert second == (-7 * level + 250) // 500


@given(
    st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=KNOTS, max_size=KNOTS),
    st.integers(0, MAX_LEVEL),
)
def test_interpolation_is_the_line_with_halves_up(values: list[int], level: int) -> None:
    (found,) = interpolate_integers(np.array(values, np.int32)[:, None], level).tolist()
    knot, rest = divmod(level, LEVELS_PER_KNOT)
    after = values[min(knot + 1, KNOTS - 1)]
    line = values[knot] + Fraction(rest, LEVELS_PER_KNOT) * (after - values[knot])
    assert found == (line + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_narrow_types_do_not_wrap(dtype: type) -> None:
    ends = np.iinfo(dtype).min if dtype is not np.int64 else -(1 << 40), np.iinfo(np.int8).max
    table = np.array([[ends[k % 2]] for k in range(KNOTS)], dtype)
    for level in (0, 250, 499, 500, 3999):
        found = interpolate_integers(table, level)
        assert found.dtype == np.int64
        assert ends[0] <= int(found[0]) <= ends[1]
    assert int(interpolate_integers(table, 250)[0]) == (ends[0] + ends[1] + 1) // 2


def test_the_table_holds_the_nearest_integers() -> None:
    """t is the integer nearest to 2^(24 + i/256): (2 t - 1)^256 <= 2^(256 (24 + 1) + i) < (2 t + 1)^256."""
    table = power_table().tolist()
    assert len(table) == 257
    assert (table[0], table[-1]) == (1 << POWER_BITS, 2 << POWER_BITS)
    for i, entry in enumerate(table):
        power = 1 << 256 * (POWER_BITS + 1) + i
        assert (2 * entry - 1) ** 256 <= power < (2 * entry + 1) ** 256, i


def test_between_entries_lies_a_line() -> None:
    table = power_table().tolist()
    for u in (*range(0, OCTAVE, 97), 255, 256, 257, OCTAVE - 1):
        place, rest = divmod(u, 256)
        line = table[place] + Fraction(rest, 256) * (table[place + 1] - table[place])
        mantissa, exponent = powers_of_two(np.array([u]))
        assert (int(mantissa[0]), int(exponent[0])) == ((line + Fraction(1, 2)).__floor__(), 0)


@pytest.mark.parametrize("u", [1, 128, 12345, 32768, 40000, 65408, 65535])
def test_powers_are_close_to_the_true_ones(u: int) -> None:
    """A chord lies at most 2^25 (ln 2 / 256)^2 / 8 = 30.8 above the curve; both roundings are of a half."""
    (mantissa,), _ = (part.tolist() for part in powers_of_two(np.array([u])))
    true = 1 << OCTAVE * POWER_BITS + u  # 2^(24 + u / 65536), to the power of 65536
    assert (mantissa - 32) ** OCTAVE < true < (mantissa + 1) ** OCTAVE


def test_powers_rise_without_jumps_across_octaves() -> None:
    logarithms = np.arange(-3 * OCTAVE - 5, 3 * OCTAVE + 5)
    mantissa, exponent = powers_of_two(logarithms)
    assert mantissa.dtype == exponent.dtype == np.int64
    assert mantissa.min() == 1 << POWER_BITS
    assert mantissa.max() < 2 << POWER_BITS
    values = mantissa * (1 << exponent + 4)  # exact, in 2^-(24 + 4)
    assert (np.diff(values) > 0).all()
    assert (np.diff(values) * (1 << 16) <= values[1:] + (1 << 16)).all()  # ln 2 / 65536 of it, at most
    assert np.array_equal(np.unique(exponent), np.arange(-4, 4))


def test_an_octave_more_is_an_exponent_more() -> None:
    logarithms = np.array([[0, 1, 65535], [-1, 7777, -40000]])
    mantissa, exponent = powers_of_two(logarithms)
    assert mantissa.shape == exponent.shape == logarithms.shape
    for octaves in (-30, -1, 1, 20):
        more, higher = powers_of_two(logarithms + octaves * OCTAVE)
        assert np.array_equal(more, mantissa)
        assert np.array_equal(higher, exponent + octaves)


def test_powers_of_narrow_types() -> None:
    logarithms = np.array([-70000, 5, 1 << 20])
    for found, expected in zip(
        powers_of_two(logarithms.astype(np.int32)), powers_of_two(logarithms), strict=True
    ):
        assert np.array_equal(found, expected)
