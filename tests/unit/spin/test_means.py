"""Means of what other sensors show."""

import numpy as np

from pipeline.spin.graph import distances
from pipeline.spin.means import inverse_squares, weighted_mean


def test_weights_fall_with_the_square_of_kilometres_not_degrees():
    place = np.array([[60.0, 10.0], [60.0, 11.0], [61.0, 10.0]])  # a degree of longitude is half as long there
    weight = inverse_squares(distances(place, "latlon"))
    assert np.isclose(weight[1, 0] / weight[2, 0], 4, rtol=0.01)


def test_only_what_is_shown_counts_and_the_rest_stands_where_nothing_is():
    value = np.array([[[1.0], [4.0], [np.nan]], [[7.0], [8.0], [9.0]]])  # [T, N, C]
    shown = np.array([[[True], [True], [False]], [[False], [False], [False]]])
    weight = np.array([[1.0, 0.0], [2.0, 1.0], [5.0, 5.0]])  # [N, K]
    found = weighted_mean(value, shown, weight, np.full((2, 2, 1), -1.0))
    assert found[..., 0].tolist() == [[3.0, 4.0], [-1.0, -1.0]]
