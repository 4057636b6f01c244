"""Calibrated quantile heads: closed forms, the guarantee by simulation, order, classes of gaps."""

import numpy as np
import pytest

from pipeline.spin.conformal import Calibration, growth
from pipeline.spin.intervals import LEVELS

ONE = dict(gap=np.full(999, 2.0), channel=np.zeros(999, int))


def test_growth_is_the_order_statistic_that_covers_what_is_promised():
    assert growth(np.arange(1.0, 100.0), 0.9) == 90  # ceil(100 * 0.9)
    assert growth(np.arange(1.0, 6.0), 0.9) == 5  # six times 0.9 is more than there are: the largest


def test_a_narrow_head_is_widened_and_a_wide_one_narrowed():
    truth = np.linspace(-2, 2, 999)
    narrow = np.tile([-1.0, -0.5, 0, 0.5, 1.0], (999, 1))
    table = Calibration.fit(truth, narrow, channels=1, **ONE).table[0, 0]
    assert table == pytest.approx([0.8, 0.5], abs=0.01)  # |y| <= 1.8 holds 90 %, |y| <= 1 a half
    assert Calibration.fit(truth, 3 * narrow, channels=1, **ONE).table[0, 0, 0] == pytest.approx(-1.2, abs=0.01)


def test_coverage_of_exchangeable_cells_is_as_promised():
    """Over many calibrations of 60 cells the mean coverage of new cells lies between 0.9 and 0.9 + 1/61."""
    rng = np.random.default_rng(0)
    guess = np.tile([-0.4, -0.1, 0, 0.1, 0.4], (400, 1))
    covered = []
    for _ in range(400):
        truth, new = rng.normal(size=60) ** 3, rng.normal(size=400) ** 3
        gap, channel = np.full(400, 2.0), np.zeros(400, int)
        fitted = Calibration.fit(truth, guess[:60], gap[:60], channel[:60], 1)
        found = fitted.apply(guess, gap, channel)
        covered.append(np.mean((new >= found[:, 0]) & (new <= found[:, 4])))
    assert 0.895 <= np.mean(covered) <= 0.9 + 1 / 61 + 0.005


def test_calibrated_quantiles_are_in_order_and_the_median_stays():
    rng = np.random.default_rng(1)
    guess = np.sort(rng.normal(size=(999, len(LEVELS))), 1)
    channel, gap = rng.integers(0, 2, 999), rng.choice([2.0, 8.0, 100.0], 999)
    found = Calibration.fit(0.1 * rng.normal(size=999), guess, gap, channel, 2).apply(guess, gap, channel)
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_array_equal(found[:, 2], guess[:, 2])


def test_long_gaps_have_wider_intervals_and_rare_ones_those_of_the_channel():
    rng = np.random.default_rng(2)
    gap = np.repeat([2.0, 20.0, 200.0], [450, 450, 99])
    truth = rng.normal(size=999) * np.where(gap > 10, 5, 1)
    table = Calibration.fit(truth, np.zeros((999, 5)), gap, np.zeros(999, int), 1).table[0, :, 0]
    assert table[5] > 3 * table[0]  # 17 to 33 rows against 2
    assert table[6] == table[3]  # 99 cells and none: both from all cells of the channel
