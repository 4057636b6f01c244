"""Scores against values worked out by hand."""

import numpy as np
import pytest

from pipeline.core import metrics

FORECAST = np.array([1.0, 2.0, 5.0, 0.0])
TRUTH = np.array([2.0, 2.0, 1.0, 0.0])


def test_errors_by_hand():
    assert metrics.mse(FORECAST, TRUTH) == pytest.approx((1 + 0 + 16 + 0) / 4)
    assert metrics.mae(FORECAST, TRUTH) == pytest.approx((1 + 0 + 4 + 0) / 4)
    assert metrics.rmse(FORECAST, TRUTH) == pytest.approx(17**0.5 / 2)


def test_percentages_by_hand():
    assert metrics.mape(FORECAST, TRUTH) == pytest.approx(100 * (0.5 + 0 + 4) / 3)  # the zero truth is left out
    assert metrics.smape(FORECAST, TRUTH) == pytest.approx(200 * (1 / 3 + 0 + 4 / 6 + 0) / 4)
    assert metrics.wape(FORECAST, TRUTH) == pytest.approx(100 * 5 / 5)


def test_rmse_is_pooled_not_a_mean_of_roots():
    forecast, truth = np.array([[1.0], [3.0]]), np.zeros((2, 1))
    assert metrics.rmse(forecast, truth) == pytest.approx(5**0.5)


def test_coverage_counts_the_bounds_in():
    assert metrics.coverage(np.zeros(4), np.full(4, 2.0), np.array([0.0, 2.0, 2.1, -0.1])) == 0.5
