"""The bargain between error and bits that an encoder strikes for each value."""

from __future__ import annotations

import numpy as np

from latentcodec.codec.values.context_coding import best_values, bits_of

# One row: 1 bit for its centre, then 3 more for each step away; reach 2.
COSTS = np.array([[7.0, 4.0, 1.0, 4.0, 7.0]])
LIMIT = 100


def chosen(target: float, centre: int, rate_weight: float, sign: int = 1) -> int:
    """What is made of one latent."""
    values = best_values(
        np.array([[target]]),
        np.array([[centre]]),
        np.array([[sign]]),
        np.array([[0]]),
        COSTS,
        LIMIT,
        rate_weight,
    )
    return int(values[0, 0])


def test_a_step_towards_the_centre_is_taken_where_it_pays() -> None:
    # 3 bits are worth 0.3: the step from 1 to 0 costs 0.36 - 0.16 = 0.2 more error at 0.6, and 0.6 at 0.8.
    assert [chosen(target, 0, 0.1) for target in (0.6, 0.8, -0.6, -0.8)] == [0, 1, 0, -1]
    assert [chosen(5 + target, 5, 0.1, sign) for target in (0.6, 0.8) for sign in (1, -1)] == [5, 5, 6, 6]


def test_never_more_than_one_step_and_never_past_the_centre() -> None:
    assert chosen(2.4, 0, 1e6) == 1
    assert chosen(0.4, 0, 1e6) == 0


def test_without_a_rate_the_nearest_within_the_limit() -> None:
    assert [chosen(target, 0, 0.0) for target in (0.6, 1.4, 99.7, 1e6, -1e6)] == [1, 1, 100, 100, -100]


def test_what_no_row_holds_costs_as_its_border_does() -> None:
    bits = bits_of(
        np.array([[-9, 1, 9]]), np.zeros((1, 3), int), np.ones((1, 3), int), np.zeros((1, 3), int), COSTS
    )
    assert bits.tolist() == [[7.0, 4.0, 7.0]]
